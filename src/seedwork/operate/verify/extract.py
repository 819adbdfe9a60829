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

import orjson
from sqlalchemy import Connection, Engine, Select, String, Table, cast, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from bff import tables as bff
from correo import tables as correo
from generador import tables as generador
from pulsaga.delivery import database
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import MEMORY_S, contract_of, first_id
from pulsaga.delivery.tables import dead_letter, event, failure, inbox, incident, outbox, unpack
from pulsaga.errors import Unavailable
from pulsaga.operate.verify.facts import Bounds, Facts, rows_of
from pulsaga.operate.verify.logs import Fact, Logs, snapshot_facts
from pulsaga.operate.verify.scope import EVER, Scope
from pulsaga.saga import tables as coordinator
from pulsaga.settings import Settings, Side
from pulsaga.system import System
from pulsaga.web.front_door import tables as front_door

PAGE = 1000
ORDER: tuple[tuple[str, Side], ...] = (
    ("bff", "read"),
    ("protools_saga", "read"),
    ("generador", "read"),
    ("correo", "read"),
    ("bff", "write"),
    ("generador", "write"),
    ("correo", "write"),
    ("protools_saga", "write"),
)
"""See above why in this order."""


@dataclass(frozen=True)
class Feed:
    """Bind a query to what its rows say."""

    query: Select[Any]
    facts: Callable[[Iterable[Any]], Iterator[Fact]]


def extract(system: System, settings: Settings, facts: Facts, scope: Scope) -> int:
    """Read every database once; return how many sagas are judged."""
    began = _coordinator_time(settings)
    for service, side in ORDER:
        with _Reading(settings, service, side) as connection:
            facts.add("clock", (service, side, database.now(connection, settings.clock_offset)))
            for feed in _feeds(system, service, side, scope):
                for table, row in feed.facts(_streamed(connection, feed.query)):
                    facts.add(table, row)
    cutoff = EVER if scope.live_s is None else began - scope.live_s
    bounds = Bounds(
        since="" if scope.since is None else first_id(scope.since),
        cutoff=cutoff,
        cutoff_id=first_id(cutoff - settings.clock_offset),  # ids know no test offset
        known=first_id(began - settings.clock_offset - MEMORY_S),
        ttl=float(settings.environment.get("REVEAL_TTL") or 86400),
    )
    return facts.complete(bounds)


def _coordinator_time(settings: Settings) -> float:
    with _Reading(settings, "protools_saga", "write") as connection:
        return database.now(connection, settings.clock_offset)


class _Reading:
    """Hold one snapshot of one database; whatever it refuses is Unavailable, by its name."""

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


def _feeds(system: System, service: str, side: Side, scope: Scope) -> Iterator[Feed]:
    own = _OWN[service, side](scope.floor)
    yield from (Feed(query, partial(_kept, table)) for table, query in own)
    yield Feed(_failures(), partial(_failure_facts, service, side))
    if side == "write":
        yield from _delivery(system, service, scope.floor)
    if (service, side) == ("protools_saga", "write"):
        yield from _sagas(system, scope.floor)


def _kept(table: str, rows: Iterable[Any]) -> Iterator[Fact]:
    return rows_of(table, rows)


def _columns(table: Table, *names: str) -> Select[Any]:
    return select(*(table.c[name] for name in names))


# --- what each database holds of its own: the table that the checks know it by, and the query


Own = Iterator[tuple[str, Select[Any]]]


def _bff_write(floor: float) -> Own:
    table = front_door.acceptance
    columns = _columns(table, "id", "subject", "actor", "idempotency_key", "created_at")
    yield "accepted", columns.where(_since(table, floor))
    yield "cancelled", _cancelled(floor)
    table = front_door.webhook
    columns = _columns(table, "id", "url", "status", "due_at", "created_at", "ended_at")
    yield "webhook", columns.where(_since(table, floor))


def _cancelled(floor: float) -> Select[Any]:
    table = front_door.cancellation
    return _columns(table, "id", "command_id", "at").where(_since(table, floor))


def _bff_read(floor: float) -> Own:
    table = front_door.command
    columns = _columns(table, "id", "version", "subject", "actor", "status", "reason_code")
    yield "view_command", columns.where(_since(table, floor))
    moves = front_door.command_move
    told = moves.c.version > 0, _since(moves, floor)
    counted = select(moves.c.id, func.count(), func.max(moves.c.version))
    yield "view_command_moves", counted.where(*told).group_by(moves.c.id)
    yield "view_password", _password_view("bff", bff.password, floor)


def _generador_write(floor: float) -> Own:
    table = generador.password
    columns = _columns(table, "username", "version", "command_id", "saga_id", "status", "changed_at", "mailed_at")
    yield "password", columns.where(table.c.changed_at >= floor)
    beside = generador.rotation
    yield "rotation", _columns(beside, "username", "saga_id", "status").where(beside.c.changed_at >= floor)


