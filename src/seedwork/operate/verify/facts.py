"""Keep what was read from every database in one SQLite file, page by page, for the checks to join."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pulsaga.delivery.messages import id_time
from pulsaga.operate.verify.scope import EVER

if TYPE_CHECKING:
    from pulsaga.operate.verify.catalogue import Catalogue

PAGE = 2000
CACHE_KIB = 65536
BOUND_S = 60.0
"""Seconds that something may be overdue, or that a receiver's queues may be apart, before it counts."""

DELIVERED = {
    "saga": "id, status, seq, subject, target, resend_at, wake_at, moved_at, digest",
    "branch": "id, saga_id, target, resend_at, wake_at, digest",
    "log": (
        "id, status, seq, versions, last_version, started, ended, subject, reason_code, cause_code, target, wake_at, "
        "moved_at, at, branches, digest, said_otherwise, trouble, began_by, actor"
    ),
    "branch_log": "id, saga_id, version, target, wake_at, digest",
    "slot": "id, saga_id, state",
    "slot_log": "id, saga_id, state",
    "issued": "id, saga_id, name, receiver, at, succeeded, denied, is_undone, is_awaited",
    "late": "saga_id, command_id, kind, policy",
    "event": "service, aggregate, version, id, type, answers, at",
    "met": "service, id, how",
    "outbox": "service, id, topic, saga_id, due_at",
    "failure": "service, side, id, topic, due_at",
    "dead": "service, id, topic, is_open",
    "incident": "service, kind, subject, is_open",
    "clock": "service, side, now",
    "paused": "service, topic, at",
}
"""What is known of every system: its sagas, and what each service was told, did and said."""
INDEXES = {
    "saga": ["id"],
    "branch": ["id"],
    "log": ["id"],
    "branch_log": ["id"],
    "slot": ["id"],
    "slot_log": ["id"],
    "issued": ["id", "saga_id"],
    "event": ["id", "answers", "aggregate, version"],
    "met": ["id"],
    "outbox": ["id", "saga_id"],
    "dead": ["id"],
    "incident": ["subject"],
}
COUNTED = """
INSERT INTO met SELECT service, id, 'failed' FROM failure WHERE side = 'write';
INSERT INTO met SELECT service, id, 'dead' FROM dead;

CREATE TABLE judged (id PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE in_hand (service, id, PRIMARY KEY (id, service)) WITHOUT ROWID;
"""
RESERVED = ("judged", "in_hand", "lived", "owned", "unheard")
"""Names that no other table of facts may have."""
DERIVED = """
CREATE VIEW owned AS
SELECT i.*, l.status AS saga_status
FROM issued i JOIN judged j ON j.id = i.saga_id JOIN log l ON l.id = i.saga_id;

CREATE VIEW unheard AS
SELECT a.* FROM accepted a JOIN judged USING (id)
WHERE NOT EXISTS (SELECT 1 FROM log WHERE id = a.id)
  AND NOT EXISTS (SELECT 1 FROM saga WHERE id = a.id)
  AND NOT EXISTS (SELECT 1 FROM event WHERE answers = a.id AND service = :coordinator)
  AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = a.id AND service = :front_door)
  AND NOT EXISTS (SELECT 1 FROM met WHERE id = a.id AND service = :coordinator AND how = 'failed')
  AND NOT EXISTS (SELECT 1 FROM dead WHERE id = a.id AND service = :coordinator AND is_open);
"""
"""What several checks look at: the commands of the sagas that are judged, and acceptances without a trace."""


class Bounds(NamedTuple):
    """What is judged; ids and Unix seconds."""

    since: str
    """Id from which on commands are judged."""
    cutoff: float
    """When what was left alone was touched last, at the latest."""
    cutoff_id: str
    known: str
    """Id below which an inbox may have forgotten."""


