"""Lay out the coordinator's tables: the saga row is a snapshot of its log, which is the `event` table."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Double, Index, Integer, MetaData, String, Table, Text, text

from pulsaga.delivery.tables import Id, event, index_where, partial_index
from pulsaga.delivery.transaction.rows import Row, Rows

WRITE = MetaData()
READ = MetaData()

saga = Rows[Row](
    "saga",
    WRITE,
    Column("id", Id, primary_key=True),
    Column("revision", Integer, nullable=False, comment="number of writes; an update says which one it saw"),
    Column("workflow", String, nullable=False, comment="name@version"),
    Column("status", String, nullable=False),
    Column("seq", Integer, nullable=False, comment="number of moves"),
    Column("subject", String, nullable=False),
    Column("progress", Text, nullable=False, comment="JSON of Progress"),
    Column("context", Text, nullable=False, comment="JSON of Context: what later messages inherit"),
    Column("target", String, comment="service whose answer is awaited"),
    Column("resend_at", Double, comment="when the outstanding command may be sent again"),
    Column("wake_at", Double, comment="deadline of the outstanding command"),
    Column("moved_at", Double, nullable=False),
    Column("asked_at", Double, comment="when the outstanding command was first sent; null for what none is known of"),
    CheckConstraint(
        "(status IN ('RUNNING', 'COMPENSATING')) = (wake_at IS NOT NULL)", name="saga_never_waits_for_ever"
    ),
    CheckConstraint(
        "status IN ('RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'SUSPENDED')", name="saga_status_is_known"
    ),
    partial_index("saga_wake", "wake_at"),
    partial_index("saga_resend", "target", "resend_at"),
    index_where(text("status = 'SUSPENDED'"), "saga_suspended", "moved_at"),
)

saga_branch = Rows[Row](  # locked after its saga's row, since tables are locked by name
    "saga_branch",
    WRITE,
    Column("id", String, primary_key=True, comment="id of the saga, and the path"),
    Column("revision", Integer, nullable=False),
    Column("saga_id", Id, nullable=False),
    Column("path", String, nullable=False),
    Column("command_id", Id, comment="newest command of its steps"),
    Column("undo_id", Id, comment="newest command that undoes one of them"),
    Column("target", String, comment="service whose answer is awaited"),
    Column("resend_at", Double, comment="when the outstanding command may be sent again"),
    Column("wake_at", Double, comment="deadline of the outstanding command, or end of a rest"),
    Column("state", Text, nullable=False, comment="JSON of Branch"),
    Column("asked_at", Double, comment="when the outstanding command was first sent; null for what none is known of"),
    Index("saga_branch_saga", "saga_id"),
    partial_index("saga_branch_wake", "saga_id", "wake_at"),
    partial_index("saga_branch_resend", "target", "resend_at"),
    partial_index("saga_branch_command", "command_id"),
    partial_index("saga_branch_undo", "undo_id"),
)

saga_child = Rows[Row](
    "saga_child",
    WRITE,
    Column("id", Id, primary_key=True, comment="of a saga that another one has started"),
    Column("parent_id", Id, nullable=False),
    info={"append_only": True},
)

slot = Rows[Row](
    "slot",
    WRITE,
    Column("id", String, primary_key=True, comment="id of the saga, and the path of its step"),
    Column("revision", Integer, nullable=False),
    Column("limit_key", String, nullable=False),
    Column("saga_id", Id, nullable=False),
    Column("path", String, nullable=False),
    Column("state", String, nullable=False, comment="waiting, held or free; what is free is deleted"),
    Column("at", Double, nullable=False, comment="since when it waits"),
    Index("slot_turn", "limit_key", "state", "at"),
    Index("slot_saga", "saga_id"),
)

slot_limit = Rows[Row](
    "slot_limit",
    WRITE,
    Column("limit_key", String, primary_key=True, comment="held by whoever gives out its slots"),
    info={"append_only": True},
)

schedule = Rows[Row](
    "schedule",
    WRITE,
    Column("name", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("times", String, nullable=False, comment="cron expression and time zone"),
    Column("tick_at", Double, nullable=False, comment="the tick that is fired next"),
    Column("next_at", Double, comment="when it is looked at next; null while it is paused"),
    Column("last_id", Id, comment="of the saga that the last tick has started"),
    Column("last_at", Double, comment="when it was started"),
    Column("is_paused", Boolean, nullable=False),
    partial_index("schedule_next", "next_at"),
)

target = Rows[Row](
    "target",
    WRITE,
    Column("name", String, primary_key=True, comment="a service that commands are sent to"),
    Column("revision", Integer, nullable=False),
    Column("probe_at", Double, nullable=False, comment="before this time a silent service gets no further probe"),
    Column("usual_s", Double, comment="seconds that its answers usually take; null while none is known"),
    Column("spread_s", Double, comment="mean deviation of these"),
)

expected = Rows[Row](
    "expected",
    WRITE,
    Column("service", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("count", Integer, nullable=False, comment="processes that are to run; fewer are an incident"),
    Column("at", Double, nullable=False, comment="since when"),
)


def _archive_of(table: Table) -> Table:
    """Lay out what `protools retention` moves the rows of a table to: the same columns, no index but the key."""
    columns = [Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable) for c in table.columns]
    return Table(f"{table.name}_archive", WRITE, *columns)


saga_archive, saga_branch_archive, event_archive = _archive_of(saga), _archive_of(saga_branch), _archive_of(event)

saga_view = Rows[Row](
    "saga_view",
    READ,
    Column("id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("workflow", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("actor", String, comment="who asked for it; null for what came by no front door"),
    Column("status", String, nullable=False),
    Column("reason_code", String, nullable=False),
    Column("reason_detail", Text, nullable=False),
    Column("steps", Text, nullable=False, comment="JSON list"),
    Column("started_at", Double, nullable=False),
    Column("moved_at", Double, nullable=False),
    Index("saga_view_started", "started_at"),
    Index("saga_view_subject", "subject"),
)

saga_branch_view = Rows[Row](
    "saga_branch_view",
    READ,
    Column("id", String, primary_key=True, comment="id of the saga, and the path"),
    Column("version", Integer, nullable=False),
    Column("saga_id", Id, nullable=False),
    Column("steps", Text, nullable=False, comment="JSON list"),
    Index("saga_branch_view_saga", "saga_id"),
)

saga_move = Rows[Row](
    "saga_move",
    READ,
    Column("id", Id, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("entries", Text, nullable=False, comment="JSON list of log entries, without data"),
)
