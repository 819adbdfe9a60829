"""Lay out the front door's tables: beside what every front door has, passwords in the read database."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, MetaData, String

from pulsaga.delivery.rows import Row, Rows
from pulsaga.web.front_door import tables as front_door

password = Rows[Row](
    "password",
    MetaData(),
    Column("username", String, primary_key=True),
    Column("actor", String, comment="who asked for it; null for what came by no front door"),
    Column("version", Integer, nullable=False),
    Column("status", String, nullable=False, comment="issued, revealed, revoked or expired"),
    Column("issued_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Index("password_changed", "changed_at"),
    Index("password_actor", "actor", "username"),
)
WRITE = front_door.WRITE
READ = front_door.views(password)
