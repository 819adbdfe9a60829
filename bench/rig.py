"""Start what is measured: broker and databases with every flush on, and every service as processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.database import SETTINGS as POSTGRES_SETTINGS
from pulsaga.delivery.messages import new_id
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.bootstrap import bootstrap
from pulsaga_program.local import LocalPostgres, LocalPulsar
from pulsaga_program.local.process import free_ports, wait_until
from pulsaga_program.preflight import keys_of, secrets_of
from pulsaga_program.up import accepts, processes_of
from system import SYSTEM

READY_S = 60
PART = ("generador", "correo")
"""What most measurements ask for passwords; nothing else stands beside it."""
PULSAR_SETTINGS = {"keepAliveIntervalSeconds": "3600"}
"""A broker that was stopped between two turns must not take its clients for dead."""


@dataclass(frozen=True)
class Rig:
    """Hold a running system: settings, servers, and the processes by name; no servers where all is embedded."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    """What points a process at these servers."""
    servers: dict[str, LocalPulsar | LocalPostgres] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def postgres(self) -> LocalPostgres:
        """The database server of a system that has one."""
        server = self.servers["postgres"]
        assert isinstance(server, LocalPostgres)
        return server

    def pids(self) -> dict[str, int]:
        """Process ids by name, servers included."""
        ours = {name: process.pid for name, process in self.processes.items()}
        return ours | {name: server.pid() or 0 for name, server in self.servers.items()}

    def start(self, service: str, kind: str, suffix: str = "") -> None:
        """Start one more process and return once it is ready."""
        name = f"{service}.{kind}{suffix}"
        log = self.run(name, "run", service, kind)
        if not wait_until(lambda: b"ready" in log.read_bytes(), READY_S):
            raise RuntimeError(f"{name} did not become ready: {log.read_text()[-2000:]}")

    def run(self, name: str, *arguments: str) -> Path:
        """Start a `protools` command that stays; return the file that holds what it says."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "pulsaga_program", *arguments],
                env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=output,
            )
        return log

    def stop(self) -> None:
        """End every process at once."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(10)


@contextmanager
def rig(folder: Path, of: System = SYSTEM, /, *, embedded: bool = False, **changes: str) -> Iterator[Rig]:
    """Start everything of a system in `folder`, end everything afterwards.

    `changes` are variables of the environment that are to differ from their defaults.
    """
    with (_embedded if embedded else servers)(folder, of, **changes) as system:
        try:
            for service, kind in processes_of(of, PART if of is SYSTEM else ()):
                system.start(service, kind)
            yield system
        finally:
            system.stop()


@contextmanager
def servers(folder: Path, of: System = SYSTEM, /, **changes: str) -> Iterator[Rig]:
    """Start Pulsar and PostgreSQL in `folder`, prepared for every service, and no process of ours."""
    with ExitStack() as stack:
        port, admin_port, database_port, *web_ports = free_ports(3 + len(_webs(of)))
        pulsar = LocalPulsar(
            folder / "pulsar", port=port, admin_port=admin_port, journal_sync=True, options=PULSAR_SETTINGS
        )
        stack.callback(pulsar.kill)  # what it holds is thrown away with the run
        pulsar.start()
        postgres = LocalPostgres(folder / "postgres", port=database_port, options=POSTGRES_SETTINGS)
        stack.callback(postgres.remove)
        postgres.start()
        environment = pulsar.environment() | postgres.environment() | _names(folder, of, web_ports) | changes
        system = Rig(folder, Settings.read(environment), environment, {"pulsar": pulsar, "postgres": postgres})
        bootstrap(of, system.settings)
        yield system


@contextmanager
def _embedded(folder: Path, of: System, /, **changes: str) -> Iterator[Rig]:
    """Start the embedded broker, with SQLite files for every service beside it."""
    environment = _names(folder, of, free_ports(len(_webs(of)))) | changes
    system = Rig(folder, Settings.read(environment), environment)
    address = Path(system.settings.broker_url.removeprefix("unix://"))
    address.parent.mkdir(parents=True)
    log = system.run(
        "broker", "broker", "embedded", "--socket", str(address), "--database", str(folder / "broker.sqlite")
    )
    try:
        if not wait_until(lambda: accepts(address), READY_S):
            raise RuntimeError(f"the broker did not become ready: {log.read_text()[-2000:]}")
        bootstrap(of, system.settings)
        yield system
    finally:
        system.stop()


def _webs(of: System) -> list[str]:
    return [service.name for service in of.all if service.web]


def _names(folder: Path, of: System, web_ports: list[int]) -> dict[str, str]:
    name = f"bench{new_id()[-8:]}"
    ports = {f"{service.upper()}_PORT": str(port) for service, port in zip(_webs(of), web_ports, strict=True)}
    keys = {key: b64encode(os.urandom(32)).decode() for key in (*keys_of(of), *secrets_of(of))}
    names = {"BROKER_NAMESPACE": name, "DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    home = {"PROTOOLS_HOME": str(folder / "home")}
    access = {"AUTH": "none", "RATE_LIMIT": "none"}  # one address asks for everything here
    return ports | keys | names | home | access
