"""Every error that a database can give is judged on purpose: whose fault it is, and what helps."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pulsaga.delivery.blame import SQLITE, SQLSTATES, verdict
from pulsaga.errors import DomainError, NotConfirmed, Stale, Unavailable

KNOWN = {
    state: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and isinstance(state := getattr(kind, "sqlstate", None), str)
}
PRIMARY = {
    name.removeprefix("SQLITE_")
    for name in dir(sqlite3)
    if name.startswith("SQLITE_") and 1 <= getattr(sqlite3, name) <= 26 and name.count("_") == 1
}
OF_AUTHORIZER = {"ANALYZE", "ATTACH", "DELETE", "INSERT", "SELECT", "UPDATE", "READ", "TRANSACTION", "PRAGMA", "DETACH"}


def test_every_sqlstate_that_the_driver_knows_is_judged() -> None:
    """One that nobody thought of was nobody's being down: a failover answered 500 for minutes."""
    assert len(KNOWN) > 200
    assert [state for state in KNOWN if state not in SQLSTATES and state[:2] not in SQLSTATES] == []


def test_every_result_code_of_sqlite_is_judged() -> None:
    """The same for files."""
    names = {name for name in PRIMARY if not name.startswith(("CREATE", "DROP", "ALTER"))} - OF_AUTHORIZER
    assert names - {"DENY", "IGNORE", "OK", "DONE", "ROW", "NOTICE", "WARNING"} <= SQLITE.keys()


@pytest.mark.parametrize(
    ("state", "judged"),
    [
        ("22021", "item"),  # a NUL
        ("23505", "item"),  # a key that is taken
        ("54000", "item"),  # a value too large for its index
        ("P0001", "item"),  # a trigger's no
        ("55P03", "locked"),
        ("40P01", "wait"),
        ("53100", "wait"),  # disk full
        ("42P01", "wait"),  # no such table yet
        ("57014", "wait"),
        ("25006", "reconnect"),
        ("57P01", "reconnect"),
        ("08006", "reconnect"),
        ("26000", "reconnect"),
    ],
)
def test_a_sqlstate_tells_whose_fault_it_is(state: str, judged: str) -> None:
    """Blaming a message for an outage buries it; waiting for a message that can never succeed stops all others."""
    error = KNOWN[state]("said the server")
    assert verdict(error) == verdict(InternalError("SELECT 1", {}, error)) == judged


@pytest.mark.parametrize(
    ("error", "judged"),
    [
        (psycopg.OperationalError("server closed the connection"), "reconnect"),
        (errors.ConnectionTimeout("no answer"), "reconnect"),
        (psycopg.InterfaceError("the connection is closed"), "reconnect"),
        (psycopg.DataError("a NUL"), "item"),
        (psycopg.ProgrammingError("cannot adapt"), "item"),
        (PoolTimeout("no connection is free"), "wait"),
        (Unavailable("down"), "wait"),
        (NotConfirmed({"t": Unavailable("full")}), "wait"),
        (Stale("changed"), "wait"),
        (DomainError("no", "no"), "item"),
        (ValueError("what is this"), "item"),
        (RecursionError(), "item"),
    ],
)
def test_an_error_without_a_code_is_judged_by_its_kind(error: Exception, judged: str) -> None:
    """What a driver says by itself carries no code."""
    assert verdict(error) == judged


@pytest.mark.parametrize(
    ("statement", "judged"),
    [
        ("SELECT * FROM nowhere", "wait"),
        ("INSERT INTO t VALUES (1)", "item"),
        ("INSERT INTO t VALUES ('x' || zeroblob(3000000000))", "item"),
        ("SELECT ?", "item"),
    ],
)
def test_an_error_of_sqlite_tells_whose_fault_it_is(statement: str, judged: str) -> None:
    """By its result code; binding what it cannot hold has none."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY CHECK (id > 1))")
    with pytest.raises((sqlite3.Error, OverflowError)) as caught:
        connection.execute(statement, ([],) if "?" in statement else ())
    assert verdict(caught.value) == judged
    assert verdict(OperationalError(statement, {}, caught.value)) == judged
    connection.close()
