"""Keep tables bounded: forget what a service says is over, and of the inbox ids so old that they are refused anyway.

PostgreSQL keeps the inbox in partitions by the week in which an id was made, and drops whole weeks; SQLite deletes
rows. An id of no prepared week (a letter replayed late, a clock that is wrong) lies in the default partition.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Engine, text

from pulsaga.delivery import database
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.messages import MEMORY_S, first_id, id_time
from pulsaga.delivery.transaction.rows import key_of
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from pulsaga.running.runtime import Runtime

KEPT_S = MEMORY_S + 24 * 3600.0
"""Seconds for which ids are kept at least: clocks differ."""
WEEK_S = 7 * 24 * 3600
WEEKS_AHEAD = 2
"""Weeks that are prepared besides this one: so long everything may stand still without harm."""
FORGET_EVERY_S = 60.0
PAGE = 1000
"""Rows that are deleted at once: on SQLite nobody can write meanwhile."""
LOCK_MS = 500
"""Milliseconds for which a change of the partitions waits for those who write, who would wait behind it."""
SCHEMA = "partitions"


def forget_after(name: str, column: Column[Any], seconds: float) -> Callable[[Runtime], Duty]:
    """Return what makes a duty that deletes rows so many seconds after the Unix time in one of their columns."""
    table: Any = column.table

    def make(runtime: Runtime) -> Duty:
        def work(uow: UnitOfWork) -> int:
            rows = uow.claim(table, column < uow.now - seconds, column, PAGE)
            for row in rows:
                uow.remove(table, row[key_of(table).name])
            return len(rows)

        return Duty(name, lambda: runtime.transactions.run_pages(work, PAGE), every_s=FORGET_EVERY_S)

    return make


def create_partitions(tx: Connection) -> None:
    """Create the default partition of a new inbox; on SQLite there is nothing to do."""
    if tx.dialect.name == "postgresql":
        tx.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        tx.execute(text(f"CREATE TABLE {SCHEMA}.inbox_default PARTITION OF inbox DEFAULT"))


def forget(engine: Engine, clock_offset: float = 0.0) -> None:
    """Prepare the weeks to come and forget those that are over; several processes may do so at once."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as tx:
            _turn_weeks(tx, database.now(tx, clock_offset))
    else:
        while _delete_page(engine, clock_offset) == PAGE:
            continue


def _turn_weeks(tx: Connection, now: float) -> None:
    """Create the partitions of this week and the next, and drop what is forgotten, unless a rival is at it."""
    if not tx.scalar(text("SELECT pg_try_advisory_xact_lock(hashtext('inbox'))")):
        return
    tx.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    known, limit, this_week = _weeks(tx), _limit(tx, now), int(now // WEEK_S)
    for week in range(this_week, this_week + WEEKS_AHEAD + 1):
        if _name(week) not in known:
            _create(tx, week)
    for name in sorted(name for name in known if name < _name(int(limit // WEEK_S))):
        tx.execute(text(f"DROP TABLE {SCHEMA}.{name}"))
    over = f"DELETE FROM {SCHEMA}.inbox_default WHERE id < :id AND at < :at"  # noqa: S608 - our names
    tx.execute(text(over), {"id": first_id(limit), "at": limit})


def _limit(tx: Connection, now: float) -> float:
    """Return before which time (Unix seconds) ids are forgotten; a database's clock that ran ahead forgets nothing."""
    newest = tx.scalar(text("SELECT id FROM inbox ORDER BY id DESC LIMIT 1"))
    return min(now, id_time(newest).timestamp() if newest else now) - KEPT_S


def _weeks(tx: Connection) -> set[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = :schema AND tablename <> 'inbox_default'"
    return set(tx.execute(text(query), {"schema": SCHEMA}).scalars())


def _name(week: int) -> str:
    return f"inbox_{datetime.fromtimestamp(week * WEEK_S, UTC):%Y%m%d}"


def _create(tx: Connection, week: int) -> None:
    """Make one week's partition; what came too early for it lies in the default one, where it must not stay."""
    name, bounds = f"{SCHEMA}.{_name(week)}", {"low": first_id(week * WEEK_S), "high": first_id((week + 1) * WEEK_S)}
    tx.execute(text(f"CREATE TABLE {name} (LIKE inbox INCLUDING ALL)"))
    early = f"DELETE FROM {SCHEMA}.inbox_default WHERE id >= :low AND id < :high RETURNING *"  # noqa: S608 - our names
    tx.execute(text(f"WITH early AS ({early}) INSERT INTO {name} SELECT * FROM early"), bounds)  # noqa: S608 - our names
    between = f"FROM ('{bounds['low']}') TO ('{bounds['high']}')"
    tx.execute(text(f"ALTER TABLE inbox ATTACH PARTITION {name} FOR VALUES {between}"))


def _delete_page(engine: Engine, clock_offset: float) -> int:
    with engine.begin() as tx:
        old = "SELECT id FROM inbox WHERE id < :id LIMIT :page"
        values = {"id": first_id(_limit(tx, database.now(tx, clock_offset))), "page": PAGE}
        return tx.execute(text(f"DELETE FROM inbox WHERE id IN ({old})"), values).rowcount  # noqa: S608 - our names
