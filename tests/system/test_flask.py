"""Run single services by Flask's own command, as this family of projects documents it, beside a system that runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3
from tests.patience import PATIENCE_S
from tests.system.conftest import Mode
from tests.system.harness import System, eventually, web_ports

from pulsaga_program.local.process import tail

ROOT = Path(__file__).parents[2]
READY = " ready"
"""What a process logs once its background is at work."""


@pytest.fixture(scope="module")
def system(embedded_mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A whole system, embedded."""
    with embedded_mode.running(tmp_path_factory.mktemp("flask")) as running:
        yield running


class Served:
    """One service that Flask serves."""

    def __init__(self, system: System, process: subprocess.Popen[bytes], port: str, log: Path) -> None:
        self.process, self.log, self._url = process, log, f"http://127.0.0.1:{port}"
        self._pool = urllib3.PoolManager(retries=False, timeout=PATIENCE_S)
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request(method, self._url + path, body=body, headers=self.headers | headers)

    def answers(self) -> bool:
        assert self.process.poll() is None, tail(self.log, 60)
        try:
            return self.ask("GET", "/readyz").status == 200
        except urllib3.exceptions.HTTPError:
            return False


def flask(service: str, *options: str) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "flask", "--app", f"src/{service}", "run", *options]


@contextmanager
def served(system: System, service: str, options: Sequence[str], folder: Path, **changes: str) -> Iterator[Served]:
    """Serve one service, ask it until it answers, end it as its terminal would."""
    port, log = web_ports()["BFF_PORT"], folder / f"{service}.log"
    environment = {name: text for name, text in system.environment.items() if name not in ("PYTHONPATH", "AUTH")}
    environment |= {"AUTH": "none", "PYTHONUNBUFFERED": "1", **changes}
    with log.open("wb") as output:
        command = flask(service, *options, "-p", port)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        running = Served(system, process, port, log)
        try:
            eventually(running.answers, log=log)
            yield running
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--debug",), ("--host=0.0.0.0",)], ids=["plain", "debug", "everywhere"])
def test_the_front_door_is_served_with_all_that_it_needs(
    system: System, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """What is accepted is published and its end is heard, by one background that ends with its process."""
    name, asks = f"flask{'-'.join(options).strip('-')[:5]}", "--host=0.0.0.0" in options
    token: dict[str, str] = {}
    changes = {"AUTH": "", "JWT_SECRET": "correct horse battery staple, 32 bytes and more"} if asks else {}
    if asks:
        issued = system.run("token", "issue", "--role", "operator", "--subject", "me", **changes)
        token = {"Authorization": f"Bearer {issued.stdout.strip()}"}
    with served(system, "bff", options, tmp_path, **changes) as bff:
        answer = bff.ask("POST", "/passwords", f'{{"username": "{name}"}}', Prefer="wait=20", **token)
        assert (answer.status, answer.json()["status"]) == (201, "completed"), answer.data
        assert eventually(lambda: bff.ask("GET", f"/passwords/{name}", **token).status == 200)
        assert bff.log.read_text().count(READY) == 1
    assert bff.process.returncode is not None


@pytest.mark.slow
@pytest.mark.parametrize(("service", "path"), [("generador", "/passwords/nobody"), ("protools_saga", "/sagas")])
def test_each_service_with_a_web_face_is_served(system: System, tmp_path: Path, service: str, path: str) -> None:
    """Whoever works on one service starts that one."""
    with served(system, service, (), tmp_path) as running:
        assert running.ask("GET", path).status in (200, 404)
        assert eventually(lambda: READY in running.log.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        (("--host=0.0.0.0",), {}, "AUTH: none is for loopback only"),
        (("--host=here",), {}, "--host: 'here' does not appear to be"),
        ((), {"AUTH": ""}, "AUTH: nobody would be asked who they are"),
        ((), {"PROTOOLS_SYSTEM": "system:NOTHING"}, "PROTOOLS_SYSTEM: system:NOTHING"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(
    system: System, options: tuple[str, ...], changes: dict[str, str], said: str
) -> None:
    """AUTH=none stays on loopback whatever the command line says; nobody wants to read a traceback of Flask."""
    environment = {**system.environment, **changes}
    done = subprocess.run(
        flask("bff", *options), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
