"""Put something in front of an operator, and take it away again."""

from __future__ import annotations

from sqlalchemy import select, update

from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import incident
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.text import LONGEST_ERROR, describe, printable


def open_incident(uow: UnitOfWork, kind: str, subject: str, code: str, detail: str) -> None:
    """Put something in front of an operator."""
    uow.append(incident, incident_row(kind, subject, code, detail, uow.now))


def incident_row(kind: str, subject: str, code: str, detail: str, at: float) -> Row:
    """Return what is kept of an incident."""
    shown = {"subject": printable(subject), "code": printable(code), "detail": printable(detail, LONGEST_ERROR)}
    return {"id": new_id(), "kind": kind, **shown, "at": at}


def open_incident_about(uow: UnitOfWork, kind: str, subject: str, error: Exception) -> None:
    """Put in front of an operator what an error has made of something."""
    open_incident(uow, kind, subject, type(error).__name__, describe(error))


def close_incidents(uow: UnitOfWork, kind: str, subject: str) -> None:
    """Note that nobody has to look any more."""
    known = (incident.c.subject == subject) & (incident.c.kind == kind) & incident.c.closed_at.is_(None)
    free = select(incident.c.id).where(known).with_for_update(nowait=uow.pass_locked)
    for row in uow.appended(incident):  # of this very batch
        if (row["subject"], row["kind"]) == (subject, kind):
            row["closed_at"] = uow.now
    uow.values(update(incident).where(incident.c.id.in_(free)).values(closed_at=uow.now).returning(incident.c.id))
