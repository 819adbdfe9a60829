"""Keep what makes delivery exactly once in effect: inbox, event history, outbox, failures, dead letters, incidents.

Every write database holds these tables beside the service's own. Times are Unix seconds by the database's clock.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgpack
import orjson
from sqlalchemy import Column, Double, Index, Integer, LargeBinary, MetaData, String, Text, Uuid, text
from sqlalchemy.sql.elements import TextClause

from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.messages import Context
from pulsaga.delivery.transaction.rows import Row, Rows

DELIVERY = MetaData()
Id = String(36).with_variant(Uuid(as_uuid=False), "postgresql")
"""A UUID as text in Python; PostgreSQL keeps 16 bytes of it."""


def partial_index(name: str, *columns: str) -> Index:
    """Index only the rows in which the last of the columns is not null: what still waits."""
    return index_where(text(f"{columns[-1]} IS NOT NULL"), name, *columns)


def index_where(condition: TextClause, name: str, *columns: str, unique: bool = False) -> Index:
    """Index only the rows that meet a condition."""
    return Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


inbox = Rows[Row](
    "inbox",
    DELIVERY,
    Column("id", Id, primary_key=True),
    Column("consumer", String, primary_key=True, comment="last in the key: it is the same in every row here"),
    Column("hash", LargeBinary, comment="of the body; null is a tombstone that refuses any body"),
    Column("at", Double, nullable=False),
    postgresql_partition_by="RANGE (id)",
)

event = Rows[Row](
    "event",
    DELIVERY,
    Column("aggregate", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("id", Id, nullable=False),
    Column("type", String, nullable=False),
    Column("answers", Id, unique=True, comment="the command whose reply this is; published again on redelivery"),
    Column("wire", LargeBinary, nullable=False, comment="packed wire: envelope and full state in Avro"),
    Column("at", Double, nullable=False),
)

outbox = Rows[Row](
    "outbox",
    DELIVERY,
    Column("id", Id, primary_key=True),
    Column("topic", String, nullable=False),
    Column("wire", LargeBinary, nullable=False),
    Column("due_at", Double, nullable=False, comment="the sweep publishes what is still here then"),
    Index("outbox_due", "due_at"),
)

failure = Rows[Row](
    "failure",
    DELIVERY,
    Column("id", String, primary_key=True, comment="ce_id, or the hash of bytes that have none"),
    Column("topic", String, nullable=False),
    Column("delivery", LargeBinary, nullable=False, comment="packed as received, with the writer's schema version"),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("at", Double, nullable=False),
    Index("failure_due", "due_at"),
)

dead_letter = Rows[Row](
    "dead_letter",
    DELIVERY,
    Column("id", String, primary_key=True, comment="a message that is replayed may die again: an open letter at most"),
    Column("topic", String, nullable=False),
    Column("delivery", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("saga_id", String),
    Column("at", Double, primary_key=True),
    Column("outcome", String, comment="replayed, discarded or superseded; null is open"),
    Column("ended_at", Double, comment="when the outcome was decided"),
    index_where(text("outcome IS NULL"), "dead_letter_open", "id", unique=True),
)

dead_letter_archive = Rows[Row](
    "dead_letter_archive",
    DELIVERY,
    Column("id", String, primary_key=True, comment="of a letter that was discarded, or that retention has moved here"),
    Column("topic", String, nullable=False),
    Column("delivery", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("saga_id", String),
    Column("at", Double, primary_key=True),
    Column("outcome", String, nullable=False),
    Column("ended_at", Double, nullable=False),
)
LETTERS = (dead_letter, dead_letter_archive)
"""Where dead letters lie."""

incident = Rows[Row](
    "incident",
    DELIVERY,
    Column("id", Id, primary_key=True),
    Column("kind", String, nullable=False, comment="what an operator must look at"),
    Column("subject", String, nullable=False, comment="saga id or message id"),
    Column("code", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("closed_at", Double, comment="when its dead letter or saga was dealt with; null is open"),
    Column("topic", String, comment="message type that it is about, if it is about one"),
    Column("told_at", Double, comment="when INCIDENT_WEBHOOK took it"),
    index_where(text("closed_at IS NULL"), "incident_open", "subject", "kind", unique=True),
    index_where(text("told_at IS NULL OR closed_at > told_at"), "incident_untold", "at"),
)

heartbeat = Rows[Row](
    "heartbeat",
    DELIVERY,
    Column("id", Id, primary_key=True, comment="of one run of one process"),
    Column("kind", String, nullable=False, comment="worker, web, or a kind of the service's own"),
    Column("replica", String, nullable=False, comment="host and process id"),
    Column("version", String, nullable=False, comment="of the system that it runs"),
    Column("address", String, comment="host and port on which it answers operators"),
    Column("started_at", Double, nullable=False),
    Column("beat_at", Double, nullable=False),
    Column("ended_at", Double, comment="when it said that it ends; null while it runs, or if it was killed"),
    Column("last_batch_at", Double),
    Column("last_error", Text),
    Column("waits_since", Double),
    Column("waits_for", Text),
    Column("clock_ahead_s", Double, comment="seconds that the clock of its machine is ahead of the database's"),
    Column("hears", Text, comment="JSON: processes that it hears by service and kind, if it watches over them"),
)

latest = Rows[Row](
    "latest",
    DELIVERY,
    Column("id", String, primary_key=True, comment="message type and aggregate, separated by a space"),
    Column("revision", Integer, nullable=False),
    Column("accepted_at", Double, nullable=False, comment="of the newest such message that was handled"),
    Column("late", Integer, nullable=False, comment="number of older events that came after it and changed nothing"),
)

pause = Rows[Row](
    "pause",
    DELIVERY,
    Column("topic", String, primary_key=True, comment="a type that is paused; * is all that the service handles"),
    Column("who", String, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", Double, nullable=False),
)

audit = Rows[Row](
    "audit",
    DELIVERY,
    Column("id", Id, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", String, nullable=False),
    Column("why", Text, nullable=False),
    Column("action", String, nullable=False, comment="what an operator did, or wanted while others have to agree"),
    Column("subject", String, nullable=False, comment="message id or saga id"),
    Column("detail", Text, nullable=False, comment="JSON: what the action was given and what it changed"),
    Index("audit_subject", "subject"),
)


class Seen(NamedTuple):
    """Hold what the inbox knows of one id: the body's hash (None for a tombstone), and the reply once there is one."""

    hash: bytes | None
    reply: Wire | None


