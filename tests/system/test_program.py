"""Start and stop `protools up` as an operator does, and mistype as an operator does."""

from __future__ import annotations

import base64
import re
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.conftest import KEYS, Mode
from tests.system.harness import LEAVE_S, System, at_once, eventually

from pulsaga_program.home import OURS
from pulsaga_program.local.process import command_line, port_is_free, send, wait_until


@pytest.fixture
def fresh(mode: Mode, tmp_path: Path) -> Iterator[System]:
    """A system that nobody has started yet."""
    with mode.prepared(tmp_path) as system:
        yield system


@pytest.fixture
def unstarted(embedded_mode: Mode, tmp_path: Path) -> Iterator[System]:
    """A system that will be refused before it needs any server."""
    with embedded_mode.prepared(tmp_path) as system:
        yield system


def test_it_starts_restarts_what_dies_refuses_a_second_and_leaves_at_once(fresh: System) -> None:
    """One life of the program; its parts are checked together, for each start takes seconds."""
    fresh.up()
    kept = [path for name in OURS for path in fresh.home.rglob(f"{name}*") if not path.is_symlink()]
    assert [path for path in kept if path.stat().st_mode & 0o077] == [], "what it stores is its owner's alone"
    second = fresh.run("up")
    assert second.returncode == 1
    assert str(fresh.home) in second.stderr
    assert "Traceback" not in second.stderr

    (victim,) = fresh.children("run", "bff", "web")
    send(victim, signal.SIGKILL)
    fresh.eventually(lambda: fresh.children("run", "bff", "web") not in ([], [victim]))
    eventually(lambda: not port_is_free(int(fresh.environment["BFF_PORT"])))
    names = [f"busy-{number}" for number in range(30)]
    identifiers = at_once(fresh.accept, names)

    children = fresh.children()
    assert len(children) >= 8
    assert fresh.down() <= LEAVE_S, "busy or not, it leaves when asked to"
    assert fresh.process.returncode == 0
    assert not any(map(command_line, children))
    fresh.up()
    assert {command["status"] for command in fresh.outcomes(identifiers)} == {"completed"}


def test_children_do_not_outlive_a_killed_supervisor(fresh: System) -> None:
    """Otherwise the next start finds its ports taken and two workers on every queue."""
    fresh.up()
    children = fresh.children()
    send(fresh.process.pid, signal.SIGKILL)
    fresh.process.wait(LEAVE_S)
    assert wait_until(lambda: not any(map(command_line, children)), LEAVE_S)
    fresh.up()


@pytest.mark.parametrize("service", ["bff", "generador"])
def test_a_taken_port_is_named_before_anything_starts(unstarted: System, service: str) -> None:
    """`Address already in use` without a number sends people hunting."""
    variable = f"{service.upper()}_PORT"
    with socket.create_server(("127.0.0.1", int(unstarted.environment[variable]))):
        done = unstarted.run("up")
    assert done.returncode == 1
    assert f"port {unstarted.environment[variable]} is in use" in done.stderr
    assert variable in done.stderr
    assert "ready" not in done.stdout


WRONG = (
    ("BFF_PORT", "no-port"),
    ("BROKER_URL", "kafka://127.0.0.1:9092"),
    ("GENERADOR_DB_URL", "mysql://127.0.0.1/x"),
    ("FAILURE_DELAY", "soon"),
    ("BATCH_LIMIT", "0"),
    ("VAULT_KEY", "too-short"),
    ("SMTP_URL", "ftp://127.0.0.1"),
    ("MAIL_FROM", "two@example.test, addresses@example.test"),
    ("LOG_FORMAT", "yaml"),
    ("AUTH", ""),  # nobody would be asked who they are, and nobody said so
    ("AUTH", "maybe"),
    ("JWT_SECRET", "too-short"),
    ("JWKS_FILE", "/no/such/file"),
    ("JWKS_URL", "http://keys.example.test/jwks.json"),
    ("RATE_LIMIT", "many"),
    ("TRUSTED_PROXIES", "somewhere"),
    ("BIND_HOST", "no.such.host"),
)


@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_a_wrong_setting_stops_the_program_by_the_name_of_its_variable(
    unstarted: System, variable: str, value: str
) -> None:
    """Exit code 2 tells a supervisor and a person that trying again will not help."""
    done = unstarted.run("up", **{variable: value})
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"protools: {variable}: ")
    assert done.stdout == "", "nothing was started"


def test_what_is_in_force_is_shown_without_its_secrets(unstarted: System) -> None:
    """People paste this into tickets, and scripts read it through a pipe: nothing may be cut off."""
    plain = {"BROKER_NAMESPACE": "n" * 200, "DB_HOSTNAME": "db.example:5432"}
    secret = {
        "SMTP_URL": "smtps://robot:hunter2@mail.example",
        "DB_PASSWORD": "hunter3",
        "GENERADOR_DB_URL": "postgresql://u:hunter4@db.example/x",
        **{name: base64.b64encode(secrets.token_bytes(32)).decode() for name in KEYS},
    }
    done = unstarted.run("config", "show", **plain, **secret)
    assert done.returncode == 0
    for value in ("hunter", *(secret[name] for name in KEYS)):
        assert value not in done.stdout + done.stderr
    shown = dict(re.findall(r"^ *([A-Z_]+) *(.*?) *$", done.stdout, re.MULTILINE))
    assert shown.keys() >= {"PROTOOLS_HOME", *plain, *secret}
    assert shown["SMTP_URL"] == "(hidden)"
    assert shown["PROTOOLS_HOME"] == str(unstarted.home)
    assert {name: shown[name] for name in plain} == plain
