"""Run Temporal: a server that keeps workflow histories in PostgreSQL and hands out their tasks to workers."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from bench.database import create_database, version
from bench.peers import install
from bench.peers.program import Library, Program, end
from pulsaga_program.local import LocalPostgres
from pulsaga_program.local.process import port_is_free

PROCESSES = 2
SLOTS = 200
SCHEMAS = {"temporal": "postgresql/v12/temporal", "temporal_visibility": "postgresql/v12/visibility"}
SHARDS = 4
SERVICES = ("frontend", "history", "matching", "worker")
LOW_PORTS = range(12_000, 30_000)
"""Temporal keeps a membership port in a column of 16 bits, so the system's ephemeral ones do not do."""
DYNAMIC = {
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    "system.enableEagerWorkflowStart": "true",
    "system.enableActivityEagerExecution": "true",
}


class Temporal(Library):
    """Run each step as an activity, or as a local activity when `local` says so."""

    def __init__(self, folder: Path, *, local: bool) -> None:
        super().__init__(folder)
        self.name = "Temporal, local activities" if local else "Temporal"
        self.settings = {
            **{key: str(value) for key, value in DYNAMIC.items()},
            "numHistoryShards": str(SHARDS),
            "workers": f"{PROCESSES} processes, each with the client and a task queue of its own, {SLOTS} slots",
            "workflow runner": "unsandboxed",
            "steps": "local activities" if local else "activities",
        }
        self._kind = "local-activities" if local else "activities"
        self._server: subprocess.Popen[Any] | None = None

    def versions(self) -> Mapping[str, str]:
        sdk = install.TEMPORAL[0].partition("==")[2]
        return {"temporal-server": install.TEMPORAL_SERVER, "temporalio": sdk, "postgresql": version(self._postgres)}

    def start(self) -> None:
        self._postgres.start()
        for database, schema in SCHEMAS.items():
            create_database(self._postgres, database)
            _lay_out(self._postgres, database, schema)
        port = self._start_server()
        url = create_database(self._postgres, "work")
        for number in range(PROCESSES):
            arguments = (f"127.0.0.1:{port}", url, f"queue-{number}", SLOTS, self._kind)
            program = Program("temporal", "temporal_program", arguments, self._folder / f"program-{number}.log")
            self._programs.append(program)
            program.await_ready()

    def _start_server(self) -> int:
        ports = _low_ports(2 * len(SERVICES))
        (self._folder / "dynamic.yaml").write_text("".join(f"{k}:\n- value: {v}\n" for k, v in DYNAMIC.items()))
        (self._folder / "bench.yaml").write_text(_configuration(self._postgres, ports, self._folder))
        command = [
            str(install.temporal("server")),
            "--root",
            str(self._folder),
            "--config",
            ".",
            "--env",
            "bench",
            "start",
        ]
        with (self._folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(command, cwd=self._folder, env={**os.environ}, stdout=log, stderr=log)
        return ports[0]

    def stop(self) -> None:
        for program in self._programs:
            program.stop()
        if self._server:
            end(self._server)
        self._postgres.remove()

    def pids(self) -> Mapping[str, int]:
        ours = {f"process {number}": program.pid for number, program in enumerate(self._programs)}
        server = {"server": self._server.pid} if self._server else {}
        return {**ours, **server, "postgres": self._postgres.pid() or 0}


def _low_ports(count: int) -> list[int]:
    drawn = random.sample(LOW_PORTS, 10 * count)
    return [port for port in drawn if port_is_free(port)][:count]


def _lay_out(postgres: LocalPostgres, database: str, schema: str) -> None:
    url = make_url(postgres.url)
    tool = [str(install.temporal("sql")), "--plugin", "postgres12", "--ep", str(url.host), "-p", str(url.port)]
    login = ["-u", str(url.username), "--pw", str(url.password), "--db", database]
    for command in (["setup-schema", "-v", "0.0"], ["update-schema", "--schema-name", schema]):
        subprocess.run([*tool, *login, *command], check=True, capture_output=True)


def _configuration(postgres: LocalPostgres, ports: list[int], folder: Path) -> str:
    """Write the server's static configuration: all four services in one process, nothing but loopback."""
    services = "".join(
        f"  {name}:\n    rpc: {{grpcPort: {grpc}, membershipPort: {membership}, bindOnLocalHost: true}}\n"
        for name, grpc, membership in zip(SERVICES, ports[::2], ports[1::2], strict=True)
    )
    return f"""\
log: {{stdout: true, level: error}}
persistence:
  defaultStore: main
  visibilityStore: visibility
  numHistoryShards: {SHARDS}
  datastores:
    main: {{sql: {_store(postgres, "temporal", 40)}}}
    visibility: {{sql: {_store(postgres, "temporal_visibility", 10)}}}
global:
  membership: {{maxJoinDuration: 30s, broadcastAddress: 127.0.0.1}}
services:
{services}clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation:
    active: {{enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "127.0.0.1:{ports[0]}"}}
dcRedirectionPolicy: {{policy: noop}}
dynamicConfigClient: {{filepath: {folder / "dynamic.yaml"}, pollInterval: 10s}}
"""


def _store(postgres: LocalPostgres, database: str, connections: int) -> str:
    url = make_url(postgres.url)
    return (
        f'{{pluginName: postgres12, databaseName: {database}, connectAddr: "{url.host}:{url.port}", '
        f'connectProtocol: tcp, user: {url.username}, password: "{url.password}", '
        f"maxConns: {connections}, maxIdleConns: {connections}, maxConnLifetime: 1h}}"
    )
