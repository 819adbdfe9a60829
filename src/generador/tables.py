"""Lay out the vault: sealed passwords in the write database, their life in the read database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Double, Integer, LargeBinary, MetaData, String, text

from generador.domain import PasswordRow, SecretRow
from pulsaga import Id, Row, Rows, index_where
from pulsaga.web import guess_budgets

WRITE = MetaData()
READ = MetaData()


def _secret() -> list[Column[Any]]:
    return [
        Column("command_id", Id, nullable=False, comment="the command that made it"),
        Column("saga_id", Id, nullable=False),
        Column("actor", String, comment="who asked for it; what is told of it later carries the name on"),
        Column("status", String, nullable=False),
        Column("token_hash", LargeBinary, unique=True, comment="SHA-256 of the link's token"),
        Column("sealed_key", LargeBinary, comment="the secret's own key under VAULT_KEY; null once destroyed"),
        Column("sealed_secret", LargeBinary, nullable=False),
        Column("verifier", LargeBinary, comment="SHA-256 of the password; null once it is not valid any more"),
        Column("issued_at", Double, nullable=False),
        Column("changed_at", Double, nullable=False),
    ]


password = Rows[PasswordRow](
    "password",
    WRITE,
    Column("username", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("version", Integer, nullable=False, comment="goes on counting when a name gets a next password"),
    *_secret(),
    Column("mailed_at", Double, comment="when its link could be used, from which on it expires; null before"),
    index_where(text("sealed_key IS NOT NULL"), "password_unrevealed", "mailed_at"),
    info={"subject": "username"},
)

rotation = Rows[SecretRow](
    "rotation",
    WRITE,
    Column("username", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    *_secret(),
    info={"subject": "username"},
    comment="the secret beside the password: while a rotation runs the next one, after it the one that went",
)

guess_budget = guess_budgets(WRITE)

key_check = Rows[Row](
    "key_check",
    WRITE,
    Column("name", String, primary_key=True),
    Column("sealed", LargeBinary, nullable=False, comment="the name, sealed: only the key of that name opens it"),
    info={"append_only": True},
)

password_view = Rows[Row](
    "password_view",
    READ,
    Column("username", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("issued_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
)
