"""Lay out the mails: what is to be sent in the write database, what was sent in the read database."""

from __future__ import annotations

from typing import Literal, TypedDict

from sqlalchemy import Column, Double, Integer, MetaData, String, Text

from pulsaga import Id, Row, Rows, partial_index

WRITE = MetaData()
READ = MetaData()


class MailRow(TypedDict):
    """A mail that waits to be sent, or was."""

    id: str
    kind: str
    username: str
    recipient: str
    sealed_token: str
    context: str
    status: Literal["waiting", "sent", "refused"]
    attempts: int
    claim: str | None
    due_at: float | None
    created_at: float
    ended_at: float | None
    error: str


class MailViewRow(TypedDict):
    """A mail that was sent, as it is shown."""

    id: str
    version: int | None
    kind: str
    username: str
    recipient: str
    status: str
    attempts: int
    created_at: float
    sent_at: float


mail = Rows[MailRow](
    "mail",
    WRITE,
    Column("id", Id, primary_key=True, comment="id of the command that asked for it, or of the event that did"),
    Column("revision", Integer, nullable=False),
    Column("kind", String, nullable=False, server_default="password"),
    Column("username", String, nullable=False),
    Column("recipient", String, nullable=False),
    Column("sealed_token", Text, nullable=False, comment="of the link, if it has one; the mail's text is never stored"),
    Column("context", Text, nullable=False, comment="JSON of Context, for the reply"),
    Column("status", String, nullable=False, comment="waiting, sent or refused"),
    Column("attempts", Integer, nullable=False),
    Column("claim", Id, comment="token that a sender must still hold when it reports"),
    Column("due_at", Double, comment="null once the mail has ended"),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("error", Text, nullable=False),
    partial_index("mail_due", "due_at"),
    info={"subject": "username"},
)

mail_view = Rows[MailViewRow](
    "mail_view",
    READ,
    Column("id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("kind", String, nullable=False, server_default="password"),
    Column("username", String, nullable=False),
    Column("recipient", String, nullable=False),
    Column("status", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("sent_at", Double, nullable=False),
)

address = Rows[Row](
    "address",
    READ,
    Column("user_id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("username", String, nullable=False, index=True),
    Column("email", String, nullable=False),
)
