"""Stream what the checks need out of every service's databases, read-only and in bounded memory.

The databases are read one after the other while the system may be moving. The order makes that harmless under `--live`:
read models first, so that what they show was written before its write side is read; then the front door and the
workers; the coordinator last. It knows every command before a worker can have it, and a saga that moved meanwhile is
seen as young and not judged. So nothing that is read later can have appeared between two readings unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Select, String, Table, cast, or_, select
from sqlalchemy.exc import SQLAlchemyError

from pulsaga.delivery import database
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import MEMORY_S, first_id
from pulsaga.delivery.tables import LETTERS, event, failure, inbox, incident, outbox, pause, unpack
from pulsaga.errors import Unavailable
from pulsaga.operate.verify.catalogue import Catalogue
from pulsaga.operate.verify.check import FactTable, Floor
from pulsaga.operate.verify.facts import Bounds, Facts, rows_of
from pulsaga.operate.verify.logs import Fact, Logs, branch_facts, snapshot_facts
from pulsaga.operate.verify.scope import EVER, Scope
from pulsaga.saga.tables import event_archive, saga, saga_archive, saga_branch, saga_branch_archive, slot
from pulsaga.settings import Settings, Side

PAGE = 1000


@dataclass(frozen=True)
class Feed:
    """A query, and what its rows say."""

    query: Select[Any]
    facts: Callable[[Iterable[Any]], Iterator[Fact]]


def extract(settings: Settings, catalogue: Catalogue, facts: Facts, scope: Scope) -> int:
    """Read every database once; return how many sagas are judged."""
    began, floor = _coordinator_time(settings, catalogue), Floor(scope.floor)
    for service, side in catalogue.databases():
        with _Reading(settings, service, side) as connection:
            facts.add("clock", (service, side, database.now(connection, settings.clock_offset)))
            for feed in _feeds(catalogue, service, side, floor):
                for table, row in feed.facts(_streamed(connection, feed.query)):
                    facts.add(table, row)
    cutoff = EVER if scope.live_s is None else began - scope.live_s
    bounds = Bounds(
        since="" if scope.since is None else first_id(scope.since),
        cutoff=cutoff,
        cutoff_id=first_id(cutoff - settings.clock_offset),  # ids know no test offset
        known=first_id(began - settings.clock_offset - MEMORY_S),
    )
    return facts.complete(bounds)


def _coordinator_time(settings: Settings, catalogue: Catalogue) -> float:
    with _Reading(settings, catalogue.coordinator, "write") as connection:
        return database.now(connection, settings.clock_offset)


class _Reading:
    """One snapshot of one database; whatever it refuses is Unavailable, by its name."""

    def __init__(self, settings: Settings, service: str, side: Side) -> None:
        self._name = f"{service}'s {side} database"
        self._engine: Engine = open_database(settings, service, side, "reader")

    def __enter__(self) -> Connection:
        try:
            self._connection = self._engine.connect()
            if self._engine.dialect.name == "postgresql":
                self._connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise self._refused(error) from error
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._connection.close()
        self._engine.dispose()
        if isinstance(error, SQLAlchemyError):
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> Unavailable:
        return Unavailable(f"{self._name} cannot be read: {str(error).partition(chr(10))[0]}")


def _streamed(connection: Connection, query: Select[Any]) -> Iterator[Any]:
    options = {"stream_results": True, "yield_per": PAGE}
    yield from connection.execute(query, execution_options=options)


def _feeds(catalogue: Catalogue, service: str, side: Side, floor: Floor) -> Iterator[Feed]:
    for table in catalogue.facts_of(service, side):
        yield Feed(table.query(floor), partial(_kept, table))
    yield Feed(_columns(failure, "id", "topic", "due_at"), lambda rows: rows_of("failure", rows, service, side))
    if side == "write":
        yield from _delivery(service, floor, catalogue.moves)
    if (service, side) == (catalogue.coordinator, "write"):
        yield from _sagas(catalogue, floor)


def _kept(table: FactTable, rows: Iterable[Any]) -> Iterator[Fact]:
    for row in rows:
        yield table.name, tuple(table.row(row))


def _columns(table: Table, *names: str) -> Select[Any]:
    return select(*(table.c[name] for name in names))


# --- what has to be read first: logs, snapshots, wires


def _sagas(catalogue: Catalogue, floor: Floor) -> Iterator[Feed]:
    """Give the sagas that began since, and the log of those that moved since: to them a new command may belong."""
    names = ("id", "status", "seq", "subject", "target", "resend_at", "wake_at", "moved_at", "progress")
    of_branch = ("id", "saga_id", "target", "resend_at", "wake_at", "state")
    yield Feed(_columns(slot, "id", "saga_id", "state").where(slot.c.saga_id >= floor.id), partial(rows_of, "slot"))
    archived = (saga_archive, saga_branch_archive, event_archive)
    for row, branch, told in ((saga, saga_branch, event), archived):
        yield Feed(_columns(row, *names).where(row.c.id >= floor.id), snapshot_facts)
        yield Feed(_columns(branch, *of_branch).where(branch.c.saga_id >= floor.id), branch_facts)
        log = _columns(told, "aggregate", "version", "id", "answers", "at", "wire")
        log = log.where(told.c.type == catalogue.moves).order_by(told.c.aggregate, told.c.version)
        if floor.at:
            of_moved = told.c.aggregate.in_(select(cast(row.c.id, String)).where(row.c.moved_at >= floor.at))
            log = log.where(or_(told.c.aggregate >= floor.id, of_moved))
        yield Feed(log, Logs(catalogue.system).facts)


def _delivery(service: str, floor: Floor, moved: str) -> Iterator[Feed]:
    told = _columns(event, "aggregate", "version", "id", "type", "answers", "at")
    told = told.where(event.c.at >= floor.at, event.c.type != moved)
    yield Feed(told, lambda rows: rows_of("event", rows, service))
    met = select(inbox.c.id, inbox.c.hash.is_(None)).where(inbox.c.consumer == service, inbox.c.id >= floor.id)
    yield Feed(met, partial(_met_facts, service))
    yield Feed(_columns(pause, "topic", "at"), lambda rows: rows_of("paused", rows, service))
    yield Feed(_columns(outbox, "id", "topic", "due_at", "wire"), partial(_outbox_facts, service))
    for table in LETTERS:
        letters = select(table.c.id, table.c.topic, table.c.outcome.is_(None))
        yield Feed(letters, lambda rows: rows_of("dead", rows, service))
    incidents = select(incident.c.kind, incident.c.subject, incident.c.closed_at.is_(None))
    yield Feed(incidents, lambda rows: rows_of("incident", rows, service))


def _met_facts(service: str, rows: Iterable[Any]) -> Iterator[Fact]:
    for identifier, is_tombstone in rows:
        yield "met", (service, identifier, "tombstone" if is_tombstone else "handled")


def _outbox_facts(service: str, rows: Iterable[Any]) -> Iterator[Fact]:
    for identifier, topic, due_at, wire in rows:
        yield "outbox", (service, identifier, topic, unpack(wire).key, due_at)
