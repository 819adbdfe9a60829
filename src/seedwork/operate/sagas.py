"""Look at sagas in the coordinator's own data, and move them by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from sqlalchemy import ColumnElement, CompoundSelect, Connection, Select, delete, or_, select, union, union_all

from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import contract_of, first_id, id_time
from pulsaga.delivery.tables import LETTERS, audit, event, inbox, incident, unpack
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, rfc3339
from pulsaga.errors import Undecodable
from pulsaga.operate import superseding
from pulsaga.operate.acting import Act, Runtimes, Signature
from pulsaga.saga.happenings import Action, Operator
from pulsaga.saga.kept import InTransaction, read_progress
from pulsaga.saga.log import ACTIVE, TERMINAL, Entry, Progress, Status
from pulsaga.saga.snapshots import entries_of, load_progress, shown_steps
from pulsaga.saga.tables import event_archive, saga, saga_archive, saga_view

NO_ATTEMPT = ("attempt", 0)
MOST_OF_A_SUBJECT = 10_000
"""Sagas of one subject that are looked at, the newest first."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which sagas to list: all of these must hold. `since` is when they were asked for, in Unix seconds."""

    status: Status | None = None
    workflow: str | None = None
    """Name, or name@version."""
    subject: str | None = None
    since: float = 0.0
    limit: int = 100


def sagas(runtimes: Runtimes, wanted: Wanted) -> list[dict[str, Any]]:
    """Return sagas: of a status that is no end the longest unmoved first, else the newest first.

    They are as their own rows say; the sagas of a subject are found by the read model, which may be a moment behind.
    """
    query = query_of(wanted)
    if wanted.subject is not None:
        query = query.where(saga.c.id.in_(_ids_about(runtimes, wanted)))
    with runtimes.coordinator.write.connect() as connection:
        return [_summary(connection, dict(row)) for row in connection.execute(query).mappings().all()]


def query_of(wanted: Wanted) -> Select[Any]:
    """Select the sagas that are wanted, whatever they are about."""
    by_age = wanted.status is None or wanted.status in TERMINAL
    query = select(saga).where(*_conditions(wanted)).limit(wanted.limit)
    return query.order_by(saga.c.id.desc() if by_age else saga.c.moved_at)


def query_about(subject: str, since: float) -> Select[Any]:
    """Select the ids of the sagas about a subject from the read model."""
    about = (saga_view.c.subject == subject) & (saga_view.c.id >= first_id(since))
    return select(saga_view.c.id).where(about).order_by(saga_view.c.id.desc()).limit(MOST_OF_A_SUBJECT)


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.status:
        yield saga.c.status == wanted.status
    if wanted.status in ACTIVE:
        yield saga.c.wake_at.is_not(None)  # so says a check of the table, and by it they are found
    if wanted.workflow:
        yield or_(
            saga.c.workflow == wanted.workflow, saga.c.workflow.startswith(f"{wanted.workflow}@", autoescape=True)
        )
    if wanted.since:
        yield saga.c.id >= first_id(wanted.since)


def _ids_about(runtimes: Runtimes, wanted: Wanted) -> list[str]:
    assert wanted.subject is not None
    engine = open_database(runtimes.settings, runtimes.system.name, "read", "reader")
    try:
        with engine.connect() as connection:
            return list(connection.execute(query_about(wanted.subject, wanted.since)).scalars())
    finally:
        engine.dispose()


def _summary(connection: Connection, row: Row) -> dict[str, Any]:
    progress = read_progress(connection, row)
    return {
        "id": row["id"],
        "workflow": row["workflow"],
        "subject": row["subject"],
        "status": row["status"],
        "reason": ": ".join(filter(None, progress.reason)),
        "moved_at": rfc3339(row["moved_at"]),
        "wake_at": row["wake_at"] and rfc3339(row["wake_at"]),
        "steps": shown_steps(progress.all_steps),
    }


@dataclass(frozen=True)
class Seen:
    """A saga as it stands, with its log, oldest move first, and its open incidents."""

    summary: dict[str, Any]
    progress: Progress
    moves: list[list[Entry]]
    incidents: list[dict[str, Any]]


def look(runtimes: Runtimes, saga_id: str | None) -> Seen | None:
    """Look at a saga and its log; return None when there is none of this id."""
    if not saga_id or not _is_id(saga_id):
        return None
    open_ones = select(incident).where(incident.c.subject == saga_id, incident.c.closed_at.is_(None))
    with runtimes.coordinator.write.connect() as connection:
        row = find_row(connection, saga_id)
        moves = moves_of(runtimes, connection, saga_id)
        incidents = [_shown(dict(found)) for found in connection.execute(open_ones).mappings()]
        if row is None:
            return None
        return Seen(_summary(connection, row), read_progress(connection, row), moves, incidents)


