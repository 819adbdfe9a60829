"""Tell a webhook of incidents: when one opens and when it ends, those of one fingerprint in one call.

Calls are signed as callbacks are (Standard Webhooks 1.0.0). One may come twice, under the same `webhook-id`; what is
not taken is told again at the next look.
"""

from __future__ import annotations

import hmac
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

import orjson
import structlog
from sqlalchemy import select, update

from pulsaga.delivery import database
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.tables import incident
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.errors import Unavailable
from pulsaga.running.runtime import Runtime
from pulsaga.settings import Settings
from pulsaga.text import describe

log = structlog.get_logger()

LOOK_S = 5.0
PAGE = 1000
SUBJECTS = 20
"""Subjects of one fingerprint that are named; `count` says how many there are."""
OLDEST_S = 24 * 3600.0
"""Seconds after which what nobody was told of is old news, as on the day when a webhook is first set."""
Happening = Literal["incident.opened", "incident.closed"]
Fingerprint = tuple[Happening, str, str, str]
"""What happened, and the kind, message type and code of the incidents."""


def tell_incidents(runtime: Runtime, url: str) -> Duty:
    """Tell a webhook of the incidents of a service, in its worker. Raise SettingError where nothing can be signed."""
    incident_secret(runtime.settings)

    def work() -> None:
        failed = [error for news in untold(runtime).items() if (error := _failure_of(runtime, url, *news))]
        if failed:
            raise failed[0]

    return Duty("incidents", work, every_s=LOOK_S)


def _failure_of(runtime: Runtime, url: str, fingerprint: Fingerprint, rows: Sequence[Row]) -> Unavailable | None:
    """Tell of one fingerprint; what its receiver refuses keeps no other from being told."""
    try:
        _tell(runtime, url, fingerprint, rows)
    except Unavailable as error:
        return error
    return None


def incident_secret(settings: Settings) -> bytes:
    """Return the secret that signs what is told; no caller has it. `protools webhook-secret --incidents` prints it."""
    return hmac.digest(settings.key("WEBHOOK_SECRET"), b"incidents", "sha256")


def untold(runtime: Runtime) -> Mapping[Fingerprint, Sequence[Row]]:
    """Return the incidents whose opening or end was not told, by fingerprint; what came and went unseen is no news."""
    found: defaultdict[Fingerprint, list[Row]] = defaultdict(list)
    with runtime.write.connect() as tx:
        since = database.now(tx, runtime.settings.clock_offset) - OLDEST_S
        opened = incident.c.told_at.is_(None) & incident.c.closed_at.is_(None) & (incident.c.at > since)
        ended = incident.c.closed_at > incident.c.told_at
        query = select(incident).where(opened | ended).order_by(incident.c.at).limit(PAGE)
        for row in tx.execute(query).mappings():
            happened: Happening = "incident.opened" if row["closed_at"] is None else "incident.closed"
            found[happened, row["kind"], row["topic"] or "", row["code"]].append(dict(row))
    return found


def body_of(service: str, fingerprint: Fingerprint, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what is told of the incidents of one fingerprint."""
    happened, kind, topic, code = fingerprint
    return {
        "type": happened,
        "timestamp": rfc3339(rows[0]["closed_at"] or rows[0]["at"]),
        "data": {
            "service": service,
            "kind": kind,
            "topic": topic,
            "code": code,
            "count": len(rows),
            "subjects": [row["subject"] for row in rows[:SUBJECTS]],
            "detail": rows[0]["detail"],
        },
    }


def _tell(runtime: Runtime, url: str, fingerprint: Fingerprint, rows: Sequence[Row]) -> None:
    from pulsaga.web.front_door.callbacks import outward
    from pulsaga.web.front_door.callbacks.webhooks import signed

    body = orjson.dumps(body_of(runtime.service, fingerprint, rows))
    told = sha256("".join(str(row["id"]) for row in rows).encode()).hexdigest()[:32]
    identifier = f"{told}.{fingerprint[0]}"
    headers = signed(identifier, int(time.time()), body, incident_secret(runtime.settings))
    try:
        status = outward.call(url, {"Content-Type": "application/json", **headers}, body, private=True)
    except Exception as error:  # whatever a receiver's answer makes the parsers raise
        raise Unavailable(f"INCIDENT_WEBHOOK: {describe(error)}") from error
    if not 200 <= status < 300:
        raise Unavailable(f"INCIDENT_WEBHOOK answered {status}")
    with runtime.write.begin() as tx:  # as of what was read: it may have ended meanwhile
        for row in rows:
            this = update(incident).where(incident.c.id == row["id"])
            tx.execute(this.values(told_at=row["closed_at"] or row["at"]))