def hash_of(body: bytes) -> bytes:
    """Return the SHA-256 of a body: the same id with another hash is a conflict."""
    return hashlib.sha256(body).digest()


def pack(wire: Wire) -> bytes:
    """Write a wire as bytes for a database column."""
    packed: bytes = msgpack.packb(wire)
    return packed


def unpack(packed: bytes) -> Wire:
    """Read what `pack` wrote."""
    return Wire(*msgpack.unpackb(packed))


def pack_delivery(delivery: Delivery) -> bytes:
    """Write a received message as bytes, with the version of its writer's schema."""
    packed: bytes = msgpack.packb((pack(delivery.wire), delivery.schema))
    return packed


def unpack_delivery(packed: bytes) -> Delivery:
    """Read what `pack_delivery` wrote; there is nothing left to acknowledge."""
    wire, schema = msgpack.unpackb(packed)
    return Delivery(unpack(wire), schema, None)


def pack_context(context: Context) -> str:
    """Write a context as JSON for a database column."""
    return orjson.dumps(context._asdict()).decode()


def unpack_context(packed: str) -> Context:
    """Read what `pack_context` wrote."""
    return Context(**orjson.loads(packed))


def identity(delivery: Delivery) -> str:
    """Name a message for the failure tables: its `ce_id` when that can be stored, else the hash of what came."""
    given = delivery.wire.properties.get("ce_id", "")
    return given if given.isprintable() and 0 < len(given) <= 100 else hash_of(pack(delivery.wire)).hex()
