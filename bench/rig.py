"""Start what is measured: Pulsar and PostgreSQL with both flushes on, and every service as processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.database import SETTINGS as POSTGRES_SETTINGS
from protools.bootstrap import bootstrap
from protools.local import LocalPostgres, LocalPulsar
from protools.local.process import free_ports, wait_until
from protools.processes import PROCESSES
from seedwork.messages import new_id
from seedwork.settings import Settings

WEBS = ("bff", "protools_saga", "generador", "correo")
READY_S = 60
PULSAR_SETTINGS = {"keepAliveIntervalSeconds": "3600"}
"""A broker that was stopped between two turns must not take its clients for dead."""


@dataclass(frozen=True)
class Rig:
    """Hold a running system: settings, servers, and the processes by name."""

    settings: Settings
    environment: dict[str, str]
    """What points a process at these servers."""
    pulsar: LocalPulsar
    postgres: LocalPostgres
    processes: dict[str, subprocess.Popen[bytes]]

    def pids(self) -> dict[str, int]:
        """Process ids by name, servers included."""
        ours = {name: process.pid for name, process in self.processes.items()}
        return ours | {"pulsar": self.pulsar.pid() or 0, "postgres": self.postgres.pid() or 0}


@contextmanager
def rig(folder: Path, **changes: str) -> Iterator[Rig]:
    """Start everything in `folder`, end everything afterwards."""
    with servers(folder, **changes) as system:
        system.processes.update(_start(folder, system.environment))
        try:
            yield system
        finally:
            _stop(system.processes)


@contextmanager
def servers(folder: Path, **changes: str) -> Iterator[Rig]:
    """Start broker and database in `folder`, prepared for every service, and no process of ours.

    `changes` are variables of the environment that are to differ from their defaults.
    """
    with ExitStack() as stack:
        port, admin_port, database_port, *web_ports = free_ports(3 + len(WEBS))
        pulsar = LocalPulsar(
            folder / "pulsar", port=port, admin_port=admin_port, journal_sync=True, options=PULSAR_SETTINGS
        )
        stack.callback(pulsar.kill)  # what it holds is thrown away with the run
        pulsar.start()
        postgres = LocalPostgres(folder / "postgres", port=database_port, options=POSTGRES_SETTINGS)
        stack.callback(postgres.remove)
        postgres.start()
        environment = pulsar.environment() | postgres.environment() | _names(folder, web_ports) | changes
        settings = Settings.read(environment)
        bootstrap(settings)
        yield Rig(settings, environment, pulsar, postgres, {})


def _names(folder: Path, web_ports: list[int]) -> dict[str, str]:
    name = f"bench{new_id()[-8:]}"
    ports = {f"{service.upper()}_PORT": str(port) for service, port in zip(WEBS, web_ports, strict=True)}
    keys = {key: b64encode(os.urandom(32)).decode() for key in ("VAULT_KEY", "LINK_KEY", "INTERNAL_TOKEN")}
    names = {"BROKER_NAMESPACE": name, "DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    urls = {"GENERADOR_URL": f"http://127.0.0.1:{ports['GENERADOR_PORT']}", "PROTOOLS_HOME": str(folder / "home")}
    return ports | keys | names | urls


def _start(folder: Path, environment: dict[str, str]) -> dict[str, subprocess.Popen[bytes]]:
    processes = {}
    for service, kind in PROCESSES:
        log = folder / f"{service}.{kind}.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "protools", "run", service, kind]
            processes[f"{service}.{kind}"] = subprocess.Popen(
                command, env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"}, stdout=output, stderr=output
            )
        if not wait_until(lambda log=log: b"ready" in log.read_bytes(), READY_S):  # type: ignore[misc]
            raise RuntimeError(f"{service}.{kind} did not become ready: {log.read_text()[-2000:]}")
    return processes


def _stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in processes.values():
        process.kill()
    for process in processes.values():
        process.wait(10)
