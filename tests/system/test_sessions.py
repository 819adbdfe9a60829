"""Open and look up sessions of a running system, by a client in another language."""

from __future__ import annotations

import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from tests.grpcurl import Called, binary, call
from tests.patience import PATIENCE_S
from tests.servers import cannot_run
from tests.system.conftest import Mode
from tests.system.harness import LEAVE_S, System, command, eventually

from pulsaga.web.access.tokens import service_token
from pulsaga_program.local import MissingTool
from pulsaga_program.local.process import free_ports, send

ROUTE = "usuarios grpc /sessions.Sessions/Create"
CREATE, VALIDATE = "sessions.Sessions/Create", "sessions.Sessions/Validate"
USER = str(uuid.uuid4())


@pytest.fixture(scope="module", autouse=True)
def grpcurl() -> None:
    """A client that shares no line with the server."""
    try:
        binary()
    except MissingTool as missing:
        cannot_run(str(missing))


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two processes of sessions behind one port."""
    with mode.running(tmp_path_factory.mktemp("sessions"), ["usuarios.sessions=2"], only=["usuarios"]) as running:
        yield running


def address(system: System) -> str:
    return f"127.0.0.1:{system.environment['SESSIONS_PORT']}"


def opened(system: System, user_id: str = USER, at: str = "") -> Called:
    badge = service_token(system.settings.key("INTERNAL_TOKEN"), "bff", ROUTE)
    return call(at or address(system), CREATE, "-H", f"authorization: Bearer {badge}", user_id=user_id)


def is_serving(at: str) -> bool:
    with grpc.insecure_channel(at) as channel:
        try:
            found = HealthStub(channel).Check(HealthCheckRequest(service="sessions.Sessions"), timeout=PATIENCE_S)
        except grpc.RpcError:
            return False
        return bool(found.status == HealthCheckResponse.SERVING)


def test_another_language_opens_a_session_and_looks_it_up(system: System) -> None:
    """By the committed .proto alone: what the server offers is not told."""
    session = opened(system)
    assert session.status == "OK", session.said
    assert session.body["valid"] is True
    lasts = datetime.fromisoformat(session.body["expiredAt"]) - datetime.fromisoformat(session.body["issuedAt"])
    assert 86399 <= lasts.total_seconds() <= 86401
    assert call(address(system), VALIDATE, token=session.body["token"]).body == session.body
    listed = subprocess.run(
        [binary(), "-plaintext", address(system), "list"], capture_output=True, text=True, timeout=60
    )
    assert "does not support the reflection API" in listed.stderr


def test_another_language_is_told_no_by_the_right_status(system: System) -> None:
    """Its author reads the code, and retries what may be retried."""
    token = opened(system).body["token"]
    assert call(address(system), CREATE, user_id=USER).status == "Unauthenticated"
    assert opened(system, "ada").status == "InvalidArgument"
    refused = call(address(system), VALIDATE, token=f"{token}x")
    assert refused.status == "Unauthenticated"
    assert "Message: the token is not good\n" in refused.said


def test_a_session_is_good_with_every_replica(system: System) -> None:
    """They share the port, the secret and the database."""
    assert len(system.children("run", "usuarios", "sessions")) == 2
    token = opened(system).body["token"]
    assert {call(address(system), VALIDATE, token=token).status for _ in range(20)} == {"OK"}


def test_a_session_outlives_the_process_that_opened_it(system: System) -> None:
    """A restart must not log everybody out."""
    token, before = opened(system).body["token"], system.children("run", "usuarios", "sessions")
    for pid in before:
        send(pid, signal.SIGKILL)
    system.eventually(lambda: len({*system.children("run", "usuarios", "sessions")} - {*before}) == 2)
    system.eventually(lambda: is_serving(address(system)))
    assert call(address(system), VALIDATE, token=token).status == "OK"


def test_its_settings_are_shown_and_its_secret_is_not(system: System) -> None:
    """Where it listens is the first question."""
    done = system.run("config", "show", SESSIONS_JWT_SECRET="s" * 40)
    shown = dict(re.findall(r"^ *([A-Z_]+) *(.*?) *$", done.stdout, re.MULTILINE))
    assert shown["SESSIONS_PORT"] == system.environment["SESSIONS_PORT"]
    assert (shown["SESSIONS_JWT_SECRET"], shown["SESSIONS_REFLECTION"]) == ("(hidden)", "False")
    assert "s" * 40 not in done.stdout


@contextmanager
def started_alone(system: System, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of sessions as `protools run` starts one, with no supervisor."""
    with system.log.open("ab") as output:
        process = subprocess.Popen(
            command("run", "usuarios", "sessions"),
            env={**system.environment, "SESSIONS_PORT": "", "SESSIONS_JWT_SECRET": "", **changes},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(LEAVE_S)


def test_where_it_is_started_alone_the_names_of_the_original_count(system: System) -> None:
    """A deployment of the original is carried over by changing the image; when asked to leave, it leaves well."""
    (port,) = free_ports(1)
    given = {"PORT": str(port), "JWT_SECRET": "j" * 40, "JWT_EXPIRATION": "1h30m"}
    with started_alone(system, **given) as process:
        eventually(lambda: is_serving(f"127.0.0.1:{port}"), log=system.log)
        session = opened(system, at=f"127.0.0.1:{port}")
        lasts = datetime.fromisoformat(session.body["expiredAt"]) - datetime.fromisoformat(session.body["issuedAt"])
        assert 5399 <= lasts.total_seconds() <= 5401
        assert call(address(system), VALIDATE, token=session.body["token"]).status == "Unauthenticated"
    assert process.returncode == 0


@pytest.mark.parametrize(("variable", "value"), [("PORT", "http"), ("JWT_EXPIRATION", "1d"), ("JWT_SECRET", "short")])
def test_a_wrong_value_stops_it_by_the_name_that_was_used(system: System, variable: str, value: str) -> None:
    """Exit code 2: starting it again would not help."""
    changes = {"SESSIONS_PORT": "", variable: value}
    done = system.run("run", "usuarios", "sessions", **changes)
    assert done.returncode == 2
    assert f"protools: {variable}: " in done.stderr
