"""Close dead letters that something newer has made pointless."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from pulsaga.delivery import database
from pulsaga.delivery.tables import LETTERS, audit, dead_letter, dead_letter_archive, incident
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.errors import DomainError
from pulsaga.operate.acting import Act, Runtimes, Signature
from pulsaga.saga.happenings import Operator
from pulsaga.saga.log import Progress


def closing(letter_ids: Sequence[str], now: float, outcome: str = "superseded") -> Iterator[Any]:
    """Yield the statements that close the open letters of these ids, and their incidents; each returns ids."""
    letters = update(dead_letter).where(dead_letter.c.id.in_(letter_ids), dead_letter.c.outcome.is_(None))
    yield letters.values(outcome=outcome, ended_at=now).returning(dead_letter.c.id)
    of_letters = (incident.c.kind == "dead-letter") & incident.c.closed_at.is_(None)
    known = update(incident).where(incident.c.subject.in_(letter_ids), of_letters)
    yield known.values(closed_at=now).returning(incident.c.id)


def newest(tx: Connection, letter_id: str) -> Row | None:
    """Return the newest letter of an id, locked; one that was discarded lies in the archive."""
    found: list[Row] = []
    for table in LETTERS:
        letters = select(table).where(table.c.id == letter_id).order_by(table.c.at.desc())
        found += map(dict, tx.execute(letters.limit(1).with_for_update()).mappings())
    return max(found, key=lambda row: row["at"], default=None)


def archive_letters(tx: Connection, which: ColumnElement[bool]) -> int:
    """Move letters that were dealt with to the archive; return how many."""
    rows = select(dead_letter).where(which)
    tx.execute(insert(dead_letter_archive).from_select([column.name for column in dead_letter.columns], rows))
    return tx.execute(delete(dead_letter).where(which)).rowcount


def close_letters_of(runtimes: Runtimes, progress: Progress, wish: Operator) -> None:
    """Close the letters of the failed commands that a saga stands at, so that nobody replays one beside what comes now.

    It is called while the saga's row is locked, as a replay holds it too: one of the two comes first. Raise
    DomainError when the letter was replayed already and its answer is still awaited.
    """
    for command_id, service in _failed_commands(progress):
        _close_letter(runtimes, command_id, service, wish)


def _close_letter(runtimes: Runtimes, command_id: str, service: str, wish: Operator) -> None:
    by = Act(Signature(wish.who, wish.why), f"superseded by {wish.action}", command_id)
    assert service != runtimes.system.name, "the coordinator sends itself no commands"
    with runtimes.runtime(service).write.begin() as tx:
        row = newest(tx, command_id)
        if row and row["outcome"] == "replayed":
            at = rfc3339(row["ended_at"])
            raise DomainError("replayed", f"command {command_id} was replayed at {at}: its answer is awaited")
        if row and row["outcome"] is None:
            now = database.now(tx, runtimes.settings.clock_offset)
            for statement in closing([command_id], now):
                tx.execute(statement)
            tx.execute(audit.insert().values(by.row(now)))


def _failed_commands(progress: Progress) -> Iterator[tuple[str, str]]:
    """Yield id and receiver of the dead commands that the saga waits for."""
    for state in progress.all_steps.values():
        if state.status == "undoing" and state.undo_answer == "failed":
            yield state.undo_id, state.undo.partition(".")[0]
        if not progress.compensating and state.status == "failed":
            yield state.command_id, state.command.partition(".")[0]
