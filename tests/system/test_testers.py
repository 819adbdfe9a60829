"""Run both testers as programs against each kind of broker: what one sends the other prints, and no trace is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S

from pulsaga.broker import BrokerAdmin, connect_admin
from pulsaga.delivery.messages import new_id
from pulsaga.settings import Settings
from pulsaga_program.bootstrap import prepare_broker
from pulsaga_program.local import LocalPulsar
from pulsaga_program.local.process import free_ports, wait_until
from pulsaga_program.up import accepts
from system import SYSTEM

ROOT = Path(__file__).parents[2]
PASSWORD = "generador.generate-password"
GENERATED = "generador.password-generated"


@dataclass(frozen=True)
class Terminal:
    """Run the testers in the environment of one bootstrapped broker."""

    environment: Mapping[str, str]
    admin: BrokerAdmin

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one tester, as a user would from the root of the tree."""
        command = [sys.executable, str(ROOT / "testers" / f"{name}_tester.py"), *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, name: str, *arguments: str) -> tuple[int, str, str]:
        """Run one tester to its end; return exit code, what it printed, what it complained of."""
        with self.start(name, *arguments) as process:
            output, errors = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output, errors

    def produce(self, *arguments: str) -> list[str]:
        """Send, and return the printed lines."""
        code, output, errors = self.run("producer", *arguments)
        assert code == 0, errors
        return output.splitlines()

    def consume(self, *arguments: str) -> list[Any]:
        """Read, and return one object a message."""
        code, output, errors = self.run("consumer", "--json", *arguments)
        assert code == 0, errors
        return [json.loads(line) for line in output.splitlines()]

    def subscriptions(self) -> dict[str, list[str]]:
        """Every durable subscription there is."""
        return {topic: self.admin.subscriptions(topic) for topic in self.admin.topics()}


