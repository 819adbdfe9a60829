"""Open databases: one engine per role, the same statements on PostgreSQL and SQLite.

Times are stored as Unix seconds (double). The clock is the database's own, plus a test offset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Engine, ExceptionContext, create_engine, event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import literal_column

from pulsaga.delivery.blame import verdict
from pulsaga.errors import SettingError, Unavailable
from pulsaga.settings import Role, Settings, Side

POSTGRESQL_CLOCK = "extract(epoch from clock_timestamp())"
OLDEST_TRANSACTION = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
POOLED = "a pooler such as PgBouncer drops what a connection asks for (role, time-outs); connect to PostgreSQL itself"
HURRY_MS = 50
SESSION_SIGNS = ("role", "plan_cache_mode")
"""Settings that tell whether a session has what its connection asked for; the role alone may be left by another client
of a pooler."""
SQLITE_CLOCK = "((julianday('now') - 2440587.5) * 86400.0)"


def open_database(settings: Settings, service: str, side: Side, role: Role, *, create: bool = False) -> Engine:
    """Return an engine for one side of a service's databases, acting as `role` (a reader cannot write).

    Its errors do not show what rows hold: they get into logs, traces and incidents.

    A SQLite file that is missing is made with `create` alone; else to connect raises Unavailable.
    """
    url = settings.database_url(service, side)
    if url.startswith("sqlite"):
        return _sqlite(url, read_only=role == "reader", create=create)
    options = {
        "role": role_name(settings, service, role),
        "idle_in_transaction_session_timeout": f"{settings.transaction_timeout * 1000:.0f}",
        "lock_timeout": f"{settings.lock_timeout * 1000:.0f}",
        "random_page_cost": "1.1",  # our look-ups are by key, also while a table is small
        "plan_cache_mode": "force_custom_plan",  # a plan kept from an empty table would read a full one to its end
    }
    arguments = " ".join(f"-c {name}={value}" for name, value in options.items())
    asked = {"options": arguments, "connect_timeout": 5, "application_name": f"{service} {os.getpid()}"}
    engine = create_engine(url, connect_args=asked, pool_pre_ping=False, hide_parameters=True)
    event.listen(engine, "connect", _adapt)
    event.listen(engine, "connect", partial(_check_session, options))
    event.listen(engine, "handle_error", _let_go)
    return engine


def _let_go(context: ExceptionContext) -> None:
    """Have the pool drop its connections after an error that they cannot recover from, such as a failover's."""
    if "unsupported startup parameter" in str(context.original_exception):
        raise SettingError("DB_HOSTNAME", f"{POOLED}: {context.original_exception}")
    if verdict(context.original_exception) == "reconnect":
        context.is_disconnect = True


def _check_session(options: Mapping[str, str], connection: Any, _record: Any) -> None:
    """Refuse a session that does not have what was asked for: rights and time-outs would silently not be in force."""
    asked = [options[name] for name in SESSION_SIGNS]
    with connection.transaction():
        found = list(connection.execute(f"SELECT {', '.join(map(_current, SESSION_SIGNS))}").fetchone())
    if found != asked:
        raise SettingError("DB_HOSTNAME", f"{POOLED}: the session has {found}, not {asked}")


def _current(name: str) -> str:
    return f"current_setting('{name}')"


def _adapt(connection: Any, _record: Any) -> None:
    """Send arrays in binary, a third of the work on either side, and take a UUID as the text that it is to us."""
    from psycopg.types.array import ListBinaryDumper
    from psycopg.types.string import TextLoader

    connection.adapters.register_dumper(list, ListBinaryDumper)
    connection.adapters.register_loader("uuid", TextLoader)


def role_name(settings: Settings, service: str, role: Role) -> str:
    """Name the NOLOGIN role that the one database user takes on."""
    return f"{settings.db_name}_{service}_{role}"


def clock(connection: Connection, offset: float = 0.0) -> ColumnElement[float]:
    """Return the SQL expression for now, in Unix seconds, by the database's clock plus `offset`."""
    return literal_column(clock_sql(connection.dialect.name, offset), Double)


def clock_sql(dialect: str, offset: float = 0.0) -> str:
    """Return the SQL text for now, in Unix seconds, by the database's clock plus `offset`."""
    sql = POSTGRESQL_CLOCK if dialect == "postgresql" else SQLITE_CLOCK
    return f"CAST({sql} AS DOUBLE PRECISION) + {float(offset)!r}"


def now(connection: Connection, offset: float = 0.0) -> float:
    """Ask the database for the time, in Unix seconds."""
    return float(connection.execute(select(clock(connection, offset))).scalar_one())


def hurry(tx: Connection) -> None:
    """Wait for a row only a moment, in this transaction. SQLite has one lock for all, and waits as ever."""
    if tx.dialect.name == "postgresql":
        tx.execute(text(f"SET LOCAL lock_timeout = {HURRY_MS}"))


def glance(engine: Engine, sql: str) -> Sequence[Any]:
    """Return the one row of a query, asked outside any transaction: one round trip, half of the work, no lock.

    Raise Unavailable when the database does not answer.
    """
    try:
        with closing(engine.raw_connection()) as lent:
            try:
                return _asked_alone(lent.driver_connection, sql, engine.dialect.name)
            except BaseException:
                lent.invalidate()  # whoever is lent it next must not be without transactions
                raise
    except engine.dialect.loaded_dbapi.Error as down:
        raise Unavailable(str(down)) from down


def _asked_alone(driver: Any, sql: str, dialect: str) -> Sequence[Any]:
    if dialect == "postgresql":
        driver.autocommit = True
    found: Sequence[Any] = driver.execute(sql).fetchone()
    if dialect == "postgresql":
        driver.autocommit = False
    return found


def is_answering(engine: Engine) -> bool:
    """Tell whether the database answers a query now."""
    return _succeeds(engine, "SELECT 1")


def takes_writes(engine: Engine) -> bool:
    """Tell whether a write database lets this process write now; after a failover it may only let it read."""
    return _succeeds(engine, "DELETE FROM outbox WHERE id IS NULL")


def _succeeds(engine: Engine, sql: str) -> bool:
    try:
        with engine.begin() as tx:
            tx.execute(text(sql))
    except Exception:  # whatever it is, the answer is no
        return False
    return True


def oldest_transaction_s(engine: Engine) -> float | None:
    """Return how many seconds ago the oldest transaction began that is still open in a database; None on SQLite.

    A transaction keeps dead rows from being cleared away, whoever holds it. The login sees its own, and those of
    everybody if it was granted `pg_read_all_stats`.
    """
    if engine.dialect.name != "postgresql":
        return None
    with engine.begin() as tx:
        tx.execute(text("SET LOCAL ROLE NONE"))
        return float(tx.execute(text(OLDEST_TRANSACTION)).scalar_one())


def _sqlite(url: str, *, read_only: bool, create: bool) -> Engine:
    path = Path(make_url(url).database or ":memory:")
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 10, "check_same_thread": False}, hide_parameters=True)
    pragmas = ["journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"]
    pragmas += ["query_only=ON"] if read_only else []

    @event.listens_for(engine, "do_connect")
    def refuse(*_: Any) -> None:
        if not create and not path.exists():
            said = f"there is no Protools data in {path.parent} ({path.name} is missing)"
            raise Unavailable(f"{said}: run this where `protools up` ran, or set PROTOOLS_HOME")

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
