"""Run Restate: a server with its own durable log, which calls the service over HTTP/2 and journals every step."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3

from bench.contest import Run, Tally
from bench.database import bench_postgres, create_database, database_tally, version
from bench.peers import install
from bench.peers.program import PROGRAMS, Program, end, run_on
from pulsaga_program.local.process import free_ports, wait_until

PROCESSES = 2
CONNECTIONS = 8
IN_FLIGHT = 256
SERVER = {
    "RESTATE_DEFAULT_NUM_PARTITIONS": "4",
    "RESTATE_WORKER__INVOKER__HTTP2_STREAMS_PER_CONNECTION_LIMIT": "16",
    "RESTATE_BIFROST__DEFAULT_PROVIDER": "replicated",
    "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "false",
    "RESTATE_LOG_FILTER": "warn",
    "RESTATE_DISABLE_TELEMETRY": "true",
}
READY_S = 60


class Restate:
    """Ask through the HTTP ingress, which is the door Restate has; so both rates are the same."""

    name = "Restate"
    settings = {
        **SERVER,
        "service": f"hypercorn, {PROCESSES} processes, {CONNECTIONS} connections to PostgreSQL each",
        "handler": "restate.Service, each step a ctx.run; no idempotency key, which would cost more",
    }

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres = bench_postgres(folder / "postgres")
        self._processes: dict[str, subprocess.Popen[Any]] = {}
        self._client: Program | None = None

    def versions(self) -> Mapping[str, str]:
        sdk = install.RESTATE[0].partition("==")[2]
        return {"restate-server": install.RESTATE_SERVER, "restate-sdk": sdk, "postgresql": version(self._postgres)}

    def start(self) -> None:
        self._postgres.start()
        url = create_database(self._postgres, "restate")
        ingress, admin, node, service = free_ports(4)
        self._spawn("server", [install.restate_server()], self._environment(ingress, admin, node))
        arguments = [url, service, PROCESSES, CONNECTIONS]
        self._spawn("service", [install.python("restate"), PROGRAMS / "restate_service.py", *map(str, arguments)], {})
        _register(f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{service}")
        client_log = self._folder / "client.log"
        self._client = Program("restate", "restate_client", [f"http://127.0.0.1:{ingress}"], client_log)
        self._client.await_ready()

    def _environment(self, ingress: int, admin: int, node: int) -> dict[str, str]:
        return {
            **SERVER,
            "RESTATE_BASE_DIR": str(self._folder / "data"),
            "RESTATE_NODE_NAME": "bench",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        }

    def _spawn(self, name: str, command: list[Any], environment: dict[str, str]) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=PROGRAMS, env={**os.environ, **environment}, stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self._client:
            self._client.stop()
        for process in self._processes.values():
            end(process)
        self._postgres.remove()

    def pids(self) -> Mapping[str, int]:
        client = {"client": self._client.pid} if self._client else {}
        ours = {name: process.pid for name, process in reversed(self._processes.items())}
        return {**client, **ours, "postgres": self._postgres.pid() or 0}

    def tally(self) -> Tally:
        return database_tally(self._postgres)

    def depth(self) -> int | None:
        return None

    def sustained(self, sagas: int, in_flight: int) -> Run:
        assert self._client
        return run_on([self._client], sagas, in_flight)

    def one_at_a_time(self, sagas: int) -> list[float]:
        assert self._client
        return run_on([self._client], sagas, 1).latencies

    def preloaded(self, sagas: int) -> Run | None:  # noqa: ARG002 - part of the protocol
        return None

    def over_http(self, sagas: int) -> Run | None:
        return self.sustained(sagas, IN_FLIGHT)


def _register(admin: str, service: str) -> None:
    """Tell the server where the service is, as soon as both are there."""
    http = urllib3.PoolManager(timeout=10, retries=False)
    answers: list[Any] = []

    def registered() -> bool:
        try:
            answers.append(http.request("POST", f"{admin}/deployments", json={"uri": service}))
        except urllib3.exceptions.HTTPError as error:
            answers.append(error)
            return False
        return bool(answers[-1].status in (200, 201))

    if not wait_until(registered, READY_S):
        last = answers[-1]
        raise RuntimeError(f"Restate does not know the service: {json.dumps(str(getattr(last, 'data', last)))}")
