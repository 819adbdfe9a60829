"""Lay out the users: what is known of each in the write database, what is shown in the read database."""

from __future__ import annotations

from typing import TypedDict

from sqlalchemy import Boolean, Column, Double, Integer, MetaData, String

from pulsaga import Id, Row, Rows, partial_index
from pulsaga.web import guess_budgets
from usuarios.domain import UserRow

WRITE = MetaData()
READ = MetaData()


class IssuedRow(TypedDict):
    """The last password that was issued for a username, and where its link went."""

    username: str
    saga_id: str
    email: str
    sent_at: float
    used: bool


class ProposalRow(TypedDict):
    """An address that was asked for, by which a user can be erased."""

    id: str
    user_id: str
    email: str


class ResetRow(TypedDict):
    """A link by which a user may choose another password."""

    id: str
    user_id: str
    created_at: float
    expires_at: float | None


usuario = Rows[UserRow](
    "usuario",
    WRITE,
    Column("id", Id, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("username", String, nullable=False, unique=True),
    Column("email", String, nullable=False),
    Column("email_key", String, nullable=False, unique=True, comment="the address in the form that is told apart"),
    Column("first_name", String, nullable=False),
    Column("last_name", String, nullable=False),
    Column("phone", String, nullable=False),
    Column("admin", Boolean, nullable=False, comment="the mark that an operator sets"),
    Column("active", Boolean, nullable=False),
    Column("password_hash", String, comment="argon2id; null where none was chosen"),
    Column("sessions_not_before", Double, nullable=False, comment="tokens that were issued before are good no more"),
    Column("proposed_email", String, comment="waits to be confirmed"),
    Column("proposed_by", Id, comment="the saga whose proposal waits, or was the last to"),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    info={"subject": "username"},
)
issued = Rows[IssuedRow](
    "issued",
    WRITE,
    Column("username", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("saga_id", Id, nullable=False),
    Column("email", String, nullable=False, comment="where the link of the password went"),
    Column("sent_at", Double, nullable=False),
    Column("used", Boolean, nullable=False, comment="it is good for one log-in"),
    info={"subject": "username"},
)
reset = Rows[ResetRow](
    "reset",
    WRITE,
    Column("id", String, primary_key=True, comment="SHA-256 of the link's token, in hex"),
    Column("revision", Integer, nullable=False),
    Column("user_id", Id, nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, comment="null once it was used"),
    partial_index("reset_open", "expires_at"),
)
RESETS_KEPT_S = 7 * 86400.0
"""Seconds for which a link is known: so long its bearer is told that it was used."""
proposal = Rows[ProposalRow](
    "proposal",
    WRITE,
    Column("id", Id, primary_key=True, comment="of the saga"),
    Column("revision", Integer, nullable=False),
    Column("user_id", Id, nullable=False, index=True),
    Column("email", String, nullable=False, comment="what was asked for, whatever came of it"),
)
guess_budget = guess_budgets(WRITE)

usuario_view = Rows[Row](
    "usuario_view",
    READ,
    Column("user_id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("username", String, nullable=False),
    Column("first_name", String, nullable=False),
    Column("last_name", String, nullable=False),
    Column("phone", String, nullable=False),
    Column("email", String, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
)
