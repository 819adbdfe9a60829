"""Keep every service's two databases in memory, migrated once and emptied between schedules."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event
from tests.service.desk import KEYS

from pulsaga.service import Service
from pulsaga.settings import Settings, Side
from pulsaga_program.databases import SIDES, prepare_databases
from system import SYSTEM

Seam = Callable[[str], None]


class Disk(sqlite3.Connection):
    """One database; its owner hears of every commit before and after it, and may raise there."""

    hear: Seam = staticmethod(lambda _name: None)

    def commit(self) -> None:
        """Commit, as far as whoever listens lets it come to that."""
        self.hear("commit")
        super().commit()
        self.hear("committed")

    def close(self) -> None:
        """Roll back: the engine drops a connection on which somebody died, what was committed must outlive that."""
        self.rollback()

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Ask without the engine."""
        return self.execute(query, values).fetchall()


class Disks:
    """All databases of the system, by service and side."""

    def __init__(self, settings: Settings, services: dict[str, Service], disks: dict[tuple[str, Side], Disk]) -> None:
        self.settings, self.services, self._disks = settings, services, disks
        self.engines: dict[tuple[str, Side], Engine] = {key: _engine(disk) for key, disk in disks.items()}
        self._tables = {key: _tables_of(disk) for key, disk in disks.items()}

    def of(self, service: str, side: Side = "write") -> Disk:
        """Return one database."""
        return self._disks[service, side]

    def empty(self, clock: Callable[[], float], hear: Seam) -> None:
        """Forget everything; from now on this clock holds and `hear` hears of commits."""
        for key, disk in self._disks.items():
            disk.hear = lambda _name: None
            for table in self._tables[key]:
                disk.execute(f'DELETE FROM "{table}"')
            disk.create_function("julianday", 1, lambda _when: clock() / 86400.0 + 2440587.5)
            disk.hear = hear

    def close(self) -> None:
        """Let go of the memory."""
        for engine in self.engines.values():
            engine.dispose()
        for disk in self._disks.values():
            sqlite3.Connection.close(disk)


@contextmanager
def open_disks() -> Iterator[Disks]:
    """Migrate every database once, and copy it into memory."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.read({"PROTOOLS_HOME": home, "FAILURE_ATTEMPTS": "2", "MAIL_CLAIM": "30", **KEYS})
        services = {name: SYSTEM[name] for name in SYSTEM.names}
        copies: dict[tuple[str, Side], Disk] = {}
        for service in services.values():
            prepare_databases(SYSTEM, settings, service)
            copies |= {(service.name, side): _copy(settings, service.name, side) for side in SIDES}
        disks = Disks(settings, services, copies)
        try:
            yield disks
        finally:
            disks.close()


def _copy(settings: Settings, service: str, side: Side) -> Disk:
    path = Path(settings.database_url(service, side).removeprefix("sqlite:///"))
    disk = sqlite3.connect(":memory:", factory=Disk, isolation_level=None, check_same_thread=False)
    source = sqlite3.connect(path)
    source.backup(disk)
    source.close()
    return disk


def _engine(disk: Disk) -> Engine:
    engine = create_engine("sqlite://", creator=lambda: disk, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _tables_of(disk: Disk) -> list[str]:
    names = disk.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
    return [name for (name,) in names if not name.endswith("_version")]
