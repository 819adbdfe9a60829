"""Run Protools itself, every service as processes of its own: on Pulsar and PostgreSQL, or on nothing but files."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Engine, func, select

from bench import database, processes
from bench.contest import Run, Tally
from bench.counters import read_tally
from bench.load import Load, names
from bench.rig import Rig, rig
from pulsaga.delivery.database import open_database
from pulsaga.delivery.tables import outbox
from pulsaga_program.local.distribution import VERSION as PULSAR_VERSION
from system import SYSTEM

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
        packages = {name: version(name) for name in ("pulsaga", "pulsar-client", "psycopg", "sqlalchemy")}
        return {**packages, "pulsar": PULSAR_VERSION, "postgresql": database.version(self._rig.postgres)}

    def _names(self) -> Iterator[str]:
        return names()

    def _system(self) -> AbstractContextManager[Rig]:
        return rig(self._folder, ACCEPT_WITHIN=NOBODY_IS_REFUSED)

    def start(self) -> None:
        self._rig: Rig = self._stack.enter_context(self._system())
        self._load = Load(self._rig, self._names())
        self._stack.callback(self._load.close)
        self._outboxes = [open_database(self._rig.settings, name, "write", "owner") for name in SYSTEM.names]

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
        with self._workers_standing():
            waiting = self._load.preload(sagas)
        began = time.monotonic()
        return Run(sagas, self._load.finish(waiting, began))

    def over_http(self, sagas: int) -> Run | None:
        run = self._load.over_http(sagas)
        with self._workers_standing():
            accepted = self._load.posted(sagas)
        self._load.finish(dict(accepted["accepted"]), accepted["began"])
        return replace(run, accepted_per_s=sagas / (accepted["ended"] - accepted["began"]))

    @contextmanager
    def _workers_standing(self) -> Iterator[None]:
        workers = {name: process.pid for name, process in self._rig.processes.items() if name.endswith(".worker")}
        processes.pause(workers)
        try:
            yield
        finally:
            processes.resume(workers)


class Embedded(Protools):
    """The same on the embedded broker and SQLite files."""

    name = "Protools, embedded"
    settings: Mapping[str, str] = {
        "processes": "one of each kind, all services apart",
        "broker": "embedded",
        "ACCEPT_WITHIN": NOBODY_IS_REFUSED,
        "SQLite": "a write and a read file for each service, synchronous=FULL",
    }

    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in ("pulsaga", "sqlalchemy")} | {"sqlite": sqlite3.sqlite_version}

    def tally(self) -> Tally:
        """Count nothing: SQLite does not."""
        return Tally()

    def _system(self) -> AbstractContextManager[Rig]:
        return rig(self._folder, embedded=True, ACCEPT_WITHIN=NOBODY_IS_REFUSED)


def _depth(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(outbox)).scalar_one())
