"""Write and read rows of every type that a service would give a column, on both databases."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    insert,
)
from sqlalchemy.exc import IntegrityError
from tests.service.stage import BOTH, settings_on

from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import incident
from pulsaga.delivery.transaction.rows import Insert, change, lock_rows
from pulsaga.text import describe
from pulsaga_program.databases import prepare_databases
from system import SYSTEM


class Colour(enum.Enum):
    """What a row may hold by its name."""

    RED = 1
    BLUE = 2


VALUES: dict[str, tuple[Any, Any]] = {
    "text": (String(20), "x'\"$%s"),
    "number": (Integer, 5),
    "flag": (Boolean, True),
    "money": (Numeric(10, 2), Decimal("1.25")),
    "time": (DateTime(timezone=True), datetime(2026, 1, 31, 9, 26, 53, 589, tzinfo=UTC)),
    "day": (Date, date(2026, 1, 31)),
    "span": (Interval, timedelta(seconds=5)),
    "document": (JSON, {"a": [1, {"b": None}]}),
    "bytes": (LargeBinary, b"\x00\xff"),
    "colour": (Enum(Colour), Colour.BLUE),
}


@pytest.fixture(params=BOTH)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A write database of a service."""
    settings = settings_on(request, tmp_path)
    prepare_databases(SYSTEM, settings, SYSTEM["correo"])
    engine = open_database(settings, "correo", "write", "owner")
    yield engine
    engine.dispose()


def test_a_value_of_any_type_is_read_as_it_was_written(write: Engine) -> None:
    """A price with decimals made every message of its batch fail on SQLite, a document on both."""
    tables = MetaData()
    columns = [Column(name, kind) for name, (kind, _value) in VALUES.items()]
    table = Table("thing", tables, Column("id", String, primary_key=True), *columns)
    tables.create_all(write)
    full, empty = {"id": "full", **{name: value for name, (_kind, value) in VALUES.items()}}, {"id": "empty"}
    with write.begin() as tx:
        change(tx, [Insert(table, [full, empty], "raise")])
    with write.begin() as tx:
        found = lock_rows(tx, table, ["full", "empty"])
    assert found == {"full": full, "empty": {**dict.fromkeys(VALUES), "id": "empty"}}


def test_an_error_does_not_show_what_a_row_holds(write: Engine) -> None:
    """Errors get into logs, heartbeats, traces and webhooks: nobody can be erased from there."""
    with pytest.raises(IntegrityError) as refused, write.begin() as tx:
        tx.execute(insert(incident).values(id=new_id(), subject="ada@example.test"))
    assert "ada@" not in describe(refused.value)
    assert refused.value.hide_parameters
