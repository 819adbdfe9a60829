"""Start and stop `protools up` as an operator does, and mistype as an operator does."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.conftest import Mode
from tests.system.harness import LEAVE_S, System, at_once, eventually

from protools.local.process import command_line, port_is_free, send, wait_until

SECRETS = ("DB_PASSWORD", "SMTP_URL", "VAULT_KEY", "LINK_KEY", "INTERNAL_TOKEN")


@pytest.fixture
def fresh(mode: Mode, tmp_path: Path) -> Iterator[System]:
    """A system that nobody has started yet."""
    with mode.prepared(tmp_path) as system:
        yield system


def test_it_starts_restarts_what_dies_refuses_a_second_and_leaves_at_once(fresh: System) -> None:
    """One life of the program; its parts are checked together, for each start takes seconds."""
    fresh.up()
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
    fresh.process.wait(10)
    assert wait_until(lambda: not any(map(command_line, children)), LEAVE_S)
    fresh.up()


@pytest.mark.parametrize("service", ["bff", "generador"])
def test_a_taken_port_is_named_before_anything_starts(fresh: System, service: str) -> None:
    """`Address already in use` without a number sends people hunting."""
    variable = f"{service.upper()}_PORT"
    with socket.create_server(("127.0.0.1", int(fresh.environment[variable]))):
        done = fresh.run("up")
    assert done.returncode == 1
    assert f"port {fresh.environment[variable]} is in use" in done.stderr
    assert variable in done.stderr
    assert "ready" not in done.stdout


WRONG = {
    "BFF_PORT": "no-port",
    "BROKER_URL": "kafka://127.0.0.1:9092",
    "GENERADOR_DB_URL": "mysql://127.0.0.1/x",
    "FAILURE_DELAY": "soon",
    "BATCH_LIMIT": "0",
    "VAULT_KEY": "too-short",
    "SMTP_URL": "ftp://127.0.0.1",
    "MAIL_FROM": "two@example.test, addresses@example.test",
    "LOG_FORMAT": "yaml",
    "BIND_HOST": "192.0.2.1",
}


@pytest.mark.parametrize("variable", WRONG)
def test_a_wrong_setting_stops_the_program_by_the_name_of_its_variable(fresh: System, variable: str) -> None:
    """Exit code 2 tells a supervisor and a person that trying again will not help."""
    done = fresh.run("up", **{variable: WRONG[variable]})
    assert done.returncode == 2, done.stdout + done.stderr
    assert variable in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "ready in" not in done.stdout


def test_what_is_in_force_is_shown_without_its_secrets(fresh: System) -> None:
    """People paste this into tickets."""
    secret = {"SMTP_URL": "smtps://robot:hunter2@mail.example", "GENERADOR_DB_URL": "postgresql://u:hunter3@db/x"}
    done = fresh.run("config", "show", **secret)
    assert done.returncode == 0
    shown = dict(re.findall(r"^ ?([A-Z_]+) +(.*?) *$", done.stdout, re.MULTILINE))
    assert shown["BFF_PORT"] == fresh.environment["BFF_PORT"]
    assert shown["PROTOOLS_HOME"] == str(fresh.home)
    assert shown["SMTP_URL"] == "(hidden)"
    hidden = {fresh.environment[name] for name in SECRETS if name in fresh.environment and name not in secret}
    for value in (*hidden, "hunter2", "hunter3"):
        assert value not in done.stdout + done.stderr
