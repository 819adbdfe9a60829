"""Run Protools itself: every service as processes of its own, on a real Pulsar and a real PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Engine, func, select

from bench import database, processes
from bench.contest import Run, Tally
from bench.counters import read_tally
from bench.load import Load
from bench.rig import Rig, rig
from protools.local.distribution import VERSION as PULSAR_VERSION
from protools.services import SERVICES
from seedwork.database import open_database
from seedwork.delivery import outbox

NOBODY_IS_REFUSED = "3600"
"""Seconds of ACCEPT_WITHIN: what is measured is how many end, also where admission would let fewer in."""


class Protools:
    """Accept in this process at full speed, or over HTTP through the front door."""

    name = "Protools"
    settings: Mapping[str, str] = {
        "processes": "one of each kind, all services apart",
        "Pulsar": "journalSyncData=true, batch-index acknowledgement",
        "ACCEPT_WITHIN": NOBODY_IS_REFUSED,
        "PostgreSQL": "a write and a read database for each service",
    }

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._outboxes: list[Engine] = []

    def versions(self) -> Mapping[str, str]:
        packages = {name: version(name) for name in ("protools", "pulsar-client", "psycopg", "sqlalchemy")}
        return {**packages, "pulsar": PULSAR_VERSION, "postgresql": database.version(self._rig.postgres)}

    def start(self) -> None:
        self._rig: Rig = self._stack.enter_context(rig(self._folder, ACCEPT_WITHIN=NOBODY_IS_REFUSED))
        self._load = Load(self._rig)
        self._stack.callback(self._load.close)
        self._outboxes = [open_database(self._rig.settings, name, "write", "owner") for name in SERVICES]

    def stop(self) -> None:
        self._stack.close()

    def pids(self) -> Mapping[str, int]:
        return {"client": os.getpid(), "HTTP client": self._load.poster_pid, **self._rig.pids()}

    def tally(self) -> Tally:
        """Read the totals, without the bench's own look-ups in the read database."""
        tally = read_tally(self._rig)
        return replace(tally, statements=(tally.statements or 0) - self._load.watch.reads)

    def depth(self) -> int | None:
        return sum(map(_depth, self._outboxes))

    def sustained(self, sagas: int, in_flight: int) -> Run:
        return self._load.sustained(sagas, in_flight)

    def one_at_a_time(self, sagas: int) -> list[float]:
        return self._load.sustained(sagas, 1).latencies

    def preloaded(self, sagas: int) -> Run | None:
        workers = {name: process.pid for name, process in self._rig.processes.items() if name.endswith(".worker")}
        processes.pause(workers)
        try:
            waiting = self._load.preload(sagas)
        finally:
            began = time.monotonic()
            processes.resume(workers)
        return Run(sagas, self._load.finish(waiting, began))

    def over_http(self, sagas: int) -> Run | None:
        return self._load.over_http(sagas)


def _depth(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(outbox)).scalar_one())
