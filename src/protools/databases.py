"""Create databases and roles, and bring their tables up to date: one migration history per service and side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, MetaData, create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from pulsaga.delivery.avro import home_of
from pulsaga.delivery.database import open_database, role_name
from pulsaga.delivery.forgetting import forget
from pulsaga.delivery.tables import DELIVERY, failure
from pulsaga.errors import ProtoolsError, Unavailable
from pulsaga.service import Service
from pulsaga.settings import Role, Settings, Side
from pulsaga.system import System
from pulsaga.web.front_door import tables as front_door

SIDES: tuple[Side, ...] = get_args(Side)
ROLES: tuple[Role, ...] = get_args(Role)
OWN = "alembic"
"""Name of a service's own history; the others are the framework's, each with a version table of its own."""
FIRST = "0001"


class MigrationFailed(ProtoolsError):
    """A migration that the database refused; nothing of it is left."""


def prepare_databases(system: System, settings: Settings, service: Service) -> None:
    """Create what is missing of a service's two databases, and migrate both. Idempotent."""
    for side in SIDES:
        url = make_url(settings.database_url(service.name, side))
        if url.get_backend_name() == "postgresql":
            _create_database(settings, service.name, url)
        migrate(system, settings, service, side)


def migrate(system: System, settings: Settings, service: Service, side: Side) -> None:
    """Upgrade one database to the newest migrations, as its owner, and prepare the inbox of the weeks to come."""
    engine = open_database(settings, service.name, side, "owner", create=True)
    try:
        with engine.begin() as connection:
            for history in histories_of(system, service, side):
                _adopt(connection, history)
                _upgrade(connection, history, f"{service.name} {side}")
        if side == "write":
            forget(engine, settings.clock_offset)
    finally:
        engine.dispose()