def _generador_read(floor: float) -> Own:
    yield "view_password", _password_view("generador", generador.password_view, floor)


def _password_view(service: str, table: Table, floor: float) -> Select[Any]:
    named = table.c.username, table.c.version, table.c.status, table.c.changed_at
    return select(_constant(service), *named).where(table.c.changed_at >= floor)


def _correo_read(floor: float) -> Own:
    table = correo.mail_view
    columns = _columns(table, "id", "version", "username", "recipient", "status")
    yield "view_mail", columns.where(_since(table, floor))


def _coordinator_read(floor: float) -> Own:
    table, moves = coordinator.saga_view, coordinator.saga_move
    columns = _columns(table, "id", "version", "status", "reason_code", "subject", "moved_at")
    yield "view_saga", columns.where(_since(table, floor))
    yield "view_moves", select(moves.c.id, func.count()).where(_since(moves, floor)).group_by(moves.c.id)


def _nothing(_floor: float) -> Own:
    yield from ()


_OWN: dict[tuple[str, Side], Callable[[float], Own]] = {
    ("bff", "write"): _bff_write,
    ("bff", "read"): _bff_read,
    ("generador", "write"): _generador_write,
    ("generador", "read"): _generador_read,
    ("correo", "write"): _nothing,
    ("correo", "read"): _correo_read,
    ("protools_saga", "write"): _nothing,
    ("protools_saga", "read"): _coordinator_read,
}


def _since(table: Table, floor: float) -> Any:
    return table.c.id >= first_id(floor)


def _constant(text: str) -> Any:
    return cast(text, String)


# --- what has to be read first: logs, snapshots, wires


def _sagas(system: System, floor: float) -> Iterator[Feed]:
    """Give the sagas that began since, and the log of those that moved since: to them a new command may belong."""
    names = ("id", "status", "seq", "subject", "target", "resend_at", "wake_at", "moved_at", "progress")
    for row, told in ((coordinator.saga, event), (coordinator.saga_archive, coordinator.event_archive)):
        yield Feed(_columns(row, *names).where(_since(row, floor)), snapshot_facts)
        log = _columns(told, "aggregate", "version", "id", "answers", "at", "wire")
        log = log.where(told.c.type == contract_of(system.sagas.moved).name).order_by(told.c.aggregate, told.c.version)
        if floor:
            of_moved = told.c.aggregate.in_(select(cast(row.c.id, String)).where(row.c.moved_at >= floor))
            log = log.where(or_(told.c.aggregate >= first_id(floor), of_moved))
        yield Feed(log, Logs(system).facts)


def _delivery(system: System, service: str, floor: float) -> Iterator[Feed]:
    told = _columns(event, "aggregate", "version", "id", "type", "answers", "at")
    told = told.where(event.c.at >= floor, event.c.type != contract_of(system.sagas.moved).name)
    yield Feed(told, lambda rows: rows_of("event", rows, service))
    met = select(inbox.c.id, inbox.c.hash.is_(None)).where(inbox.c.consumer == service, _since(inbox, floor))
    yield Feed(met, partial(_met_facts, service))
    yield Feed(_columns(outbox, "id", "topic", "due_at", "wire"), partial(_outbox_facts, service))
    letters = select(dead_letter.c.id, dead_letter.c.topic, dead_letter.c.outcome.is_(None))
    yield Feed(letters, lambda rows: rows_of("dead", rows, service))
    incidents = select(incident.c.kind, incident.c.subject, incident.c.closed_at.is_(None))
    yield Feed(incidents, lambda rows: rows_of("incident", rows, service))
    if service == "correo":
        yield Feed(_mails(floor), _mail_facts)


def _met_facts(service: str, rows: Iterable[Any]) -> Iterator[Fact]:
    for identifier, is_tombstone in rows:
        yield "met", (service, identifier, "tombstone" if is_tombstone else "handled")


def _outbox_facts(service: str, rows: Iterable[Any]) -> Iterator[Fact]:
    for identifier, topic, due_at, wire in rows:
        yield "outbox", (service, identifier, topic, unpack(wire).key, due_at)


def _failures() -> Select[Any]:
    return _columns(failure, "id", "topic", "due_at")


def _failure_facts(service: str, side: Side, rows: Iterable[Any]) -> Iterator[Fact]:
    return rows_of("failure", rows, service, side)


def _mails(floor: float) -> Select[Any]:
    table = correo.mail
    names = ("id", "context", "username", "recipient", "status", "claim", "due_at", "created_at", "ended_at")
    waiting = table.c.due_at.is_not(None)  # whatever its age: it tells whether the sender is alive
    return _columns(table, *names).where(or_(_since(table, floor), waiting))


def _mail_facts(rows: Iterable[Any]) -> Iterator[Fact]:
    for identifier, context, *rest in rows:
        yield "mail", (identifier, orjson.loads(context)["saga_id"], *rest)