@pytest.fixture(scope="module", params=["embedded", pytest.param("pulsar", marks=pytest.mark.pulsar)])
def testers(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """Testers against each kind of broker; topics are there, services are not."""
    with _embedded() if request.param == "embedded" else _on(request.getfixturevalue("pulsar")) as environment:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        settings = Settings.read(environment)
        admin = connect_admin(settings.broker_url, settings.broker_admin_url, settings.namespace)
        prepare_broker(admin, [SYSTEM[name] for name in SYSTEM.names])
        yield Terminal({**kept, **environment, "PYTHONPATH": str(ROOT / "src")}, admin)
        admin.close()


@contextmanager
def _on(pulsar: LocalPulsar) -> Iterator[dict[str, str]]:
    yield {**pulsar.environment(), "BROKER_NAMESPACE": f"testers-{new_id()}"}


@contextmanager
def _embedded() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="testers-") as folder:
        address = Path(folder) / "broker.sock"
        arguments = ["--socket", str(address), "--database", str(Path(folder) / "broker.sqlite")]
        command = [sys.executable, "-m", "pulsaga.broker.embedded_server", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
            try:
                assert wait_until(lambda: accepts(address), PATIENCE_S)
                yield {"BROKER_URL": f"unix://{address}", "BROKER_NAMESPACE": "testers"}
            finally:
                server.terminate()


def test_what_one_sends_the_other_prints(testers: Terminal) -> None:
    """Envelope and body arrive as they were said, under the ids that were printed."""
    saga, command = new_id(), new_id()
    body = {"username": "ada", "status": "issued", "issued_at": 1.5, "changed_at": 2.0, "sealed_token": "c2VhbGVk"}
    options = ["--key", saga, "--command-id", command, "--version", "3", "--actor", "tester"]
    (line,) = testers.produce(GENERATED, "--json", json.dumps(body), *options)
    (found,) = testers.consume(GENERATED, "--key", saga)
    said = found["envelope"]
    assert found["topic"] == said["ce_type"] == GENERATED
    assert found["key"] == said["ce_correlationid"] == saga
    assert (said["ce_commandid"], said["ce_version"], said["ce_actor"]) == (command, "3", "tester")
    assert found["body"] == body
    assert f"id={said['ce_id']}" in line


def test_a_count_is_kept_and_every_one_is_another(testers: Terminal) -> None:
    """More than one batch, paced or not."""
    saga = new_id()
    testers.produce(PASSWORD, "--key", saga, "--field", "username=many-{n}", "--count", "600")
    testers.produce(PASSWORD, "--key", saga, "--field", "username=paced-{n}", "--count", "5", "--rate", "100")
    found = testers.consume(PASSWORD, "--key", saga)
    expected = [f"many-{n}" for n in range(1, 601)] + [f"paced-{n}" for n in range(1, 6)]
    assert [message["body"]["username"] for message in found] == expected
    assert len({message["envelope"]["ce_id"] for message in found}) == 605


def test_bad_messages_arrive_as_bad_as_they_were_meant(testers: Terminal) -> None:
    """They are there to show how a service takes them, so the broker must take them first."""
    saga = new_id()
    for variant in ("--duplicate", "--unknown-type", "--corrupt"):
        testers.produce(PASSWORD, "--key", saga, "--field", "username=eve", variant)
    first, twin, unknown, corrupt = testers.consume(PASSWORD, "--key", saga)
    assert first["envelope"]["ce_id"] == twin["envelope"]["ce_id"]
    assert unknown["envelope"]["ce_type"] != PASSWORD
    assert unknown["body"] == {"username": "eve"}
    assert corrupt["error"]
    assert "body" not in corrupt


def test_nobody_misses_what_was_looked_at(testers: Terminal) -> None:
    """A look must not take a message from a service, nor leave a subscription that keeps messages for ever."""
    testers.produce(PASSWORD, "--field", "username=seen")
    before = testers.subscriptions()
    assert any(before.values())
    testers.consume()
    testers.consume(PASSWORD, "--limit", "1")
    assert testers.subscriptions() == before


def test_a_follower_sees_what_comes_and_leaves_quietly(testers: Terminal) -> None:
    """`--from latest` begins now, so the new message is sent until it is seen; Ctrl-C is the usual end."""
    saga, before = new_id(), testers.subscriptions()
    with testers.start("consumer", "--from", "latest", "--json", "--key", saga, "--limit", "1", PASSWORD) as follower:
        assert wait_until(lambda: _send_and_see(testers, follower, saga), PATIENCE_S)
    with testers.start("consumer", "--follow", PASSWORD) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=PATIENCE_S)
    assert (follower.returncode, errors) == (0, f"following {PASSWORD}; Ctrl-C ends it\n")
    assert testers.subscriptions() == before


def _send_and_see(testers: Terminal, follower: subprocess.Popen[str], saga: str) -> bool:
    testers.produce(PASSWORD, "--key", saga, "--field", "username=new")
    return follower.poll() == 0


def test_an_unknown_topic_or_message_is_answered_with_what_exists(testers: Terminal) -> None:
    """Exit 2, as for any wrong argument."""
    for name in ("consumer", "producer"):
        code, output, errors = testers.run(name, "generador.nonsense")
        assert (code, output) == (2, "")
        assert PASSWORD in errors


@pytest.mark.parametrize("address", ["unix", "pulsar"])
@pytest.mark.parametrize("arguments", [("consumer",), ("producer", PASSWORD, "--field", "username=ada")])
def test_no_broker_is_one_clear_line(address: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    """It is what everybody forgets first."""
    port, admin_port = free_ports(2)
    urls = {"unix": f"unix://{tmp_path}/none.sock", "pulsar": f"pulsar://127.0.0.1:{port}"}
    environment = {"BROKER_URL": urls[address], "BROKER_ADMIN_URL": f"http://127.0.0.1:{admin_port}"}
    command = [sys.executable, str(ROOT / "testers" / f"{arguments[0]}_tester.py"), *arguments[1:]]
    answer = subprocess.run(
        command,
        env={**environment, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (answer.returncode, answer.stdout) == (1, "")
    (line,) = answer.stderr.splitlines()
    assert urls[address] in line
