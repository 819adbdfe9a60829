"""Keep what was read from every database in one SQLite file, page by page, for the checks to join."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pulsaga.delivery.messages import id_time
from pulsaga.operate.verify.scope import EVER

PAGE = 2000
CACHE_KIB = 65536
BOUND_S = 60.0
"""Seconds that something may be overdue, or that a receiver's queues may be apart, before it counts."""

TABLES = {
    "accepted": "id, username, actor, idempotency_key, at",
    "cancelled": "id, command_id, at",
    "saga": "id, status, seq, subject, target, resend_at, wake_at, moved_at, digest",
    "log": (
        "id, status, seq, versions, last_version, started, ended, subject, reason_code, cause_code, target, wake_at, "
        "moved_at, at, awaited, digest, said_otherwise, trouble"
    ),
    "issued": "id, saga_id, name, receiver, at, succeeded, denied",
    "late": "saga_id, command_id, kind, policy",
    "event": "service, aggregate, version, id, type, answers, at",
    "met": "service, id, how",
    "outbox": "service, id, topic, saga_id, due_at",
    "failure": "service, side, id, topic, due_at",
    "dead": "service, id, topic, is_open",
    "incident": "service, kind, subject, is_open",
    "password": "username, version, command_id, saga_id, status, changed_at, mailed_at",
    "rotation": "username, saga_id, status",
    "mail": "id, saga_id, username, recipient, status, claim, due_at, created_at, ended_at",
    "webhook": "id, url, status, due_at, created_at, ended_at",
    "view_saga": "id, version, status, reason_code, subject, moved_at",
    "view_moves": "id, moves",
    "view_command": "id, version, username, actor, status, reason_code",
    "view_command_moves": "id, moves, last",
    "view_password": "service, username, version, status, changed_at",
    "view_mail": "id, version, username, recipient, status",
    "clock": "service, side, now",
}
INDEXES = {
    "accepted": ["id"],
    "saga": ["id"],
    "log": ["id"],
    "issued": ["id", "saga_id"],
    "event": ["id", "answers", "aggregate, version"],
    "met": ["id"],
    "outbox": ["id", "saga_id"],
    "dead": ["id"],
    "incident": ["subject"],
    "password": ["username"],
    "mail": ["id", "saga_id"],
    "view_saga": ["id"],
    "view_moves": ["id"],
    "view_command": ["id"],
    "view_command_moves": ["id"],
    "view_password": ["username"],
    "view_mail": ["id"],
}
DERIVED = """
INSERT INTO met SELECT service, id, 'failed' FROM failure WHERE side = 'write';
INSERT INTO met SELECT service, id, 'dead' FROM dead;

CREATE TABLE judged (id PRIMARY KEY) WITHOUT ROWID;

CREATE VIEW owned AS
SELECT i.*, l.status AS saga_status, l.awaited AS saga_awaits
FROM issued i JOIN judged j ON j.id = i.saga_id JOIN log l ON l.id = i.saga_id;

CREATE VIEW unheard AS
SELECT a.* FROM accepted a JOIN judged USING (id)
WHERE NOT EXISTS (SELECT 1 FROM log WHERE id = a.id)
  AND NOT EXISTS (SELECT 1 FROM saga WHERE id = a.id)
  AND NOT EXISTS (SELECT 1 FROM event WHERE answers = a.id AND service = 'protools_saga')
  AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = a.id AND service = 'bff')
  AND NOT EXISTS (SELECT 1 FROM met WHERE id = a.id AND service = 'protools_saga' AND how = 'failed')
  AND NOT EXISTS (SELECT 1 FROM dead WHERE id = a.id AND service = 'protools_saga' AND is_open);

CREATE VIEW newest AS
SELECT aggregate, MAX(version) AS version, type, answers
FROM event WHERE service = 'generador' AND type LIKE 'generador.password-%' GROUP BY aggregate;
"""
"""What several checks look at: the sagas that are judged, their commands, acceptances without a trace, and the newest
event of each username (SQLite takes the other columns from the row that holds the maximum)."""


class Bounds(NamedTuple):
    """Say what is judged; ids and Unix seconds."""

    since: str
    """Id from which on commands are judged."""
    cutoff: float
    """When what was left alone was touched last, at the latest."""
    cutoff_id: str
    known: str
    """Id below which an inbox may have forgotten."""
    ttl: float
    """Seconds after which a secret is destroyed."""


class Facts:
    """Take rows, then answer questions about them."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file
        self._pages: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._bounds: dict[str, Any] = {}
        for pragma in ("synchronous=OFF", "journal_mode=OFF", f"cache_size=-{CACHE_KIB}", "temp_store=FILE"):
            file.execute(f"PRAGMA {pragma}")
        for name, columns in TABLES.items():
            file.execute(f"CREATE TABLE {name} ({columns})")
        file.execute("BEGIN")

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Keep one row."""
        page = self._pages[table]
        page.append(row)
        if len(page) >= PAGE:
            self._write(table)

    def complete(self, bounds: Bounds) -> int:
        """Index what was read and pick what is judged; return how many sagas that are."""
        for table in TABLES:
            self._write(table)
        self._file.execute("COMMIT")
        for table, indexes in INDEXES.items():
            for number, columns in enumerate(indexes):
                self._file.execute(f"CREATE INDEX {table}_{number} ON {table} ({columns})")
        self._file.executescript(DERIVED)
        self._bounds = {**bounds._asdict(), "bound": BOUND_S}
        self._judge()
        self._note_who_lives(at_rest=bounds.cutoff == EVER)
        self._file.execute("ANALYZE")
        ((sagas,),) = self.ask("SELECT COUNT(*) FROM judged")
        return int(sagas)

    def ask(self, sql: str) -> Iterable[tuple[Any, ...]]:
        """Run one query; what `Bounds` holds is known by name, and `:bound`."""
        return self._file.execute(sql, self._bounds)

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

    def _note_who_lives(self, *, at_rest: bool) -> None:
        """Note when the newest message was made that each service has handled: what is much older, it never got.

        At rest nothing is on its way, so whatever was not handled is missing.
        """
        self._file.execute("CREATE TABLE lived (service, until)")
        for service in ("protools_saga", "generador", "correo"):
            until = EVER if at_rest else self._newest_handled(service)
            self._file.execute("INSERT INTO lived VALUES (?, ?)", (service, until))

    def _newest_handled(self, service: str) -> float:
        query = "SELECT MAX(id) FROM met WHERE service = ? AND how = 'handled'"
        newest = next(iter(self._file.execute(query, (service,))))[0]
        return id_time(newest).timestamp() if newest else 0.0


def rows_of(table: str, rows: Iterable[Any], *before: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Name the table for rows that are kept as they come, behind constant columns."""
    for row in rows:
        yield table, (*before, *row)
