"""List what was put in front of an operator in any service, and close what nothing else closes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy import select, update

from pulsaga.delivery import database
from pulsaga.delivery.messages import unix_seconds
from pulsaga.delivery.tables import incident
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.errors import DomainError
from pulsaga.operate.acting import Act, Runtimes, Signature, carry_out, rows

CLOSED_BY = {"dead-letter": "protools dead-letters", "suspended": "protools sagas"}
"""Incidents that end with what they tell of, and by which commands."""


Fingerprint = tuple[str, str, str, str]
"""Service, kind, message type and code of incidents that are one matter."""
HOURS = 24


def incidents(runtimes: Runtimes, services: Sequence[str], since: float | None = None) -> list[dict[str, Any]]:
    """Return the open incidents of these services, the oldest first; with `since` also those that ended after it."""
    known = incident.c.closed_at.is_(None)
    query = select(incident).where(known if since is None else known | (incident.c.closed_at > since))
    found = sorted(rows(runtimes, services, query), key=lambda pair: pair[1]["at"])
    return [_shown(service, row) for service, row in found]


def _shown(service: str, row: Row) -> dict[str, Any]:
    named = {name: row[name] or "" for name in ("kind", "topic", "code", "id", "subject", "detail")}
    closed_at = row["closed_at"] and rfc3339(row["closed_at"])
    return {"at": rfc3339(row["at"]), "closed_at": closed_at, "service": service, **named}


def grouped(found: Sequence[dict[str, Any]]) -> dict[Fingerprint, list[dict[str, Any]]]:
    """Put the incidents of one fingerprint together, the largest group first."""
    groups: dict[Fingerprint, list[dict[str, Any]]] = {}
    for one in found:
        groups.setdefault((one["service"], one["kind"], one["topic"], one["code"]), []).append(one)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def by_hour(found: Sequence[dict[str, Any]], now: float) -> list[int]:
    """Count incidents over the last 24 hours, by hour, the newest last."""
    counts = [0] * HOURS
    for one in found:
        hours = int((now - unix_seconds(one["at"])) // 3600)
        if 0 <= hours < HOURS:
            counts[HOURS - 1 - hours] += 1
    return counts


def close(runtimes: Runtimes, services: Sequence[str], identifier: str, by: Signature) -> bool:
    """Close one incident and write down who did and why; return False when another operator has to agree first.

    Raise DomainError for one that is closed already, or that ends with its dead letter or saga.
    """
    for service in services:
        with runtimes.runtime(service).write.begin() as tx:
            query = select(incident).where(incident.c.id == identifier).with_for_update()
            row = tx.execute(query).mappings().first()
            if row is None:
                continue
            _refuse(dict(row))
            now = database.now(tx, runtimes.settings.clock_offset)
            agreed = carry_out(runtimes, tx, Act(by, "close", identifier), now)
            if agreed:
                tx.execute(update(incident).where(incident.c.id == identifier).values(closed_at=now))
            return agreed
    raise click.UsageError(f"there is no incident {identifier}")


def _refuse(row: Row) -> None:
    if row["closed_at"] is not None:
        raise DomainError("closed", f"it was closed at {rfc3339(row['closed_at'])}")
    if command := CLOSED_BY.get(row["kind"]):
        raise DomainError("open", f"it ends with what it tells of: {command} deals with {row['subject']}")