def log_of(runtimes: Runtimes, saga_id: str | None) -> dict[str, Any] | None:
    """Return where a saga stands, with its log, oldest entry first, and its open incidents; None when there is none."""
    seen = look(runtimes, saga_id)
    if seen is None:
        return None
    log = [_shown(entry._asdict()) for move in seen.moves for entry in move]
    return seen.summary | {"log": log, "incidents": seen.incidents}


def progress_of(runtimes: Runtimes, saga_id: str) -> Progress | None:
    """Return where a saga stands; None when there is none of this id."""
    if not _is_id(saga_id):
        return None
    with runtimes.coordinator.write.connect() as connection:
        row = find_row(connection, saga_id)
        return read_progress(connection, row) if row else None


def find_row(connection: Connection, saga_id: str) -> Row | None:
    """Return a saga's row, of the archive if it was moved there."""
    for table in (saga, saga_archive):
        if row := connection.execute(select(table).where(table.c.id == saga_id)).mappings().first():
            return dict(row)
    return None


def _moves(runtimes: Runtimes, saga_id: str) -> CompoundSelect[Any]:
    kept = (
        select(told.c.wire, told.c.version).where(
            told.c.aggregate == saga_id, told.c.type == contract_of(runtimes.system.sagas.moved).name
        )
        for told in (event, event_archive)
    )
    return union_all(*kept).order_by("version")


def moves_of(runtimes: Runtimes, connection: Connection, saga_id: str) -> list[list[Entry]]:
    """Read a saga's log, move by move."""
    codec, schemas, moves = runtimes.coordinator.codec, CommittedSchemas(), list[list[Entry]]()
    for wire in map(unpack, connection.execute(_moves(runtimes, saga_id)).scalars().all()):
        moved = codec.decode(runtimes.system.sagas.moved, wire.body, schemas[wire.properties["ce_dataschema"]])
        moves.append(entries_of(moved))
    return moves


def _shown(row: Row) -> dict[str, Any]:
    """Put the time first, write times as RFC 3339, leave out what does not apply."""
    told = {name: value for name, value in row.items() if value not in (None, "", {}) and (name, value) != NO_ATTEMPT}
    times = {name: rfc3339(value) for name, value in told.items() if name in ("at", "wake_at")}
    return {"at": times["at"], **told, **times}


def _is_id(text: str) -> bool:
    try:
        return id_time(text) is not None
    except Undecodable:
        return False


def act(runtimes: Runtimes, saga_id: str, action: Action, by: Signature) -> bool:
    """Move a saga by hand: log, row, commands and audit in one transaction, then publish.

    Return False when another operator has to agree first. Raise DomainError for what the saga cannot do.
    """
    if not _is_id(saga_id):
        raise click.UsageError(f"there is no saga {saga_id}")
    wish, wanted = Operator(action, by.who, by.why), Act(by, action, saga_id)

    def work(uow: UnitOfWork) -> bool:
        uow.load([(saga, saga_id)])
        row = uow.get(saga, saga_id) or find_row(uow.tx, saga_id)
        if row is None:
            raise click.UsageError(f"there is no saga {saga_id}")
        runtimes.system.sagas.next_move(uow, row, wish)
        agreed = wanted.is_agreed(uow.values(wanted.requests(uow.now)), runtimes.settings.operator_approvals)
        if agreed:
            _carry_out(runtimes, uow, row, wish)
        uow.append(audit, wanted.row(uow.now) if agreed else wanted.request_row(uow.now))
        return agreed

    return runtimes.coordinator.transactions.run(work)


def _carry_out(runtimes: Runtimes, uow: UnitOfWork, row: Row, wish: Operator) -> None:
    if wish.action == "resume":
        _let_go_of_lost_replies(runtimes, uow, row["id"])
    elif wish.action != "pause":
        progress = load_progress(row, InTransaction(uow, row["id"]))
        superseding.close_letters_of(runtimes, progress, wish)
    runtimes.system.sagas.operate(uow, row["id"], wish)


def _let_go_of_lost_replies(runtimes: Runtimes, uow: UnitOfWork, saga_id: str) -> None:
    """Take the repeat of a reply that became a dead letter here: it comes again under the same id."""
    own = f"{runtimes.system.name}."
    lost = (select(t.c.id).where(t.c.saga_id == saga_id, ~t.c.topic.startswith(own)) for t in LETTERS)
    ids = uow.values(union(*lost))
    uow.values(delete(inbox).where(inbox.c.consumer == runtimes.system.name, inbox.c.id.in_(ids)).returning(inbox.c.id))
    for statement in superseding.closing(ids, uow.now):
        uow.values(statement)
