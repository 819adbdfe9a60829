"""Tell callers how their command ended, where they asked for it: one signed POST, repeated until it is taken.

A duty claims rows that are due, looks whether their command has ended, calls outside any transaction and reports what
came of it. Signatures follow Standard Webhooks 1.0.0; a call may come twice, under the same `webhook-id`.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

import orjson
import structlog
from sqlalchemy import Engine

from bff.outward import FAILED, call, check_host, read_url
from bff.queries import Resource, find_ended
from bff.tables import webhook
from seedwork.claims import claim, held
from seedwork.database import open_database
from seedwork.delivery import incident
from seedwork.errors import SettingError
from seedwork.formats import invalid
from seedwork.inbox import incident_row
from seedwork.loop import Due, Duty
from seedwork.rows import Row
from seedwork.service import Runtime
from seedwork.settings import Settings
from seedwork.unit_of_work import UnitOfWork

log = structlog.get_logger()
PAGE = 16
"""Rows of one round; those whose command has ended are called side by side."""
CLAIM_S = 60.0
"""Seconds for which claimed rows are left alone: a round takes at most CALL_S and a resolver's patience."""
LOOKED_AT_S, LOOKED_AT_LONGEST_S = 1.0, 60.0
SHARE_OF_AGE = 0.1
"""A command that has not ended is looked at again after this share of its age."""
FIRST_DELAY_S, LONGEST_DELAY_S = 5.0, 3600.0


@dataclass(frozen=True)
class Taken:
    """Say that the call was answered with 2xx."""


@dataclass(frozen=True)
class NotTaken:
    """Say why the call was not taken, and whether it never will be."""

    detail: str
    for_good: bool = False


Outcome = Taken | NotTaken


def permitted(settings: Settings, url: str | None) -> str | None:
    """Return a URL that may be called back; raise the Problem 422 when it may not, or nothing could be signed."""
    if url is None:
        return None
    try:
        settings.key("WEBHOOK_SECRET")
        if not settings.webhook_private:
            check_host(read_url(url).hostname or "")
    except (SettingError, PermissionError) as error:
        raise invalid({"/callback": str(error)}) from None
    return url


def secret_of(settings: Settings, actor: str) -> bytes:
    """Return the secret that signs what one caller gets: none of them can speak to another in our name."""
    return hmac.digest(settings.key("WEBHOOK_SECRET"), f"webhook:{actor}".encode(), "sha256")


def signed(identifier: str, at: int, body: bytes, secret: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks for one attempt at `at`, in Unix seconds."""
    digest = hmac.digest(secret, f"{identifier}.{at}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": identifier, "webhook-timestamp": str(at), "webhook-signature": signature}


class Webhooks:
    """Make the calls that are due."""

    def __init__(self, runtime: Runtime, read: Engine) -> None:
        self._relay, self._settings, self._read = runtime.relay, runtime.settings, read

    def call_due(self) -> None:
        """Call until nothing is due."""
        while rows := self._relay.run(lambda uow: claim(uow, webhook, PAGE, CLAIM_S)):
            self._relay.run(self._report(rows, self._call_owed(rows)))

    def _call_owed(self, rows: Sequence[Row]) -> dict[str, Outcome]:
        ended = find_ended(self._read, [row["id"] for row in rows])
        owed = [(row, ended[row["id"]]) for row in rows if row["id"] in ended]
        with ThreadPoolExecutor(PAGE) as threads:
            outcomes = threads.map(lambda one: self._call(*one), owed)
            return {row["id"]: outcome for (row, _), outcome in zip(owed, outcomes, strict=True)}

    def _call(self, row: Row, ended: Resource) -> Outcome:
        body = orjson.dumps(ended)
        secret = secret_of(self._settings, row["actor"])
        headers = {"Content-Type": "application/json", **signed(row["id"], int(time.time()), body, secret)}
        try:
            status = call(row["url"], headers, body, private=self._settings.webhook_private)
        except FAILED as error:
            return NotTaken(f"{type(error).__name__}: {error}"[:500])
        if 200 <= status < 300:
            return Taken()
        return NotTaken(f"answered {status}", for_good=status == HTTPStatus.GONE)

    def _report(self, rows: Sequence[Row], outcomes: dict[str, Outcome]) -> Callable[[UnitOfWork], None]:
        def work(uow: UnitOfWork) -> None:
            for row in held(uow, webhook, rows):
                report(uow, row, outcomes.get(row["id"]), self._settings)

        return work


def report(uow: UnitOfWork, row: Row, outcome: Outcome | None, settings: Settings) -> None:
    """Write what came of one claimed row: None means that its command has not ended."""
    attempts = row["attempts"] + 1
    match outcome:
        case None:
            wait_s = max(LOOKED_AT_S, (uow.now - row["created_at"]) * SHARE_OF_AGE)
            row |= {"due_at": uow.now + min(wait_s, LOOKED_AT_LONGEST_S)}
        case Taken():
            row |= {"status": "delivered", "attempts": attempts, "due_at": None, "ended_at": uow.now, "error": ""}
        case NotTaken(detail=detail, for_good=for_good) if for_good or attempts >= settings.webhook_attempts:
            row |= {"status": "dead", "attempts": attempts, "due_at": None, "ended_at": uow.now, "error": detail}
            uow.append(incident, incident_row("webhook", row["id"], "not-taken", detail, uow.now))
        case NotTaken(detail=detail):
            delay_s = min(FIRST_DELAY_S * 2.0 ** row["attempts"], LONGEST_DELAY_S)
            row |= {"attempts": attempts, "due_at": uow.now + delay_s, "error": detail}
            log.warning("webhook not taken", command=row["id"], attempt=attempts, again_in_s=delay_s, error=detail)
    uow.put(webhook, row)


def call_webhooks(runtime: Runtime) -> Duty:
    """Make the calls a duty of the worker."""
    read = open_database(runtime.settings, runtime.service, "read", "reader")
    return Duty("webhooks", Webhooks(runtime, read).call_due, due=Due(webhook.c.due_at, LONGEST_DELAY_S))
