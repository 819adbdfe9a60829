"""Move finished sagas with their logs, and dead letters that were dealt with, into archive tables beside theirs.

Nothing is dropped, and `protools verify` reads the archive as well. A saga that somebody still has to look at stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog
from sqlalchemy import Column, ColumnElement, Connection, Engine, String, Table, cast, delete, insert, select, tuple_

from pulsaga.delivery import database
from pulsaga.delivery.blame import by_halves
from pulsaga.delivery.database import open_database
from pulsaga.delivery.forgetting import KEPT_S
from pulsaga.delivery.messages import first_id
from pulsaga.delivery.tables import dead_letter, event, incident
from pulsaga.operate.superseding import archive_letters
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.tables import event_archive, saga, saga_archive, saga_branch, saga_branch_archive
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.text import describe
from pulsaga.values import UNITS

log = structlog.get_logger()
PAGE = 500
"""Sagas that are moved in one transaction."""
SHORTEST_S = KEPT_S
"""A saga may be archived once no message to it can be new: a late one would not find it."""


def archive(system: System, settings: Settings, older_than_s: float) -> int:
    """Archive the sagas that ended and have not moved for so many seconds, page by page; return how many.

    Raise ValueError for less than SHORTEST_S. It may run beside the system, be stopped, and be run again.
    """
    if older_than_s < SHORTEST_S:
        days = SHORTEST_S / UNITS["d"]
        raise ValueError(f"a saga may be archived {days:g} days after its last move: until then a message may be late")
    engine = open_database(settings, system.name, "write", "owner")
    archived, last = 0, first_id(0)
    try:
        while last:
            last, moved = _archive_page(engine, settings.clock_offset, older_than_s, last)
            archived += moved
    finally:
        engine.dispose()
    return archived


def archive_dealt_with(system: System, settings: Settings, older_than_s: float) -> int:
    """Archive the dead letters of all services that were dealt with so many seconds ago; return how many."""
    return sum(_archive_letters(settings, service, older_than_s) for service in system.names)


def _archive_letters(settings: Settings, service: str, older_than_s: float) -> int:
    engine, archived = open_database(settings, service, "write", "owner"), 0
    try:
        while True:
            with engine.begin() as tx:
                before = database.now(tx, settings.clock_offset) - older_than_s
                moved = archive_letters(tx, _dealt_with(tx, before))
            archived += moved
            if moved < PAGE:
                return archived
    finally:
        engine.dispose()


def _dealt_with(tx: Connection, before: float) -> ColumnElement[bool]:
    """Select a page of letters by their keys."""
    keys = select(dead_letter.c.id, dead_letter.c.at).where(dead_letter.c.ended_at < before).limit(PAGE)
    return tuple_(dead_letter.c.id, dead_letter.c.at).in_([tuple(row) for row in tx.execute(keys)])


def _archive_page(engine: Engine, clock_offset: float, older_than_s: float, after: str) -> tuple[str, int]:
    """Archive the page behind an id; return the page's last id, empty when there was none, and how many went."""
    with engine.begin() as tx:
        ids = _over(tx, database.now(tx, clock_offset) - older_than_s, after)
        return (ids[-1], _archived(tx, ids)) if ids else ("", 0)


def _archived(tx: Connection, ids: Sequence[str]) -> int:
    """Move sagas; one that the archive refuses, such as a twin, stays where it is and is named. Return how many."""
    left: list[str] = []

    def leave(saga_id: str, error: Exception) -> None:
        log.error("not archived", saga=saga_id, error=describe(error))
        left.append(saga_id)

    by_halves(ids, partial(_move_with_logs, tx), leave)
    return len(ids) - len(left)


def _move_with_logs(tx: Connection, ids: Sequence[str]) -> None:
    with tx.begin_nested():
        _move(tx, event, event_archive, event.c.aggregate, ids)
        _move(tx, saga_branch, saga_branch_archive, saga_branch.c.saga_id, ids)
        _move(tx, saga, saga_archive, saga.c.id, ids)


def _over(tx: Connection, before: float, after: str) -> list[str]:
    """Find the page behind an id of sagas that ended before a time (Unix seconds), and about which nothing is open."""
    subject = cast(saga.c.id, String)
    reported = select(incident.c.id).where(incident.c.subject == subject, incident.c.closed_at.is_(None))
    dead = select(dead_letter.c.id).where(dead_letter.c.saga_id == subject, dead_letter.c.outcome.is_(None))
    ended = saga.c.id > after, saga.c.id < first_id(before), saga.c.status.in_(TERMINAL), saga.c.moved_at < before
    query = select(saga.c.id).where(*ended, ~reported.exists(), ~dead.exists()).order_by(saga.c.id).limit(PAGE)
    return list(tx.execute(query.with_for_update(of=saga, skip_locked=True)).scalars())


def _move(tx: Connection, table: Table, archived: Table, key: Column[str], keys: Sequence[str]) -> None:
    """Move rows, all or none: the keys of both tables refuse a second copy."""
    rows = select(table).where(key.in_(keys))
    tx.execute(insert(archived).from_select([column.name for column in table.columns], rows))
    tx.execute(delete(table).where(key.in_(keys)))
