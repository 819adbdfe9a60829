"""Lay out the mails: what is to be sent in the write database, what was sent in the read database."""

from __future__ import annotations

from sqlalchemy import Column, Double, Integer, MetaData, String, Text

from pulsaga.delivery.rows import Row, Rows
from pulsaga.delivery.tables import Id, partial_index

WRITE = MetaData()
READ = MetaData()

mail = Rows[Row](
    "mail",
    WRITE,
    Column("id", Id, primary_key=True, comment="command id of the SendPasswordMail"),
    Column("revision", Integer, nullable=False),
    Column("username", String, nullable=False),
    Column("recipient", String, nullable=False),
    Column(
        "sealed_token", Text, nullable=False, comment="of the link, under LINK_KEY; the mail's text is never stored"
    ),
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

mail_view = Rows[Row](
    "mail_view",
    READ,
    Column("id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("username", String, nullable=False),
    Column("recipient", String, nullable=False),
    Column("status", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("sent_at", Double, nullable=False),
)
