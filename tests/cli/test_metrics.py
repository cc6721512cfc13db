"""``mysqllock metrics`` as Prometheus reads it."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from celery import Celery
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celery_mysqllock import MySQLLock
from celery_mysqllock.cli.collector import IdleFilter
from celery_mysqllock.cli.overview import Overview
from celery_mysqllock.jobs import NewJob, QueueStatus, ServerHealth
from celery_mysqllock.metrics import fleet_collector
from tests.cli.fleet import fleet
from tests.cli.serving import serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from celery_mysqllock.jobs import JobTable
    from celery_mysqllock.mysql import Session
    from devserver import DevServer

    Command = Callable[..., subprocess.CompletedProcess[str]]
    Samples = dict[tuple[str, str, str], float]


@pytest.fixture
def url(telling_url: str) -> str:
    """A database on a server that lists its locks."""
    return telling_url


def samples(text: str) -> Samples:
    """Values by name, queue, and the other label."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            others = [value for name, value in sample.labels.items() if name != "queue"]
            key = (sample.name, sample.labels.get("queue", ""), "".join(others))
            assert key not in found
            found[key] = sample.value
    return found


def test_all_is_printed_once(session: Session, mysqllock: Command) -> None:
    with fleet(session), MySQLLock("nightly", url=session.address.url()):
        found = eventually(
            lambda: (
                seen
                if (seen := samples(mysqllock("metrics", "--once").stdout)).get(
                    ("mysqllock_locks_held", "", "")
                )
                else None
            )
        )
    assert found is not None
    assert found["mysqllock_up", "", ""] == 1
    counts = {"ready": 2, "scheduled": 1, "waiting": 0, "running": 1, "dead": 1, "done": 0}
    for status, number in counts.items():
        assert found["mysqllock_queue_jobs", "emails", status] == number
    assert found["mysqllock_queue_jobs_ended_total", "emails", ""] == 1
    assert found["mysqllock_queue_jobs_ended_per_second", "emails", ""] > 0
    assert 0 < found["mysqllock_queue_oldest_ready_seconds", "emails", ""] < 600
    assert found["mysqllock_queue_paused", "slow", ""] == 1
    assert found["mysqllock_queue_paused", "emails", ""] == 0
    assert found["mysqllock_consumers", "", "alive"] == 1
    assert found["mysqllock_locks_held", "", ""] == 1
    assert found["mysqllock_locks_waited_for", "", ""] == 0
    assert found["mysqllock_server_history_list_length", "", ""] >= 0


def test_a_queue_may_have_any_name(mysqllock: Command, jobs: JobTable) -> None:
    name = 'a "quoted"\\name\nof two lines: é'
    jobs.publisher.put(NewJob(name, "x"))
    found = samples(mysqllock("metrics", "--once").stdout)
    assert found["mysqllock_queue_jobs", name, "ready"] == 1


def test_the_counter_only_grows(mysqllock: Command, jobs: JobTable) -> None:
    me = "b" * 32

    def ended() -> float:
        found = samples(mysqllock("metrics", "--once").stdout)
        return found["mysqllock_queue_jobs_ended_total", "q", ""]

    jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.ack([job.id for job in jobs.claims.claim("q", 1, me)], me)
    assert ended() == 1
    jobs.maintenance.sum_up_throughput()
    assert ended() == 1


def test_queues_that_nobody_uses_leave_the_metrics(
    mysqllock: Command, jobs: JobTable, session: Session
) -> None:
    declared = "INSERT INTO jobs_bindings (exchange, routing_key, queue) VALUES ('', %s, %s)"
    for number in range(50):
        session.execute(declared, (f"tenant {number}", f"tenant {number}"))
    with fleet(session):
        every = samples(mysqllock("metrics", "--once").stdout)
        used = samples(mysqllock("metrics", "--once", "--idle-after", "0").stdout)
    assert every["mysqllock_queue_jobs", "tenant 7", "ready"] == 0
    # one is served, the other is paused
    assert {queue for _, queue, _ in used if queue} == {"emails", "slow"}


