"""Create databases and roles, and bring their tables up to date: one migration history per service and side."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module, resources
from pathlib import Path
from typing import get_args

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from pulsaga.delivery.database import open_database, role_name
from pulsaga.delivery.forgetting import forget
from pulsaga.delivery.tables import DELIVERY, failure
from pulsaga.errors import Unavailable
from pulsaga.settings import Role, Settings, Side
from pulsaga.system import Service

SIDES: tuple[Side, ...] = get_args(Side)
ROLES: tuple[Role, ...] = get_args(Role)


def prepare_databases(settings: Settings, service: Service) -> None:
    """Create what is missing of a service's two databases, and migrate both. Idempotent."""
    for side in SIDES:
        url = make_url(settings.database_url(service.name, side))
        if url.get_backend_name() == "postgresql":
            _create_database(settings, service.name, url)
        migrate(settings, service, side)


def migrate(settings: Settings, service: Service, side: Side) -> None:
    """Upgrade one database to the newest migration, as its owner, and prepare the inbox of the weeks to come."""
    engine = open_database(settings, service.name, side, "owner", create=True)
    try:
        with engine.begin() as connection:
            command.upgrade(_config(service, side, connection), "head")
        if side == "write":
            forget(engine, settings.clock_offset)
    finally:
        engine.dispose()


def new_migration(settings: Settings, service: Service, side: Side, message: str) -> None:
    """Write the next migration of one history from what the tables and the migrated database differ in."""
    engine = open_database(settings, service.name, side, "owner", create=True)
    with engine.begin() as connection:
        command.revision(_config(service, side, connection), message, autogenerate=True)
    engine.dispose()


def metadata_of(service: Service, side: Side) -> list[MetaData]:
    """Return every table that one side holds: the delivery tables stand in each write database."""
    if side == "write":
        return [DELIVERY, service.write]
    shared = MetaData()
    failure.to_metadata(shared)
    return [shared, service.read]


def _config(service: Service, side: Side, connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("pulsaga") / "alembic"))
    config.set_main_option("path_separator", "newline")
    (package,) = import_module(service.name).__path__
    folder = Path(package) / "migrations" / side
    config.set_main_option("version_locations", str(folder))
    config.attributes |= {"connection": connection, "metadata": metadata_of(service, side)}
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
