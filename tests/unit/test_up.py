"""Hold what `protools up` decides: replicas, ports, programs, and what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protools.local.process import PortInUse, free_ports, only_one
from protools.up import WrongReplicas, embedded_broker, refuse_taken_ports, replica_counts, service_programs, try_next
from seedwork.settings import Settings

PROCESSES = (("generador", "worker"), ("generador", "web"), ("bff", "web"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a home and web ports of their own."""
    bff, generador = free_ports(2)
    given = {"PROTOOLS_HOME": str(tmp_path), "AUTH": "none", "BFF_PORT": str(bff), "GENERADOR_PORT": str(generador)}
    return Settings.read(given)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that somebody else left running."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_service_name_alone_means_its_worker() -> None:
    """Workers are what one scales first."""
    assert replica_counts(PROCESSES, ["generador=3"])["generador", "worker"] == 3


def test_a_kind_can_be_named() -> None:
    """A front door scales, too."""
    counts = replica_counts(PROCESSES, ["generador.web=2"])
    assert counts == {("generador", "worker"): 1, ("generador", "web"): 2, ("bff", "web"): 1}


@pytest.mark.parametrize("text", ["generator=2", "bff=2", "bff.web", "bff.web=0", "bff.web=many"])
def test_a_misspelt_replica_is_refused_with_what_there_is(text: str) -> None:
    """A typing error must not quietly run one process."""
    with pytest.raises(WrongReplicas, match=r"generador\.web"):
        replica_counts(PROCESSES, [text])


def test_each_replica_is_a_program_of_its_own_name(settings: Settings) -> None:
    """The prefix of a line tells which replica spoke."""
    programs = service_programs(settings, replica_counts(PROCESSES, ["generador=2"]))
    assert [program.name for program in programs] == [
        *("generador.worker.1", "generador.worker.2", "generador.web", "bff.web")
    ]


def test_web_replicas_share_their_port(settings: Settings) -> None:
    """A caller knows one address, whoever answers: each replica opens the same port (SO_REUSEPORT)."""
    first, second = service_programs(settings, replica_counts((("bff", "web"),), ["bff.web=2"]))
    assert (first.name, second.name) == ("bff.web.1", "bff.web.2")
    assert first.environment == second.environment


def test_a_taken_web_port_is_named(tmp_path: Path, listener: socket.socket) -> None:
    """`Address already in use` without a number sends people hunting."""
    port = listener.getsockname()[1]
    settings = Settings.read({"PROTOOLS_HOME": str(tmp_path), "BFF_PORT": str(port)})
    with pytest.raises(PortInUse, match=f"{port} is in use.*BFF_PORT"):
        refuse_taken_ports(settings, {("bff", "web"): 1})


def test_the_embedded_broker_counts_as_started_once_it_takes_connections(settings: Settings) -> None:
    """A service that is faster than its broker would only fill the screen with errors."""
    [broker] = embedded_broker(settings)
    assert broker.gate is not None
    assert not broker.gate()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(settings.home / "broker.sock"))
        server.listen()
        assert broker.gate()


def test_no_embedded_broker_runs_beside_a_real_one(tmp_path: Path) -> None:
    """BROKER_URL alone decides where messages go."""
    assert list(embedded_broker(Settings.read({"BROKER_URL": "pulsar://127.0.0.1:6650"}))) == []


def test_the_commands_to_try_reach_the_front_door(settings: Settings) -> None:
    """The first minute decides whether people stay."""
    shown = try_next(settings, 3.21)
    assert "ready in 3.2 s" in shown
    assert shown.count(f"http://127.0.0.1:{settings.bff_port}/passwords") == 3


def test_the_commands_to_try_carry_a_token_where_one_is_asked_for(tmp_path: Path) -> None:
    """A first command that is answered with 401 helps nobody."""
    shown = try_next(Settings.read({"PROTOOLS_HOME": str(tmp_path), "JWT_SECRET": "x" * 32}), 3.21)
    assert "protools token issue --role operator" in shown
    assert shown.count('-H "Authorization: Bearer $TOKEN"') == 3


@pytest.mark.parametrize(("host", "auth"), [("0.0.0.0", "none"), ("127.0.0.1", "")])
def test_nothing_starts_that_would_let_anybody_in_by_mistake(tmp_path: Path, host: str, auth: str) -> None:
    """AUTH=none is for loopback, and must be said."""
    done = _up({"PROTOOLS_HOME": str(tmp_path), "BIND_HOST": host, "AUTH": auth})
    assert (done.returncode, "AUTH" in done.stderr) == (2, True)


def test_a_second_instance_on_the_same_home_is_refused(tmp_path: Path) -> None:
    """Two supervisors on one set of files would start every process twice."""
    with only_one(tmp_path / "up.lock", "busy"):
        done = _up({"PROTOOLS_HOME": str(tmp_path), "AUTH": "none"})
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_ends_with_exit_code_2(tmp_path: Path) -> None:
    """Supervisors and people alike must see that trying again would not help."""
    done = _up({"PROTOOLS_HOME": str(tmp_path), "BFF_PORT": "no-port"})
    assert done.returncode == 2
    assert "BFF_PORT" in done.stderr


def _up(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "protools", "up"]
    return subprocess.run(command, env=path | environment, capture_output=True, text=True, timeout=60)
