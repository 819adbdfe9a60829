"""Lay out the front door's tables: acceptances in the write database, commands in the read database."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

from pulsaga.delivery.tables import Id, partial_index
from pulsaga.delivery.transaction.rows import Row, Rows

WRITE = MetaData()
READ = MetaData()

api_key = Rows[Row](
    "api_key",
    WRITE,
    Column("id", Id, primary_key=True),
    Column("subject", String, nullable=False, comment="in whose name it asks"),
    Column("role", String, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the key, which nobody keeps"),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double, comment="null while it is good"),
    info={"append_only": True},
)

acceptance = Rows[Row](
    "acceptance",
    WRITE,
    Column("id", Id, primary_key=True, comment="command id and saga id"),
    Column("type", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("actor", String, nullable=False, comment="who asked for it"),
    Column("idempotency_key", String, comment="null once it is forgotten"),
    Column("body_hash", String, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("actor", "idempotency_key", name="acceptance_once_per_key"),
    partial_index("acceptance_keyed", "id", "idempotency_key"),
    info={"append_only": True},
)

cancellation = Rows[Row](
    "cancellation",
    WRITE,
    Column("id", Id, primary_key=True, comment="of the command that is to be cancelled"),
    Column("command_id", Id, nullable=False, comment="of the CancelSaga that says so"),
    Column("actor", String, nullable=False, comment="who asked for it"),
    Column("at", Double, nullable=False),
    info={"append_only": True},
)

webhook = Rows[Row](
    "webhook",
    WRITE,
    Column("id", Id, primary_key=True, comment="of the command whose end is told"),
    Column("revision", Integer, nullable=False),
    Column("actor", String, nullable=False, comment="whose secret signs it"),
    Column("url", Text, nullable=False),
    Column("receiver", Text, nullable=False, server_default="", comment="host and port of the URL"),
    Column("status", String, nullable=False, comment="waiting, delivered or dead"),
    Column("attempts", Integer, nullable=False),
    Column("claim", Id, comment="token that a sender must still hold when it reports"),
    Column("due_at", Double, comment="null once it was delivered or given up"),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("error", Text, nullable=False),
    Column("traceparent", String, comment="of the request that asked for the call"),
    partial_index("webhook_due", "due_at"),
)

command = Rows[Row](
    "command",
    READ,
    Column("id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("type", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("actor", String, comment="who asked for it; null for what came by no front door"),
    Column("status", String, nullable=False, comment="running, completed, refused or suspended"),
    Column("reason_code", String, nullable=False),
    Column("reason_detail", Text, nullable=False),
    Column("cancellable", Boolean, nullable=False, comment="whether to cancel it is still possible, or was done"),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

refused_cancel = Rows[Row](
    "refused_cancel",
    READ,
    Column("id", Id, primary_key=True, comment="of a CancelSaga that came to nothing: it may be said again"),
    Column("version", Integer, nullable=False),
)

awaited = Rows[Row](
    "awaited",
    READ,
    Column("id", String, primary_key=True, comment="id of the saga, and the path"),
    Column("version", Integer, nullable=False),
    Column("saga_id", Id, nullable=False),
    Column("signal", String, nullable=False),
    Column("state", String, nullable=False, comment="open, taken or over"),
    Index("awaited_saga", "saga_id"),
)

signal_token = Rows[Row](
    "signal_token",
    READ,
    Column("id", String, primary_key=True, comment="SHA-256 of a token in hex: who bears it may send the signal"),
    Column("version", Integer, nullable=False),
    Column("saga_id", Id, nullable=False),
    Column("signal", String, nullable=False),
)

command_move = Rows[Row](
    "command_move",
    READ,
    Column("id", Id, primary_key=True),
    Column("version", Integer, primary_key=True, comment="counts without a gap from 1; 0 or 1 without a saga"),
    Column("status", String, nullable=False),
    Column("reason_code", String, nullable=False),
    Column("reason_detail", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
)


def visible(table: Table, actor: str | None) -> ColumnElement[bool]:
    """Select what a caller may see: what `actor` asked for, or everything where that is None."""
    return true() if actor is None else table.c.actor == actor
