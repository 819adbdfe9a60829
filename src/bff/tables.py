"""The tables that the front door has beside those of every front door: passwords in the read database."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, MetaData, String

from pulsaga import Row, Rows

VIEWS = MetaData()

password = Rows[Row](
    "password",
    VIEWS,
    Column("username", String, primary_key=True),
    Column("actor", String, comment="who asked for it; null for what came by no front door"),
    Column("version", Integer, nullable=False),
    Column("status", String, nullable=False, comment="issued, revealed, revoked or expired"),
    Column("issued_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Index("password_changed", "changed_at"),
    Index("password_actor", "actor", "username"),
)
