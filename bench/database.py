"""Give a contestant a PostgreSQL of its own: fsync and synchronous_commit on, the same settings for everybody."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from bench.contest import Tally
from pulsaga_program.local import LocalPostgres
from pulsaga_program.local.process import free_ports

SETTINGS = {"fsync": "on", "synchronous_commit": "on", "shared_preload_libraries": "pg_stat_statements"}

STATEMENTS = text(
    "SELECT coalesce(sum(s.calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid "
    "WHERE d.datname <> 'postgres' AND s.query !~* '^(BEGIN|COMMIT|ROLLBACK|START)'"
)
COMMITS = text("SELECT coalesce(sum(xact_commit), 0) FROM pg_stat_database WHERE datname <> 'postgres'")
SIZES = text("SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname !~ '^(postgres|template.)$'")
WAL = text("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")


def bench_postgres(folder: Path) -> LocalPostgres:
    """Return a cluster that is not started yet, on a free port."""
    return LocalPostgres(folder, port=free_ports(1)[0], options=SETTINGS)


def create_database(postgres: LocalPostgres, name: str) -> str:
    """Create a database and return its URL as libpq reads it."""
    engine = create_engine(postgres.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    url = make_url(postgres.url).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


def database_tally(postgres: LocalPostgres) -> Tally:
    """Count what ran in all databases but the maintenance one, and the log written; BEGIN is no statement."""
    engine = create_engine(postgres.url, poolclass=NullPool)
    with engine.connect() as connection:
        statements, commits, wal = (int(connection.execute(query).scalar_one()) for query in (STATEMENTS, COMMITS, WAL))
    return Tally(statements=statements, commits=commits, wal_bytes=wal)


def disk_bytes(postgres: LocalPostgres) -> dict[str, int]:
    """Return the size of every database but the maintenance one, indexes included."""
    engine = create_engine(postgres.url, poolclass=NullPool)
    with engine.connect() as connection:
        return {name: int(size) for name, size in connection.execute(SIZES)}


def version(postgres: LocalPostgres) -> str:
    """Return the server's version."""
    engine = create_engine(postgres.url, poolclass=NullPool)
    with engine.connect() as connection:
        return str(connection.execute(text("SHOW server_version")).scalar_one())
