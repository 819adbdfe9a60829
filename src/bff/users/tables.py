"""The users as the front door knows them: it looks up who still may come in, and whose address is whose."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, Integer, String

from bff.tables import VIEWS
from pulsaga import Id, Row, Rows

user = Rows[Row](
    "app_user",
    VIEWS,
    Column("user_id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("username", String, nullable=False, index=True),
    Column("first_name", String, nullable=False),
    Column("last_name", String, nullable=False),
    Column("phone", String, nullable=False),
    Column("email", String, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("sessions_not_before", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
)
email_history = Rows[Row](
    "email_history",
    VIEWS,
    Column("user_id", Id, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("email", String, nullable=False),
    Column("actor", String),
    Column("at", Double, nullable=False),
)
