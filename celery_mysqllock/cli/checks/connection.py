"""The server and the connection to it: version, encryption, clock and proxies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.check import STATEMENTS, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.check import Finding, Target
    from celery_mysqllock.mysql import Address

_PROXIES = ("proxysql", "maxscale", "mysqlrouter", "mysql router", "vitess")
_TRIES = 5
_SKEW = 2.0  # seconds


def check_server(target: Target) -> Iterator[Finding]:
    """Product and version."""
    server = target.session.server
    if server.is_too_old:
        text = f"{server} is older than MySQL 5.7 and MariaDB 10.4."
        yield problem("server", text, "Update the server.")
    elif not server.has_skip_locked:
        yield warning(
            "server",
            f"{server} has no SKIP LOCKED, so consumers claim with compare-and-set, which is "
            "slower when there are many.",
            "MySQL 8.0 or MariaDB 10.6 has it.",
        )
    else:
        comment = target.variables.get("version_comment", "").strip("()")
        yield ok("server", f"{server} ({comment})")


def check_encryption(target: Target) -> Iterator[Finding]:
    """TLS, as this connection uses it."""
    address = target.session.address
    ((_, cipher),) = target.session.query(STATEMENTS["encryption"]) or [("", "")]
    mode = address.effective_tls.mode
    if not cipher and _is_local(address):
        yield ok("encryption", "none, and none needed: the server is on this machine.")
    elif not cipher:
        yield warning(
            "encryption",
            "The connection is not encrypted: anyone on the network path can read jobs and change "
            "statements.",
            "Add ?ssl_mode=VERIFY_IDENTITY to the URL, and ssl_ca if the authority is your own.",
        )
    elif mode.startswith("VERIFY") or _is_local(address):
        yield ok("encryption", f"{cipher} (ssl_mode={mode})")
    else:
        yield warning(
            "encryption",
            f"{cipher}, but with ssl_mode={mode} the server's certificate is not verified.",
            "Add ?ssl_mode=VERIFY_IDENTITY to the URL, and ssl_ca if the authority is your own.",
        )


def _is_local(address: Address) -> bool:
    return bool(address.unix_socket) or address.host in ("localhost", "127.0.0.1", "::1")


def check_clock(target: Target) -> Iterator[Finding]:
    """The difference between the clocks of client and server."""
    before = time.time()
    server = float(target.session.value(STATEMENTS["clock"]))
    after = time.time()
    skew = server - (before + after) / 2
    # the round trip limits the precision
    if abs(skew) - (after - before) / 2 > _SKEW:
        yield warning(
            "clock",
            f"The server's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this "
            "machine's. Delayed and expiring tasks are due by the server's.",
            "Run NTP (chrony, systemd-timesyncd) on both.",
        )
    else:
        yield ok("clock", f"{abs(skew) * 1000:.0f} ms apart")


def check_proxy(target: Target) -> Iterator[Finding]:
    """Whether all statements of this connection reach the same session."""
    session = target.session
    said = f"{target.variables.get('version', '')} {target.variables.get('version_comment')}"
    named = [proxy for proxy in _PROXIES if proxy in said.lower()]
    seen = {session.value("SELECT CONNECTION_ID() + 0") for _ in range(_TRIES)}
    if seen == {session.connection_id} and not named:
        yield ok("proxy", "none to be seen")
        return
    numbers = ", ".join(map(str, sorted(seen)))
    what = (
        f"The server calls itself {said.strip()}."
        if named
        else f"The login was session {session.connection_id}, statements run in {numbers}."
    )
    yield problem(
        "proxy",
        f"{what} There is a proxy in between. A lock belongs to a session of the server behind it: "
        "it may be free while its holder runs, or stay held after its holder has died.",
        "Connect to the server itself.",
    )
