"""Hold what migrations build against what the code believes to be there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Engine, MetaData, inspect, text
from sqlalchemy.engine import Connection

from pulsaga import Service, System
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.settings import Settings, Side
from pulsaga_program.databases import SIDES, MigrationFailed, histories_of, new_migration, prepare_databases
from pulsaga_program.local import LocalPostgres
from system import SYSTEM

KEPT_ENDS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger",
}
DATABASES = [pytest.param(*pair, id="-".join(pair)) for pair in product(SYSTEM.names, SIDES)]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an installation whose databases are migrated, from nothing."""
    environment = {"PROTOOLS_HOME": str(tmp_path_factory.mktemp("home"))}
    if request.param == "postgresql":
        server: LocalPostgres = request.getfixturevalue("postgres")
        name = f"t{new_id()[-10:]}"
        environment |= server.environment() | {"DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    settings = Settings.read(environment)
    for service in SYSTEM.names:
        prepare_databases(SYSTEM, settings, SYSTEM[service])
    return settings


def metadata_of(service: str, side: Side) -> list[MetaData]:
    """Every table that one side of a service holds."""
    return [history.tables for history in histories_of(SYSTEM, SYSTEM[service], side)]


def keeps_no_version(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave out where alembic keeps how far each history has come."""
    return kind != "table" or not str(name).endswith("_version")


@contextmanager
def connected(settings: Settings, service: str, side: Side) -> Iterator[Connection]:
    """Hold a connection to one of the databases."""
    engine: Engine = open_database(settings, service, side, "owner")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.parametrize(("service", "side"), DATABASES)
def test_migrations_build_exactly_the_tables_that_the_code_knows(settings: Settings, service: str, side: Side) -> None:
    """A column that only the code knows is an error at the first message, on somebody's production database."""
    with connected(settings, service, side) as connection:
        tables = metadata_of(service, side)
        options = {"compare_type": True, "target_metadata": tables, "include_name": keeps_no_version}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables) == []


@pytest.mark.parametrize(("service", "side"), DATABASES)
def test_migrations_build_the_indexes_conditions_and_checks_too(settings: Settings, service: str, side: Side) -> None:
    """The comparison above overlooks what an index leaves out, and checks: the rules that nothing waits for ever."""
    with connected(settings, service, side) as connection:
        inspector, dialect = inspect(connection), connection.dialect.name
        for table in [table for metadata in metadata_of(service, side) for table in metadata.sorted_tables]:
            built = {index["name"]: _condition(index, dialect) for index in inspector.get_indexes(table.name)}
            for index in table.indexes:
                condition = index.dialect_options[dialect].get("where")
                assert built[str(index.name)] == _plain(condition)
            checks = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint) and c.name}
            assert {check["name"] for check in inspector.get_check_constraints(table.name)} == checks


def _condition(index: Any, dialect: str) -> str:
    return _plain(index.get("dialect_options", {}).get(f"{dialect}_where"))


def _plain(condition: Any) -> str:
    """Write a condition without brackets and casts, which PostgreSQL adds."""
    return "" if condition is None else re.sub(r"::text|[()]", "", str(condition))


def test_an_ended_saga_is_guarded_by_a_trigger_on_both_databases(settings: Settings) -> None:
    """No comparison sees triggers; that one refuses what it should is shown in tests/service/test_worker.py."""
    with connected(settings, "protools_saga", "write") as connection:
        names = connection.execute(text(KEPT_ENDS[connection.dialect.name])).scalars().all()
    assert "saga_end_is_final" in names


def test_a_difference_would_be_seen(settings: Settings) -> None:
    """The proof that the comparison compares: against half of the tables the database differs."""
    with connected(settings, "generador", "write") as connection:
        half, _ = metadata_of("generador", "write")
        assert compare_metadata(MigrationContext.configure(connection), half) != []


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service in a folder of its own, without tables."""
    module = ModuleType("quiet")
    module.__file__ = str(tmp_path / "quiet.py")
    monkeypatch.setitem(sys.modules, "quiet", module)
    return Service("quiet", module="quiet")


WRONG = """
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.execute("CREATE TABLE half (id integer)")
    op.execute("ALTER TABLE nowhere ADD COLUMN id integer")
"""


def test_a_migration_that_the_database_refuses_is_named_and_leaves_nothing(quiet: Service, tmp_path: Path) -> None:
    """A column that needs a value fails where there are rows: its author must read which one, not a stack trace."""
    (folder := tmp_path / "migrations" / "quiet" / "write").mkdir(parents=True)
    (folder / "0001_wrong.py").write_text(WRONG)
    settings = Settings.read({"PROTOOLS_HOME": str(tmp_path / "home")})
    with pytest.raises(MigrationFailed, match=f"^quiet write: a migration in {folder} failed: no such table: nowhere$"):
        prepare_databases(System("shop", services=[quiet]), settings, quiet)
    with connected(settings, "quiet", "write") as connection:
        assert "half" not in inspect(connection).get_table_names()


def test_a_service_without_tables_gets_no_migration_and_no_folder(quiet: Service, tmp_path: Path) -> None:
    """An empty folder is taken for a history that somebody forgot to commit."""
    system = System("shop", services=[quiet])
    assert [new_migration(system, Settings.read({}), quiet, side, "nothing") for side in SIDES] == [None, None]
    assert list(tmp_path.iterdir()) == []
