"""Look at sagas in the coordinator's own data, and move them by hand."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import CompoundSelect, Connection, delete, select, union_all

from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.messages import contract_of, id_time
from pulsaga.delivery.tables import audit, dead_letter, event, inbox, incident, unpack
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, rfc3339
from pulsaga.errors import Undecodable
from pulsaga.operate import superseding
from pulsaga.operate.acting import Act, Runtimes, Signature
from pulsaga.saga.happenings import Action, Operator
from pulsaga.saga.kept import InTransaction, read_progress
from pulsaga.saga.log import Entry, Progress
from pulsaga.saga.snapshots import entries_of, load_progress, shown_steps
from pulsaga.saga.tables import event_archive, saga, saga_archive

NO_ATTEMPT = ("attempt", 0)


def sagas(runtimes: Runtimes, status: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the sagas of one status, or of any, the longest unmoved first."""
    query = select(saga).order_by(saga.c.moved_at).limit(limit)
    with runtimes.coordinator.write.connect() as connection:
        rows = connection.execute(query.where(saga.c.status == status) if status else query).mappings().all()
        return [_summary(connection, dict(row)) for row in rows]


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


def log_of(runtimes: Runtimes, saga_id: str | None) -> dict[str, Any] | None:
    """Return where a saga stands, with its log, oldest entry first, and its open incidents; None when there is none."""
    if not saga_id or not _is_id(saga_id):
        return None
    open_ones = select(incident).where(incident.c.subject == saga_id, incident.c.closed_at.is_(None))
    with runtimes.coordinator.write.connect() as connection:
        row = find_row(connection, saga_id)
        moves = moves_of(runtimes, connection, saga_id)
        incidents = [_shown(dict(found)) for found in connection.execute(open_ones).mappings()]
        if row is None:
            return None
        log = [_shown(entry._asdict()) for move in moves for entry in move]
        return _summary(connection, row) | {"log": log, "incidents": incidents}


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
    reply = ~dead_letter.c.topic.startswith(f"{runtimes.system.name}.")
    lost = select(dead_letter.c.id).where(dead_letter.c.saga_id == saga_id, reply)
    ids = uow.values(lost)
    uow.values(delete(inbox).where(inbox.c.consumer == runtimes.system.name, inbox.c.id.in_(ids)).returning(inbox.c.id))
    for statement in superseding.closing(ids, uow.now):
        uow.values(statement)
