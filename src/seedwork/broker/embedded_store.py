"""Keep the embedded broker's messages, subscriptions and schemas in one SQLite file.

What a subscription has yet to acknowledge is a row in `owed`; a message whose last such row goes, goes with it. All
methods run inside the transaction that `begin` opens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

FORMAT = 1
SCHEMA = """
CREATE TABLE topic (id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (namespace, name));
CREATE TABLE schema (
    topic INTEGER NOT NULL, version INTEGER NOT NULL, avsc TEXT NOT NULL, PRIMARY KEY (topic, version)
);
CREATE TABLE subscription (id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (topic, name));
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice: a late acknowledgement must not hit another message
    topic INTEGER NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, packed BLOB NOT NULL
);
CREATE INDEX message_topic ON message (topic);
CREATE TABLE owed (
    subscription INTEGER NOT NULL, message INTEGER NOT NULL, PRIMARY KEY (subscription, message)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
FINISHED = """
DELETE FROM message WHERE id = ?1 AND NOT EXISTS (
    SELECT 1 FROM subscription JOIN owed ON owed.subscription = subscription.id AND owed.message = ?1
    WHERE subscription.topic = message.topic)
"""
OWED = """
SELECT id, key, version, packed FROM owed JOIN message ON id = message
WHERE subscription = ? AND message > ? ORDER BY message LIMIT ?
"""
COUNTED = """
SELECT topic.name, subscription.name, (SELECT count(*) FROM owed WHERE owed.subscription = subscription.id),
    topic.id, subscription.id
FROM topic JOIN subscription ON subscription.topic = topic.id WHERE namespace = ? ORDER BY topic.name, subscription.name
"""
STORED = "SELECT id, key, version, packed FROM message WHERE topic = ? AND id > ? ORDER BY id LIMIT ?"


class Message(NamedTuple):
    """Hold one stored message; `packed` is key, properties and body as the publisher packed them. Ordered by id."""

    id: int
    key: str
    version: int
    packed: bytes


class Store:
    """Read and write the broker's file; one thread, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        found = self._number("PRAGMA user_version")
        if not found:
            self._db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif found != FORMAT:
            raise sqlite3.DatabaseError(f"{path} has format {found}, this broker writes {FORMAT}")
        self.last_id = self._number("SELECT seq FROM sqlite_sequence WHERE name = 'message'") or 0

    def begin(self) -> None:
        """Open a transaction."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Return when everything since `begin` is on disk."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo everything since `begin`, if there was one."""
        self._db.rollback()

    def close(self) -> None:
        """Close the file; SQLite folds the write-ahead log into it."""
        self._db.close()

    def topics(self, namespace: str) -> list[str]:
        """List the topics of a namespace, sorted."""
        return self._column("SELECT name FROM topic WHERE namespace = ? ORDER BY name", namespace)

    def topic(self, namespace: str, name: str) -> int | None:
        """Find a topic's id."""
        return self._number("SELECT id FROM topic WHERE namespace = ? AND name = ?", namespace, name)

    def create_topic(self, namespace: str, name: str) -> None:
        """Create a topic that is missing."""
        self._db.execute("INSERT OR IGNORE INTO topic (namespace, name) VALUES (?, ?)", (namespace, name))

    def schemas(self, topic: int | None) -> list[str]:
        """List a topic's schemas; the first is version 1."""
        return self._column("SELECT avsc FROM schema WHERE topic = ? ORDER BY version", topic)

    def has_schema(self, topic: int, version: int) -> bool:
        """Tell whether this version is registered."""
        return self._number("SELECT 1 FROM schema WHERE topic = ? AND version = ?", topic, version) is not None

    def add_schema(self, topic: int, avsc: str) -> None:
        """Register the next version."""
        version = len(self.schemas(topic)) + 1
        self._db.execute("INSERT INTO schema (topic, version, avsc) VALUES (?, ?, ?)", (topic, version, avsc))

    def subscriptions(self, topic: int) -> list[str]:
        """List the names of a topic's durable subscriptions, sorted."""
        return self._column("SELECT name FROM subscription WHERE topic = ? ORDER BY name", topic)

    def subscription(self, topic: int, name: str) -> int:
        """Return a subscription's id; a new one is owed every message there is."""
        found = self._number("SELECT id FROM subscription WHERE topic = ? AND name = ?", topic, name)
        if found is not None:
            return found
        self._db.execute("INSERT INTO subscription (topic, name) VALUES (?, ?)", (topic, name))
        self._db.execute("INSERT INTO owed SELECT last_insert_rowid(), id FROM message WHERE topic = ?", (topic,))
        return self.subscription(topic, name)

    def add(self, topic: int, contents: Iterable[tuple[str, int, bytes]]) -> list[Message]:
        """Store messages of (key, version, packed) and owe them to every subscription of the topic."""
        messages = [Message(number, *content) for number, content in enumerate(contents, self.last_id + 1)]
        self.last_id += len(messages)
        insert = "INSERT INTO message (topic, id, key, version, packed) VALUES (?, ?, ?, ?, ?)"
        self._db.executemany(insert, [(topic, *message) for message in messages])
        for subscription in self._column("SELECT id FROM subscription WHERE topic = ?", topic):
            self._db.executemany("INSERT INTO owed VALUES (?, ?)", [(subscription, m.id) for m in messages])
        return messages

    def acknowledge(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Strike (subscription, message) off, and remove the messages that nobody is owed any more."""
        if pairs:
            self._db.executemany("DELETE FROM owed WHERE subscription = ? AND message = ?", pairs)
            self._db.executemany(FINISHED, [(message,) for _, message in pairs])

    def owed(self, subscription: int, after: int, limit: int) -> Iterable[Message]:
        """Read what a subscription has not acknowledged, in order, lazily."""
        return map(Message._make, self._db.execute(OWED, (subscription, after, limit)))

    def stored(self, topic: int, after: int, limit: int) -> Iterable[Message]:
        """Read what a topic holds, in order, lazily."""
        return map(Message._make, self._db.execute(STORED, (topic, after, limit)))

    def counted(self, namespace: str) -> list[tuple[str, str, int, int, int]]:
        """List topic, subscription, number of messages it is owed, and both ids, sorted."""
        return self._db.execute(COUNTED, (namespace,)).fetchall()

    def _number(self, query: str, *values: object) -> int | None:
        row = self._db.execute(query, values).fetchone()
        return row[0] if row else None

    def _column(self, query: str, *values: object) -> list[str]:
        return [value for (value,) in self._db.execute(query, values)]
