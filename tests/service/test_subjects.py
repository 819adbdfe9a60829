"""Hold an installation of before to keeping what it knows when its usernames become subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command as alembic
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from tests.service.stage import BOTH, settings_on

from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.settings import Settings, Side
from pulsaga.web.front_door.tables import acceptance, command
from pulsaga_program import databases
from system import SYSTEM

BEFORE: dict[Side, str] = {"write": "0003", "read": "0002"}
"""The newest migrations that know a username."""
AS_BEFORE = (
    "DROP TABLE front_door_version",
    "DROP TABLE IF EXISTS alembic_version",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
    "INSERT INTO alembic_version VALUES ('{}')",
)
"""The front door's tables were in its service's own history."""
ROWS: dict[Side, tuple[str, dict[str, Any]]] = {
    "write": (
        "acceptance",
        {"type": "issue-password", "username": "zoë", "actor": "shop", "body_hash": "h", "created_at": 1.5},
    ),
    "read": (
        "command",
        {"version": 2, "type": "issue-password", "username": "zoë", "status": "running", "reason_code": ""}
        | {"reason_detail": "", "cancellable": True, "created_at": 1.5, "updated_at": 2.5},
    ),
}


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """An installation whose databases are as they were before."""
    made, service = settings_on(request, tmp_path), SYSTEM["bff"]
    for side, revision in BEFORE.items():
        url = make_url(made.database_url("bff", side))
        if url.get_backend_name() == "postgresql":
            databases._create_database(made, "bff", url)
        engine = open_database(made, "bff", side, "owner", create=True)
        with engine.begin() as connection:
            for history in databases.histories_of(SYSTEM, service, side):
                until = "head" if history.name in ("delivery", "projection") else revision
                alembic.upgrade(databases._config(history, connection), until)
            for statement in AS_BEFORE:
                connection.execute(text(statement.format(revision)))
        engine.dispose()
    return made


@pytest.mark.parametrize(("side", "table"), [("write", acceptance), ("read", command)])
def test_a_populated_database_keeps_its_rows(settings: Settings, side: Side, table: Any) -> None:
    """Who was given an id before the upgrade asks for it after; an idempotency key must still find its command."""
    name, values = ROWS[side]
    row = {"id": new_id(), **values}
    engine = open_database(settings, "bff", side, "owner")
    with engine.begin() as tx:
        columns = ", ".join(row), ", ".join(f":{column}" for column in row)
        tx.execute(text(f"INSERT INTO {name} ({columns[0]}) VALUES ({columns[1]})"), row)
    databases.prepare_databases(SYSTEM, settings, SYSTEM["bff"])
    with engine.connect() as connection:
        (kept,) = connection.execute(select(table)).mappings()
    engine.dispose()
    row["subject"] = row.pop("username")
    assert {column: kept[column] for column in row} == row
