"""Tell whose fault an error is: the item's in hand, or somebody's who is down, and then what helps.

Every SQLSTATE class (PostgreSQL, appendix A) and every primary result code of SQLite is judged here, on purpose; what
is not known is the item's fault, so that it is kept, counted and shown to an operator instead of being tried for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pulsaga.errors import SchemaIncompatible, SettingError, Stale, Unavailable

T = TypeVar("T")
Verdict = Literal["item", "wait", "locked", "reconnect"]
"""`item`: this message or row can never succeed as it is. `wait`: something is down, the same again later. `locked`:
another transaction holds a row. `reconnect`: as `wait`, and this connection is of no use any more."""

SQLSTATES: dict[str, Verdict] = {
    "01": "wait",  # warnings are never raised
    "02": "wait",
    "03": "wait",  # SQL statement not yet complete
    "08": "reconnect",  # connection exception
    "09": "item",  # triggered action exception
    "0A": "reconnect",  # "cached plan must not change result type": a migration went on under a connection
    "0B": "wait",
    "0F": "item",  # locator exception
    "0L": "wait",  # invalid grantor
    "0P": "wait",  # invalid role
    "0Z": "item",  # diagnostics exception
    "10": "item",  # XQuery error
    "20": "item",  # case not found
    "21": "item",  # cardinality violation
    "22": "item",  # data exception
    "23": "item",  # integrity constraint violation
    "24": "wait",  # invalid cursor state
    "25": "wait",  # invalid transaction state
    "25006": "reconnect",  # read-only transaction: after a failover this connection leads to a standby
    "25P03": "reconnect",  # idle-in-transaction time-out ended the session
    "25P04": "reconnect",  # transaction time-out ended the session
    "26": "reconnect",  # a prepared statement is unknown: another session answers
    "27": "item",  # triggered data change violation
    "28": "reconnect",  # invalid authorization
    "2B": "wait",
    "2D": "wait",  # invalid transaction termination
    "2F": "item",  # SQL routine exception
    "34": "wait",  # invalid cursor name
    "38": "item",  # external routine exception
    "39": "item",  # external routine invocation exception
    "3B": "wait",  # savepoint exception
    "3D": "wait",  # the database does not exist (yet)
    "3F": "wait",  # the schema does not exist (yet)
    "40": "wait",  # deadlock, serialization failure
    "42": "wait",  # syntax error or access rule violation: of a migration that has not run, never of a row
    "42P05": "reconnect",  # duplicate prepared statement: two clients share a session
    "44": "item",  # WITH CHECK OPTION violation
    "53": "wait",  # disk full, out of memory, too many connections
    "54": "item",  # program limit exceeded: a value too large for its index
    "55": "wait",  # object not in prerequisite state
    "55P03": "locked",
    "57": "reconnect",  # operator intervention: shutdown, crash, idle session time-out
    "57014": "wait",  # statement time-out
    "58": "wait",  # system error
    "72": "wait",  # snapshot too old
    "F0": "wait",  # configuration file error
    "HV": "wait",  # foreign data wrapper error
    "P0": "item",  # raised by a trigger of ours
    "XX": "wait",  # internal error, corrupted data
}
"""By SQLSTATE, else by its class of two characters."""
SQLITE: dict[str, Verdict] = {
    "ERROR": "wait",  # no such table: a migration has not run
    "INTERNAL": "wait",
    "PERM": "wait",
    "ABORT": "wait",
    "BUSY": "wait",
    "LOCKED": "wait",
    "NOMEM": "wait",
    "READONLY": "reconnect",  # the file was replaced or its folder has become read-only
    "INTERRUPT": "wait",
    "IOERR": "wait",
    "CORRUPT": "wait",
    "NOTFOUND": "wait",
    "FULL": "wait",
    "CANTOPEN": "wait",
    "PROTOCOL": "wait",
    "EMPTY": "wait",
    "SCHEMA": "wait",
    "TOOBIG": "item",
    "CONSTRAINT": "item",
    "MISMATCH": "item",
    "MISUSE": "item",
    "NOLFS": "wait",
    "AUTH": "wait",
    "FORMAT": "wait",
    "RANGE": "item",
    "NOTADB": "wait",
}
"""By the primary result code, without its prefix."""
DOWN_WITHOUT_CODE = frozenset({"OperationalError", "InterfaceError", "InternalError"})
"""Errors of psycopg that tell of a lost connection when they carry no code."""


def verdict(error: BaseException) -> Verdict:
    """Judge an error of ours, of SQLAlchemy or of a database's driver."""
    if isinstance(error, Unavailable | Stale | PoolTimeout | SettingError | SchemaIncompatible):
        return "wait"
    driver = error.orig if isinstance(error, DBAPIError) else error
    if state := getattr(driver, "sqlstate", None):
        return SQLSTATES.get(state) or SQLSTATES.get(state[:2], "item")
    if name := getattr(driver, "sqlite_errorname", None):
        return SQLITE.get(name.removeprefix("SQLITE_").partition("_")[0], "item")
    kinds = {kind.__name__ for kind in type(driver).__mro__ if kind.__module__.partition(".")[0] == "psycopg"}
    return "item" if kinds.isdisjoint(DOWN_WITHOUT_CODE) else "reconnect"


def by_halves(
    items: Sequence[T], work: Callable[[Sequence[T]], object], refused: Callable[[T, Exception], object]
) -> None:
    """Do work on items together; when that fails because of one of them, by halves.

    Each item that fails alone is handed to `refused`, with its error. Raise what is no item's fault.
    """
    try:
        work(items)
    except Exception as error:
        if not items or verdict(error) != "item":
            raise
        half = len(items) // 2
        if not half:
            refused(items[0], error)
            return
        for part in (items[:half], items[half:]):
            by_halves(part, work, refused)
