"""Show passwords, never a secret; reveal one to the front door, which must prove who it is."""

from __future__ import annotations

import time
from typing import Any

from flask import Response
from sqlalchemy import RowMapping, select

from generador.tables import password_view
from pulsaga import DomainError, rfc3339
from pulsaga.web import (
    OVERSEEING,
    SERVICE,
    Problem,
    TooManyAttempts,
    allow,
    http,
    invalid,
)

STATUS = {"unknown-token": 404, "not-yet-valid": 503}
"""Status of a refused reveal; any other is for good."""
ASKED = ("username", "password", "address", "caller")
api = http.api("generador")


@api.get("/passwords/<whole:username>")
@allow(OVERSEEING)
def show_password(username: str) -> Response:
    """Show a user's password, never its secret."""
    query = select(password_view).where(password_view.c.username == username)
    with http.read_engine().connect() as connection:
        row = None if "\x00" in username else connection.execute(query).mappings().first()
    if row is None:
        raise http.not_found("password of this user")
    return http.reply("password", _resource(row))


@api.post("/internal/reveals")
@allow(SERVICE)
def reveal_once() -> Response:
    """Reveal the password behind a link's token, once; only services of this installation may ask."""
    from generador.reveal import reveal

    runtime = http.runtime()
    question = http.body()
    token = _text(question, "token")
    if time.time() > _answer_by(question):
        raise http.unavailable("asked too late: nobody waits for this answer any more")
    try:
        username, plain = reveal(runtime, token)
    except DomainError as no:
        raise Problem(STATUS.get(no.code, 410), no.code, no.detail) from None
    return http.reply("reveal", {"username": username, "password": plain})


@api.post("/internal/verifications")
@allow(SERVICE)
def verify_password() -> Response:
    """Tell which saga issued a user's valid password; only services of this installation may ask."""
    from generador.verification import verify

    question = http.body()
    username, password, address, caller = (_text(question, name) for name in ASKED)
    try:
        issued_by = verify(http.runtime(), username, password, address, caller)
    except TooManyAttempts as early:
        raise http.too_many_attempts(early) from None
    if issued_by is None:
        challenge = {"WWW-Authenticate": "Bearer"}
        raise Problem(401, "wrong-password", "this is not the valid password of this user", headers=challenge)
    return http.reply("verification", {"issuedBy": issued_by})


def _text(body: Any, name: str) -> str:
    text = body.get(name) if isinstance(body, dict) else None
    if not isinstance(text, str):
        raise invalid({f"/{name}": "must be text"})
    return text


def _answer_by(body: dict[str, Any]) -> float:
    """Return until when (Unix seconds) the front door waits; a question that says nothing has no limit."""
    answer_by = body.get("answer_by", float("inf"))
    if not isinstance(answer_by, int | float):
        raise invalid({"/answer_by": "must be Unix seconds"})
    return answer_by


def _resource(row: RowMapping) -> dict[str, Any]:
    return {
        "username": row["username"],
        "status": row["status"],
        "version": row["version"],
        "issuedAt": rfc3339(row["issued_at"]),
        "changedAt": rfc3339(row["changed_at"]),
        "links": {"self": http.path("passwords", row["username"])},
    }
