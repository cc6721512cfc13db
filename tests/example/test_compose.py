"""docker-compose.yml, as docker compose reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of docker-compose.yml."""
    command = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "config"]
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if subprocess.run([*command[:2], "version"], capture_output=True, check=False).returncode:
        pytest.skip("this docker has no compose")
    config = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, check=False
    )
    assert config.returncode == 0, config.stderr
    found: dict[str, Any] = json.loads(config.stdout)["services"]
    return found


def test_there_are_a_server_two_workers_two_beats_a_producer_and_flower(
    services: dict[str, Any],
) -> None:
    assert services.keys() == {"beat", "flower", "migrate", "mysql", "producer", "worker"}
    assert services["worker"]["deploy"]["replicas"] == 2
    assert services["beat"]["deploy"]["replicas"] == 2


def test_what_listens_is_bound_to_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_jobs_are_worked_on_after_the_migration_alone(services: dict[str, Any]) -> None:
    assert services["migrate"]["depends_on"]["mysql"]["condition"] == "service_healthy"
    for name in ("beat", "flower", "producer", "worker"):
        condition = services[name]["depends_on"]["migrate"]["condition"]
        assert condition == "service_completed_successfully"


def test_no_service_is_given_a_password_on_its_command_line(services: dict[str, Any]) -> None:
    for service in services.values():
        words = [*(service.get("command") or ()), *service.get("healthcheck", {}).get("test", ())]
        assert not [word for word in words if "mysql://" in word or "password" in word]


def test_the_image_that_all_share_is_built_once(services: dict[str, Any]) -> None:
    ours = [s for s in services.values() if s["image"] == "celery-mysqllock-example"]
    assert len(ours) == 5
    assert [name for name, service in services.items() if "build" in service] == ["migrate"]


def test_who_can_be_asked_has_a_health_check(services: dict[str, Any]) -> None:
    checked = {name for name, service in services.items() if "healthcheck" in service}
    assert checked == {"flower", "mysql", "worker"}