def _upgrade(connection: Connection, history: History, database: str) -> None:
    try:
        command.upgrade(_config(history, connection), "head")
    except (DBAPIError, CommandError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise MigrationFailed(f"{database}: a migration in {history.folder} failed: {str(reason).strip()}") from error


def pending(connection: Connection, system: System, service: Service, side: Side) -> list[str]:
    """Return the histories of a database that have migrations which it has not had."""
    return [history.name for history in histories_of(system, service, side) if not _is_current(connection, history)]


def _is_current(connection: Connection, history: History) -> bool:
    if history.version_table not in inspect(connection).get_table_names():
        return False
    version = connection.execute(text(f"SELECT version_num FROM {history.version_table}")).scalar()  # noqa: S608 - ours
    return version == ScriptDirectory.from_config(_config(history, connection)).get_current_head()


def new_migration(system: System, settings: Settings, service: Service, side: Side, message: str) -> Path | None:
    """Write the next migration of a service's own history from what its tables and a new database differ in.

    Return its path, or None when they do not differ. It works in a database of its own, an SQLite file.
    """
    with TemporaryDirectory() as home:
        settings = Settings.read({"PROTOOLS_HOME": home})
        migrate(system, settings, service, side)
        engine = open_database(settings, service.name, side, "owner")
        try:
            with engine.begin() as connection:
                own = History(OWN, _own_folder(service, side), _own_tables(system, service, side))
                return _revision(own, connection, message)
        finally:
            engine.dispose()


def _revision(history: History, connection: Connection, message: str) -> Path | None:
    found = len(list(history.folder.glob("*.py"))) + 1

    def keep(_context: Any, _revision: Any, directives: list[Any]) -> None:
        if directives[0].upgrade_ops.is_empty():
            directives[:] = []
        else:
            history.folder.mkdir(parents=True, exist_ok=True)

    config, number = _config(history, connection), f"{found:04}"
    made = command.revision(config, message, autogenerate=True, rev_id=number, process_revision_directives=keep)
    return Path(made.path) if made and not isinstance(made, list) else None


@dataclass(frozen=True)
class History:
    """A line of migrations of one database: its name, its folder, and the tables that it makes."""

    name: str
    folder: Path
    tables: MetaData

    @property
    def version_table(self) -> str:
        """Where the database keeps how far it has come."""
        return f"{self.name}_version"


def histories_of(system: System, service: Service, side: Side) -> list[History]:
    """Return the histories of one database: the framework's for what it keeps there, then the service's own."""
    delivery = MetaData()
    for table in DELIVERY.tables.values() if side == "write" else [failure]:
        table.to_metadata(delivery)
    found = [History("delivery" if side == "write" else "projection", _folder("delivery", side), delivery)]
    if service.name == system.name:
        return [*found, History("coordinator", _folder("saga", side), _tables(service, side))]
    if service is system.door:
        door = front_door.WRITE if side == "write" else front_door.READ
        found.append(History("front_door", _folder("web/front_door", side), door))
    own_tables = _own_tables(system, service, side)
    if any((own := _own_folder(service, side)).glob("*.py")) or own_tables.tables:
        found.append(History(OWN, own, own_tables))
    return found


def _own_tables(system: System, service: Service, side: Side) -> MetaData:
    """Return the tables of a service's own history: not those that the framework makes for a front door."""
    if service is not system.door:
        return _tables(service, side)
    return _without(_tables(service, side), front_door.WRITE if side == "write" else front_door.READ)


def _without(tables: MetaData, others: MetaData) -> MetaData:
    """Return the tables that are not among others, by their names."""
    left = MetaData()
    for table in tables.tables.values():
        if table.name not in others.tables:
            table.to_metadata(left)
    return left


def _folder(room: str, side: Side) -> Path:
    return Path(str(resources.files("pulsaga"))) / room / "migrations" / side


def _own_folder(service: Service, side: Side) -> Path:
    return home_of(service.module, service.name, "migrations") / side


def _tables(service: Service, side: Side) -> MetaData:
    return service.tables if side == "write" else service.views


def _adopt(connection: Connection, history: History) -> None:
    """Note how far a database has come that was made when every service's own history held the framework's tables."""
    known = set(inspect(connection).get_table_names())
    if history.name == OWN or history.version_table in known or OWN_VERSION not in known:
        return
    if known.isdisjoint(history.tables.tables):
        return
    version = connection.execute(text(f"SELECT version_num FROM {OWN_VERSION}")).scalar()  # noqa: S608 - our name
    command.stamp(_config(history, connection), str(version) if history.name in OF_BEFORE else FIRST)


OWN_VERSION = "alembic_version"
OF_BEFORE = ("coordinator", "front_door")
"""Histories that were a service's own, and kept their numbers."""


def _config(history: History, connection: Connection) -> Config:
    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(resources.files("pulsaga") / "alembic"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(history.folder))
    names = frozenset(history.tables.tables)
    config.attributes |= {
        "connection": connection,
        "metadata": history.tables,
        "version_table": history.version_table,
        "is_ours": lambda name: name in names,
    }
    return config


def _create_database(settings: Settings, service: str, url: URL) -> None:
    with _administer(url.set(database="postgres")) as connection:
        for role in ROLES:
            _create_role(connection, role_name(settings, service, role))
        owner = role_name(settings, service, "owner")
        known = text("SELECT 1 FROM pg_database WHERE datname = :name")
        if not connection.execute(known, {"name": url.database}).scalar():
            connection.execute(text(f'CREATE DATABASE "{url.database}" OWNER "{owner}"'))
            connection.execute(text(f'REVOKE ALL ON DATABASE "{url.database}" FROM PUBLIC'))
    with _administer(url) as connection:
        for statement in _grants(settings, service, url):
            connection.execute(text(statement))


def _create_role(connection: Connection, role: str) -> None:
    if not connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar():
        connection.execute(text(f'CREATE ROLE "{role}" NOLOGIN'))
    connection.execute(text(f'GRANT "{role}" TO CURRENT_USER'))


def _grants(settings: Settings, service: str, url: URL) -> Iterator[str]:
    owner, projector, reader = (f'"{role_name(settings, service, role)}"' for role in ROLES)
    yield f"SET ROLE {owner}"
    yield f'GRANT CONNECT ON DATABASE "{url.database}" TO "{url.username}", {projector}, {reader}'
    yield f"GRANT USAGE ON SCHEMA public TO {projector}, {reader}"
    yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {reader}"
    yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {projector}"


def _administer(url: URL) -> _Administration:
    return _Administration(create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}))


class _Administration:
    """Hold one autocommit connection for statements that no transaction may hold."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Connection:
        try:
            self._connection = self._engine.connect()
        except OperationalError as error:
            raise Unavailable(f"PostgreSQL does not answer: {str(error.orig).strip()}") from error
        return self._connection

    def __exit__(self, *_error: object) -> None:
        self._connection.close()
        self._engine.dispose()
