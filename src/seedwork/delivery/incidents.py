"""Put something in front of an operator, and take it away again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import select, update

from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import incident
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.text import LONGEST_ERROR, describe, printable


def open_incident(
    uow: UnitOfWork, kind: str, subject: str, code: str, detail: str, *, topic: str | None = None
) -> None:
    """Put something in front of an operator; `topic` is the type of message that it is about."""
    uow.append(incident, incident_row(kind, subject, code, detail, uow.now, topic))


def incident_row(kind: str, subject: str, code: str, detail: str, at: float, topic: str | None = None) -> Row:
    """Return what is kept of an incident."""
    shown = {"subject": printable(subject), "code": printable(code), "detail": printable(detail, LONGEST_ERROR)}
    return {"id": new_id(), "kind": kind, **shown, "at": at, "topic": topic}


def open_incident_about(uow: UnitOfWork, kind: str, subject: str, error: Exception) -> None:
    """Put in front of an operator what an error has made of something."""
    open_incident(uow, kind, subject, type(error).__name__, describe(error))


Found = Mapping[tuple[str, str], tuple[str, str]]
"""What is wrong now: code and detail by kind and subject of an incident."""


def settle_incidents(uow: UnitOfWork, kinds: Collection[str], found: Found, *, of: str | None = None) -> None:
    """Open an incident for what is wrong now and close those of these kinds whose cause is over; `of` one subject."""
    known = select(incident.c.kind, incident.c.subject).where(incident.c.closed_at.is_(None))
    known = known.where(incident.c.kind.in_(kinds))
    known = known if of is None else known.where(incident.c.subject == printable(of))
    is_open = {(kind, subject) for kind, subject in uow.tx.execute(known)}
    shown = {(kind, printable(subject)): told for (kind, subject), told in found.items()}
    for kind, subject in sorted(is_open - shown.keys()):
        close_incidents(uow, kind, subject)
    for kind, subject in sorted(shown.keys() - is_open):
        open_incident(uow, kind, subject, *shown[kind, subject])


def close_incidents(uow: UnitOfWork, kind: str, subject: str) -> None:
    """Note that nobody has to look any more."""
    known = (incident.c.subject == subject) & (incident.c.kind == kind) & incident.c.closed_at.is_(None)
    free = select(incident.c.id).where(known).with_for_update(nowait=uow.pass_locked)
    for row in uow.appended(incident):  # of this very batch
        if (row["subject"], row["kind"]) == (subject, kind):
            row["closed_at"] = uow.now
    uow.values(update(incident).where(incident.c.id.in_(free)).values(closed_at=uow.now).returning(incident.c.id))
