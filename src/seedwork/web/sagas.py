"""Show sagas: where each stands, its steps with their attempts, its log. JSON and XML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response
from sqlalchemy import RowMapping, select

from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.saga.snapshots import read_entries, read_steps, shown_steps
from pulsaga.saga.tables import saga_branch_view, saga_move, saga_view
from pulsaga.web import http
from pulsaga.web.access.rights import OVERSEEING, allow
from pulsaga.web.formats import invalid

STATUSES = ("RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "SUSPENDED")
api = http.api("sagas", __name__)


@api.get("/sagas")
@allow(OVERSEEING)
def list_sagas() -> Response:
    """List sagas, the newest first, a page at a time; `status` picks those in one status."""
    limit, status, before = http.page_limit(), _status(), http.argument_id("before")
    query = select(saga_view).order_by(saga_view.c.id.desc()).limit(limit + 1)  # a UUIDv7 tells when it was made
    if status:
        query = query.where(saga_view.c.status == status)
    if before:
        query = query.where(saga_view.c.id < before)
    with http.read_engine().connect() as connection:
        rows = connection.execute(query).mappings().all()
    page = {"sagas": [_resource(row) for row in rows[:limit]]}
    return http.reply("sagas", page | http.next_page(rows, limit, "before", "id"))


@api.get("/sagas/<identifier>")
@allow(OVERSEEING)
def show_saga(identifier: str) -> Response:
    """Show one saga with its steps and the whole log."""
    known = http.known_id(identifier, "saga")
    with http.read_engine().connect() as connection:
        row = connection.execute(select(saga_view).where(saga_view.c.id == known)).mappings().first()
        if row is None:
            raise http.not_found("saga of this id")
        moves = select(saga_move.c.entries).where(saga_move.c.id == known).order_by(saga_move.c.version)
        entries = [entry for text in connection.execute(moves).scalars() for entry in read_entries(text)]
        kept = select(saga_branch_view.c.steps).where(saga_branch_view.c.saga_id == known)
        branches = connection.execute(kept.order_by(saga_branch_view.c.id)).scalars().all()
    steps = [_shown(step) for text in (row["steps"], *branches) for step in shown_steps(read_steps(text))]
    return http.reply("saga", _resource(row) | {"steps": steps, "log": [_shown(entry._asdict()) for entry in entries]})


def _status() -> str | None:
    status = http.argument("status")
    if status is not None and status.upper() not in STATUSES:
        raise invalid({"status": f"must be one of {', '.join(STATUSES)}"}, "parameter")
    return status and status.upper()


def _resource(row: RowMapping) -> dict[str, Any]:
    reason = {"code": row["reason_code"], "detail": row["reason_detail"]}
    return {
        "id": row["id"],
        "workflow": row["workflow"],
        "subject": row["subject"],
        **({"actor": row["actor"]} if row["actor"] else {}),
        "status": row["status"],
        **({"reason": reason} if row["reason_code"] else {}),
        "startedAt": rfc3339(row["started_at"]),
        "movedAt": rfc3339(row["moved_at"]),
        "links": {"self": http.path("sagas", row["id"])},
    }


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Name fields as JSON does, write times as RFC 3339, leave out what does not apply."""
    return {_camel(name): _time_or(name, value) for name, value in fields.items() if value not in (None, "", {})}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _time_or(name: str, value: Any) -> Any:
    return rfc3339(value) if name == "at" or name.endswith("_at") else value