class Facts:
    """Rows of every database, and answers to questions about them."""

    def __init__(self, file: sqlite3.Connection, catalogue: Catalogue) -> None:
        self._file, self._catalogue = file, catalogue
        self._pages: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._bounds: dict[str, Any] = {}
        for pragma in ("synchronous=OFF", "journal_mode=OFF", f"cache_size=-{CACHE_KIB}", "temp_store=FILE"):
            file.execute(f"PRAGMA {pragma}")
        for name, columns in catalogue.tables.items():
            file.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
        file.execute("BEGIN")

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Keep one row."""
        page = self._pages[table]
        page.append(row)
        if len(page) >= PAGE:
            self._write(table)

    def complete(self, bounds: Bounds) -> int:
        """Index what was read and pick what is judged; return how many sagas that are."""
        for table in self._catalogue.tables:
            self._write(table)
        self._file.execute("COMMIT")
        for table, indexes in self._catalogue.indexes.items():
            for number, columns in enumerate(indexes):
                self._file.execute(f"CREATE INDEX {table}_{number} ON {table} ({columns})")
        self._bounds = {**bounds._asdict(), "bound": BOUND_S}
        self._file.executescript(COUNTED)
        for script, parameters in self._catalogue.derived:
            self._file.executescript(written_out(script, {**self._bounds, **parameters}))
        self._judge()
        self._note_what_is_in_hand()
        self._note_who_lives(at_rest=bounds.cutoff == EVER)
        self._file.execute("ANALYZE")
        ((sagas,),) = self.ask("SELECT COUNT(*) FROM judged")
        return int(sagas)

    def ask(self, sql: str, parameters: Mapping[str, Any] | None = None, name: str = "") -> Iterable[tuple[Any, ...]]:
        """Run one query, which knows its parameters, what `Bounds` holds and `:bound` by name.

        Raise ValueError, naming the query, for one that cannot be run.
        """
        try:
            return self._file.execute(sql, {**self._bounds, **(parameters or {})}).fetchall()
        except sqlite3.Error as error:
            raise ValueError(f"{name or sql} cannot be asked: {error}") from error

    def _write(self, table: str) -> None:
        page = self._pages.pop(table, None)
        if page:
            marks = ", ".join("?" for _ in page[0])
            self._file.executemany(f"INSERT INTO {table} VALUES ({marks})", page)  # noqa: S608 - our names

    def _judge(self) -> None:
        self.ask(
            "INSERT OR IGNORE INTO judged SELECT id FROM "
            "(SELECT id FROM accepted UNION ALL SELECT id FROM log UNION ALL SELECT id FROM saga) AS known "
            "WHERE id >= :since AND id < :cutoff_id "
            "AND NOT EXISTS (SELECT 1 FROM log WHERE log.id = known.id AND log.at >= :cutoff)"
        )

    def _note_what_is_in_hand(self) -> None:
        for query, parameters in self._catalogue.in_hand:
            name = f"what {parameters['service']} has in hand"
            self.ask(f"INSERT OR IGNORE INTO in_hand SELECT :service, id FROM ({query})", parameters, name)  # noqa: S608 - our names

    def _note_who_lives(self, *, at_rest: bool) -> None:
        """Note when the newest message was made that each service has handled: what is much older, it never got.

        At rest nothing is on its way, so whatever was not handled is missing, but for what came after a pause began.
        """
        self._file.execute("CREATE TABLE lived (service, until)")
        for service in self._catalogue.services:
            until = EVER if at_rest else self._newest_handled(service)
            until = min(until, self._paused_at(service))
            self._file.execute("INSERT INTO lived VALUES (?, ?)", (service, until))

    def _paused_at(self, service: str) -> float:
        query = "SELECT MIN(at) FROM paused WHERE service = ?"
        began = next(iter(self._file.execute(query, (service,))))[0]
        return EVER if began is None else float(began)

    def _newest_handled(self, service: str) -> float:
        query = "SELECT MAX(id) FROM met WHERE service = ? AND how = 'handled'"
        newest = next(iter(self._file.execute(query, (service,))))[0]
        return id_time(newest).timestamp() if newest else 0.0


def written_out(script: str, values: Mapping[str, Any]) -> str:
    """Write values into a script at their names, since a view takes no parameters."""

    def literal(name: re.Match[str]) -> str:
        value = values.get(name[1], name[0])
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) and name[1] in values else str(value)

    return re.sub(r":([a-z_]+)\b", literal, script)


def rows_of(table: str, rows: Iterable[Any], *before: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Name the table for rows that are kept as they come, behind constant columns."""
    for row in rows:
        yield table, (*before, *row)
