"""Hold the compose file against the program: no Docker engine runs here, so it is parsed, never claimed as run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pulsaga.settings import Settings
from pulsaga_program.local.pulsar import TUNED
from system import SYSTEM

ROOT = Path(__file__).resolve().parents[2]
SERVED = {"pulsar", "postgres"}
METRICS = {"prometheus", "grafana"}
OF_ONE_MACHINE = {"advertisedAddress", "bindAddress", "allowLoopback", "allowEphemeralPorts"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The parsed compose file."""
    parsed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    """Its services by name."""
    services = compose["services"]
    assert isinstance(services, dict)
    return services


def name_of(service: str, kind: str) -> str:
    """Name a process as the compose file does; the front door goes by its service's name alone."""
    return service if (service, kind) == ("bff", "web") else f"{service}-{kind}"


def test_every_process_is_a_service_of_its_own(services: dict[str, Any]) -> None:
    """A process that is missing here is a workflow that stops in a cluster only."""
    assert set(services) - SERVED - METRICS - {"bootstrap"} == {name_of(*process) for process in SYSTEM.processes}


@pytest.mark.parametrize(("service", "kind"), SYSTEM.processes)
def test_every_service_runs_its_process(services: dict[str, Any], service: str, kind: str) -> None:
    """The command line of the image is the one of the program."""
    assert services[name_of(service, kind)]["command"] == ["run", service, kind]


def test_every_process_waits_for_bootstrap(services: dict[str, Any]) -> None:
    """Topics, subscriptions and tables exist before the first message."""
    for process in SYSTEM.processes:
        waits = services[name_of(*process)]["depends_on"]
        assert waits == {"bootstrap": {"condition": "service_completed_successfully"}}


def test_bootstrap_waits_for_what_is_started_here(services: dict[str, Any]) -> None:
    """It waits for a healthy broker and database, and does without them where they are somewhere else."""
    waits = services["bootstrap"]["depends_on"]
    assert set(waits) == SERVED
    assert all(each == {"condition": "service_healthy", "required": False} for each in waits.values())


def test_only_the_front_door_and_what_shows_dashboards_publish_a_port(services: dict[str, Any]) -> None:
    """A published port cannot be shared, so it would keep a service from scaling."""
    assert [name for name, service in services.items() if "ports" in service] == ["bff", "grafana"]
    assert services["grafana"]["ports"] == ["${GRAFANA_PUBLISHED:-127.0.0.1:3300}:3000"]
    assert services["bff"]["ports"] == ["${BFF_PUBLISHED:-127.0.0.1:3000}:3000"]


def test_nothing_keeps_a_service_from_scaling(services: dict[str, Any]) -> None:
    """`--scale generador-worker=3` needs services without a fixed container name."""
    assert not [name for name, service in services.items() if "container_name" in service]


@pytest.mark.parametrize("service", [service for service, kind in SYSTEM.processes if kind == "web"])
def test_every_web_process_is_asked_on_its_own_port(services: dict[str, Any], service: str) -> None:
    """A health check of a wrong port restarts a healthy service for ever."""
    port = SYSTEM.port_of(Settings.read({}), service)
    assert f"http://127.0.0.1:{port}/livez" in services[name_of(service, "web")]["healthcheck"]["test"][-1]


def test_every_variable_is_one_that_settings_reads(services: dict[str, Any]) -> None:
    """A misspelt variable would be ignored without a word."""
    known = {*SYSTEM.shown(Settings.read({})), "PROTOOLS_SYSTEM"}
    for name, service in services.items():
        if name not in SERVED | METRICS:
            assert set(service["environment"]) <= known, name


def test_what_is_given_by_default_is_accepted_by_settings(services: dict[str, Any]) -> None:
    """The file's own values start a process; only secrets are asked for."""
    secret = "A" * 43 + "="
    for name, service in services.items():
        if name not in SERVED | METRICS:
            given = {key: filled(str(value), secret) for key, value in service["environment"].items()}
            settings = Settings.read(given)
            assert settings.broker_url == "pulsar://pulsar:6650"
            assert settings.broker_admin_url == "http://pulsar:8080"


def filled(value: str, secret: str) -> str:
    """Replace `${NAME:-default}` by the default and `${NAME:?…}` by a secret, as compose does."""
    return re.sub(r"\$\{\w+:([-?])([^}]*)\}", lambda found: found[2] if found[1] == "-" else secret, value)


def test_secrets_have_no_default(services: dict[str, Any]) -> None:
    """A key that everybody knows is none."""
    for service in services.values():
        for variable, value in service.get("environment", {}).items():
            if variable.endswith(("_KEY", "_TOKEN", "_PASSWORD")):
                assert f"${{{variable}:?" in value or value.endswith(":-}")  # none, where none is asked for


def test_keys_go_only_where_they_are_used(services: dict[str, Any]) -> None:
    """The vault key opens every password: nobody but generador holds it."""
    holders = {
        key: {name.split("-")[0] for name, service in services.items() if key in service.get("environment", {})}
        for key in ("VAULT_KEY", "LINK_KEY", "RESET_KEY", "SIGNING_KEY", "TOKEN_KEY")
    }
    assert holders == {
        "VAULT_KEY": {"generador"},
        "LINK_KEY": {"generador", "correo"},
        "RESET_KEY": {"usuarios", "correo"},
        "SIGNING_KEY": {"usuarios"},
        "TOKEN_KEY": {"protools_saga", "correo"},
    }


def test_the_broker_is_tuned_as_the_local_one(services: dict[str, Any]) -> None:
    """One forgotten key costs 10 ms per message, and nobody would see why."""
    given = services["pulsar"]["environment"]
    for key, value in TUNED.items():
        if key not in OF_ONE_MACHINE:
            assert given[f"PULSAR_PREFIX_{key}"] == value
    assert given["PULSAR_PREFIX_journalSyncData"] == "true"


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """`latest` is another program every month."""
    for service in services.values():
        assert re.search(r":v?\d+\.\d+", service["image"])


def test_what_is_mounted_from_here_is_here(services: dict[str, Any]) -> None:
    """Docker makes a folder of a file that is missing, and the server in the container does not start."""
    mounted = [str(one) for service in services.values() for one in service.get("volumes", []) if str(one)[0] == "."]
    assert len(mounted) == 5
    assert all((ROOT / one.partition(":")[0]).exists() for one in mounted)


def test_metrics_are_asked_for_by_a_profile_of_their_own(compose: dict[str, Any]) -> None:
    """Nobody who runs the system has to run what watches it, and its token is in no file of ours."""
    assert all(compose["services"][name]["profiles"] == ["metrics"] for name in METRICS)
    assert compose["secrets"] == {"metrics_token": {"environment": "METRICS_TOKEN"}}


def test_the_image_installs_what_is_locked() -> None:
    """What the image runs with is what the tests ran with."""
    locked = (ROOT / "requirements.txt").read_text()
    pinned = re.findall(r"^\S+==\S+", (ROOT / "requirements-run.txt").read_text(), re.MULTILINE)
    assert "--require-hashes -r requirements-run.txt" in (ROOT / "Dockerfile").read_text()
    assert pinned
    assert not [pin for pin in pinned if not re.search(rf"^{re.escape(pin)}(?= )", locked, re.MULTILINE)]
