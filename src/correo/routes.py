"""Show mails: to whom, when, after how many attempts; never what they say. JSON and XML."""

from __future__ import annotations

from typing import Any

from flask import Response
from sqlalchemy import RowMapping, select

from correo.tables import mail_view
from pulsaga import rfc3339
from pulsaga.web import OVERSEEING, allow, http

api = http.api("correo")


@api.get("/mails")
@allow(OVERSEEING)
def list_mails() -> Response:
    """List mails, the newest first, a page at a time."""
    limit, before = http.page_limit(), http.argument_id("before")
    query = select(mail_view).order_by(mail_view.c.id.desc()).limit(limit + 1)  # a UUIDv7 tells when it was made
    if before:
        query = query.where(mail_view.c.id < before)
    with http.read_engine().connect() as connection:
        rows = connection.execute(query).mappings().all()
    page = {"mails": [_resource(row) for row in rows[:limit]]}
    return http.reply("mails", page | http.next_page(rows, limit, "before", "id"))


@api.get("/mails/<identifier>")
@allow(OVERSEEING)
def show_mail(identifier: str) -> Response:
    """Show one mail."""
    known = http.known_id(identifier, "mail")
    with http.read_engine().connect() as connection:
        query = select(mail_view).where(mail_view.c.id == known)
        row = connection.execute(query).mappings().first()
    if row is None:
        raise http.not_found("mail of this id")
    return http.reply("mail", _resource(row))


def _resource(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": row["kind"],
        "username": row["username"],
        "recipient": row["recipient"],
        "status": row["status"],
        "attempts": row["attempts"],
        "createdAt": rfc3339(row["created_at"]),
        **({"sentAt": rfc3339(row["sent_at"])} if row["sent_at"] else {}),
        "links": {"self": http.path("mails", row["id"])},
    }