def test_a_queue_is_idle_when_it_was_seen_so_for_a_while() -> None:
    now = 0.0
    idle = IdleFilter(100, clock=lambda: now)

    def seen(**state: Any) -> bool:
        counts = dict.fromkeys(("ready", "scheduled", "waiting", "running", "dead", "done"), 0)
        queue = QueueStatus(
            "q", **{**counts, "oldest_age": None, "rate": 0, "ended": 3, "paused_at": None, **state}
        )
        overview = Overview(
            *(datetime.now(UTC), "", [queue], [], [], [], None),
            *(ServerHealth("", None, None, knows_transactions=True), None, 0.0),
        )
        return bool(idle.apply(overview).queues)

    assert seen()
    now = 99.0
    assert seen()
    now = 100.0
    assert not seen()
    # a job came and went between two looks
    assert seen(ended=4)
    now = 199.0
    assert seen(ended=4)
    now = 200.0
    assert not seen(ended=4)
    for state in ({"dead": 1}, {"paused_at": datetime.now(UTC)}):
        assert seen(**state)


def test_a_server_that_is_down_is_a_metric_and_an_exit_code(mysqllock: Command) -> None:
    done = mysqllock("--url", "mysql://jane:secret@127.0.0.1:1/shop", "metrics", "--once")
    assert done.returncode == 1
    assert samples(done.stdout) == {("mysqllock_up", "", ""): 0}
    assert "cannot be reached" in done.stderr
    assert "secret" not in done.stderr


def test_it_is_scraped_over_http(session: Session) -> None:
    with fleet(session), serving(session.address.url(), "metrics") as site:
        with urlopen(f"{site.url}metrics") as answer:  # noqa: S310 - our own server
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            found = samples(answer.read().decode())
        assert found["mysqllock_queue_jobs", "emails", "ready"] == 2
        with urlopen(Request(f"{site.url}metrics", method="HEAD")) as answer:  # noqa: S310 - our own
            assert (answer.status, answer.read()) == (200, b"")
        with pytest.raises(HTTPError, match="404"):
            urlopen(site.url)  # noqa: S310 - our own server
        assert site.ended() == 0


def test_it_is_asked_by_names_of_this_machine_alone(session: Session) -> None:
    def status(port: int, host: str) -> int:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/metrics", headers={"Host": host})
        found = connection.getresponse().status
        connection.close()
        return found

    words = ("metrics", "--allow-host", "Ops.example")
    with fleet(session), serving(session.address.url(), *words) as site:
        for host in ("localhost", "127.0.0.1:9140", "[::1]", "LOCALHOST", "ops.example:80"):
            assert status(site.port, host) == 200
        for host in ("evil.example", "ops.example.evil"):
            assert status(site.port, host) == 421
        for host in ("[", "a b"):
            assert status(site.port, host) == 400


def test_who_hangs_up_is_no_traceback_and_200_at_once_are_answered(session: Session) -> None:
    def hang_up(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 30) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            # reset at once: what is sent from now on is an error
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def scrape(_: int) -> int:
        with urlopen(f"{site.url}metrics", timeout=60) as answer:  # noqa: S310 - our own server
            return int(answer.status)

    with fleet(session), serving(session.address.url(), "metrics", keeps_errors=True) as site:
        for _ in range(20):
            hang_up(site.port)
        with ThreadPoolExecutor(200) as scrapers:
            assert list(scrapers.map(scrape, range(200))) == [200] * 200
        assert site.ended() == 0
        assert site.errors() == ""


def test_it_can_be_a_part_of_an_exporter_of_ones_own(session: Session) -> None:
    app = Celery("shop", broker=session.address.url(), set_as_current=False)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(fleet_collector(app, idle_after=60))
    with fleet(session):
        found = samples(generate_latest(registry).decode())
    assert found["mysqllock_queue_jobs", "emails", "ready"] == 2


def test_the_import_of_the_collector_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import celery_mysqllock.metrics"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: celery_mysqllock.metrics needs packages that are not installed: "
        "pip install 'celery-mysqllock[metrics]'."
    )


def test_it_goes_on_when_the_server_is_back(start_server: Callable[..., DevServer]) -> None:
    server = start_server()
    with serving(server.create_database(), "metrics", migrates=True) as site:

        def is_up() -> float:
            with urlopen(f"{site.url}metrics") as answer:  # noqa: S310 - our own server
                return samples(answer.read().decode())["mysqllock_up", "", ""]

        assert is_up() == 1
        server.stop()
        assert is_up() == 0
        server.start()
        assert is_up() == 1


def test_a_port_that_is_taken_is_said_so(session: Session, mysqllock: Command) -> None:
    with serving(session.address.url(), "metrics") as site:
        done = mysqllock("metrics", "--port", str(site.port))
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{site.port}: " in done.stderr
