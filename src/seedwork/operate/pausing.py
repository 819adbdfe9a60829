"""Let the workers of a service take no messages, or none of one type, until they are resumed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy import Connection, delete, insert, select

from pulsaga.delivery import database
from pulsaga.delivery.dispatch.pausing import EVERYTHING
from pulsaga.delivery.tables import pause as pauses_table
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.errors import DomainError
from pulsaga.operate.acting import Act, Runtimes, Signature, carry_out, rows


def pauses(runtimes: Runtimes, services: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is paused in these services, the longest first; the topic `*` is the whole service."""
    found = sorted(rows(runtimes, services, select(pauses_table)), key=lambda pair: float(pair[1]["at"]))
    return [_shown(service, row) for service, row in found]


def _shown(service: str, row: Row) -> dict[str, Any]:
    named = {name: row[name] for name in ("topic", "who", "why")}
    return {"at": rfc3339(row["at"]), "service": service, **named}


def pause(runtimes: Runtimes, service: str, message_type: str | None, by: Signature) -> bool:
    """Pause a service, or one type of its messages; return False when another operator has to agree first.

    Raise DomainError for what is paused already, UsageError for a type that the service does not handle.
    """
    topic = _topic(runtimes, service, message_type)
    with runtimes.runtime(service).write.begin() as tx:
        if (known := _row(tx, topic)) is not None:
            raise DomainError("paused", f"{known['who']} has paused it already, at {rfc3339(known['at'])}")
        now = database.now(tx, runtimes.settings.clock_offset)
        agreed = carry_out(runtimes, tx, Act(by, "pause", _named(service, topic)), now)
        if agreed:
            tx.execute(insert(pauses_table).values(topic=topic, who=by.who, why=by.why, at=now))
    return agreed


def resume(runtimes: Runtimes, service: str, message_type: str | None, by: Signature) -> bool:
    """End what `pause` of the same began, and nothing else; return False when another operator has to agree first.

    Raise DomainError, with what is paused there, for what is not.
    """
    topic = _topic(runtimes, service, message_type)
    with runtimes.runtime(service).write.begin() as tx:
        if _row(tx, topic) is None:
            paused = ", ".join(sorted(tx.execute(select(pauses_table.c.topic)).scalars())) or "nothing"
            raise DomainError("not-paused", f"{_named(service, topic)} is not paused; there: {paused}")
        now = database.now(tx, runtimes.settings.clock_offset)
        agreed = carry_out(runtimes, tx, Act(by, "resume", _named(service, topic)), now)
        if agreed:
            tx.execute(delete(pauses_table).where(pauses_table.c.topic == topic))
    return agreed


def _topic(runtimes: Runtimes, service: str, message_type: str | None) -> str:
    known = runtimes.system[service].consumes
    if not known:
        raise click.UsageError(f"{service} handles no messages")
    if message_type is None:
        return EVERYTHING
    for topic in (message_type, f"{service}.{message_type}"):
        if topic in known:
            return topic
    raise click.UsageError(f"{service} handles no {message_type}: {', '.join(sorted(known))}")


def _named(service: str, topic: str) -> str:
    return service if topic == EVERYTHING else f"{topic} of {service}"


def _row(tx: Connection, topic: str) -> Row | None:
    """Return the pause of a topic, locked."""
    found = tx.execute(select(pauses_table).where(pauses_table.c.topic == topic).with_for_update()).mappings().first()
    return dict(found) if found else None
