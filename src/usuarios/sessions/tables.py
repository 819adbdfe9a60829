"""Lay out sessions."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from sqlalchemy import Column, Double, Index, Integer

from pulsaga import Id, Rows
from usuarios.tables import WRITE

SESSIONS_KEPT_S = 24 * 3600.0
"""Seconds after its end for which a session is kept: clocks differ."""


class SessionRow(TypedDict):
    """A session; times are Unix seconds."""

    jti: str
    revision: NotRequired[int]
    user_id: str
    issued_at: float
    expires_at: float
    revoked_at: NotRequired[float | None]


sesion = Rows[SessionRow](
    "sesion",
    WRITE,
    Column("jti", Id, primary_key=True, comment="of its token"),
    Column("revision", Integer, nullable=False),
    Column("user_id", Id, nullable=False),
    Column("issued_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("revoked_at", Double, comment="from when on its token is not good any more; null while it is"),
    Index("sesion_over", "expires_at"),
    info={"subject": "user_id"},
)
