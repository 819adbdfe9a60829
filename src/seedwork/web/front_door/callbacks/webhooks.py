"""Tell callers how their command ended, where they asked for it: one signed POST, repeated until it is taken.

A duty looks at rows that are due. Those whose command has ended are claimed and called, each in a thread of its own and
outside any transaction; what came of one is reported at once, whatever the others do. Signatures follow the Standard
Webhooks 1.0.0; a call may come twice, under the same `webhook-id`.
"""

from __future__ import annotations

import base64
import hmac
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from queue import SimpleQueue

import orjson
from sqlalchemy import Engine, RowMapping

from pulsaga.delivery.database import open_database
from pulsaga.delivery.incidents import open_incident
from pulsaga.delivery.loop import LOOK_S, Due, Duty
from pulsaga.delivery.messages import Context, new_id
from pulsaga.delivery.transaction.claims import report_apart
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import SettingError
from pulsaga.running.runtime import Runtime
from pulsaga.service import DutyMaker
from pulsaga.settings import Settings
from pulsaga.telemetry.logs import Level
from pulsaga.telemetry.traces import calling_out
from pulsaga.text import DETAIL_CHARACTERS, printable
from pulsaga.web.formats import invalid
from pulsaga.web.front_door.callbacks import outward
from pulsaga.web.front_door.callbacks.lanes import Lanes
from pulsaga.web.front_door.callbacks.outward import check_host, read_url
from pulsaga.web.front_door.commands.queries import command_resource, find_ended
from pulsaga.web.front_door.door import Entrance, FrontDoor, Views
from pulsaga.web.front_door.tables import webhook

PAGE = 32
"""Rows that are looked at in one transaction."""
CLAIM_S = 60.0
"""Seconds for which claimed rows are left alone: a call is reported after CALL_S at the latest."""
LOOKED_AT_S, LOOKED_AT_LONGEST_S = 1.0, 60.0
SHARE_OF_AGE = 0.1
"""A command that has not ended is looked at again after this share of its age."""
FIRST_DELAY_S, LONGEST_DELAY_S = 5.0, 3600.0
DOUBLINGS = 10
"""After so many the delay is the longest."""


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


@dataclass(eq=False, frozen=True)
class Call:
    """One call that is being made of a claimed row; `late_at` by the monotonic clock."""

    row: Row
    late_at: float


class Webhooks:
    """Make the calls that are due."""

    def __init__(self, runtime: Runtime, read: Engine, views: Views) -> None:
        self._transactions, self._settings, self._read, self._views = (
            runtime.transactions,
            runtime.settings,
            read,
            views,
        )
        self._lanes = Lanes()
        self._in_flight: set[Call] = set()
        self._finished: SimpleQueue[tuple[Call, Outcome]] = SimpleQueue()
        self._news = threading.Event()
        self._outcomes: list[tuple[Row, Outcome]] = []
        """What is not reported yet, also not by a transaction that failed."""

    def call_due(self) -> None:
        """Call until nothing is due that may be called now, and no call is in flight."""
        while True:
            self._news.clear()
            self._collect()
            self._report()
            seen = self._begin_due()
            if not seen and not self._in_flight:
                return
            if not seen:
                self._news.wait(LOOK_S)

    def _begin_due(self) -> int:
        seen, claimed = self._transactions.run(self._claim)
        for row, ended in claimed:
            self._begin(row, ended)
        return seen

    def _claim(self, uow: UnitOfWork) -> tuple[int, list[tuple[Row, RowMapping]]]:
        """Look at a page of rows: put off what has not ended, claim what may be called; what has to wait stays due."""
        due = (webhook.c.due_at <= uow.now) & self._lanes.open()
        rows = uow.claim(webhook, due, webhook.c.due_at, PAGE)
        ended = find_ended(self._read, [row["id"] for row in rows])
        for row in rows:
            if row["id"] not in ended:
                report(uow, row | {"claim": None}, None, self._settings)
        hold = {"claim": new_id(), "due_at": uow.now + CLAIM_S}
        claimed = [row | hold for row in self._lanes.fitting(row for row in rows if row["id"] in ended)]
        for row in claimed:
            uow.put(webhook, row)
        return len(rows), [(row, ended[row["id"]]) for row in claimed]

    def _begin(self, row: Row, ended: RowMapping) -> None:
        call = Call(row, time.monotonic() + outward.CALL_S)
        self._in_flight.add(call)
        self._lanes.enter(row)
        try:
            threading.Thread(target=self._make, args=(call, ended), daemon=True).start()
        except Exception as error:  # no thread is to be had
            self._finish(call, not_taken(error))

    def _make(self, call: Call, ended: RowMapping) -> None:
        outcome: Outcome = NotTaken("the call broke off")
        try:
            outcome = self._answer(call.row, ended)
        except BaseException as error:  # whatever it is, it is about this call alone
            outcome = not_taken(error)
        finally:
            self._finish(call, outcome)

    def _finish(self, call: Call, outcome: Outcome) -> None:
        self._finished.put((call, outcome))
        self._news.set()

    def _answer(self, row: Row, ended: RowMapping) -> Outcome:
        body = orjson.dumps(command_resource(self._views, ended))
        secret = secret_of(self._settings, row["actor"])
        headers = {"Content-Type": "application/json", **signed(row["id"], int(time.time()), body, secret)}
        return self._called(row, headers, body)

    def _called(self, row: Row, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Make the call, in its trace."""
        about = {"http.request.method": "POST", "server.address": row["receiver"]}
        with calling_out("POST", row["traceparent"], about) as call:
            headers = {**headers, "traceparent": call.traceparent} if call.traceparent else headers
            status = outward.call(row["url"], headers, body, private=self._settings.webhook_private)
            call.more["http.response.status_code"] = status
            if 200 <= status < 300:
                return Taken()
            call.error = f"answered {status}"
        return NotTaken(call.error, for_good=status == HTTPStatus.GONE)

    def _collect(self) -> None:
        """Note what came of calls. One whose thread is late failed; it keeps its place until the thread ends."""
        while not self._finished.empty():
            call, outcome = self._finished.get()
            self._lanes.leave(call.row)
            self._end(call, outcome)
        now = time.monotonic()
        for call in [call for call in self._in_flight if call.late_at <= now]:
            self._end(call, NotTaken(f"no answer within {outward.CALL_S:g} s"))

    def _end(self, call: Call, outcome: Outcome) -> None:
        if call in self._in_flight:
            self._in_flight.remove(call)
            self._lanes.learn(call.row, taken=isinstance(outcome, Taken))
            self._outcomes.append((call.row, outcome))

    def _report(self) -> None:
        if self._outcomes:
            rows, came = [row for row, _ in self._outcomes], {row["id"]: outcome for row, outcome in self._outcomes}

            def report_call(uow: UnitOfWork, row: Row) -> None:
                report(uow, row, came[row["id"]], self._settings)

            report_apart(self._transactions, webhook, rows, report_call, LONGEST_DELAY_S)
            self._outcomes = []


def not_taken(error: BaseException) -> NotTaken:
    """Blame a call for what it raised, in words that are safe to keep: a receiver may have chosen them."""
    return NotTaken(printable(f"{type(error).__name__}: {error}", DETAIL_CHARACTERS))


def report(uow: UnitOfWork, row: Row, outcome: Outcome | None, settings: Settings) -> None:
    """Write what came of one row: None means that its command has not ended."""
    attempts = row["attempts"] + 1
    match outcome:
        case None:
            wait_s = max(LOOKED_AT_S, (uow.now - row["created_at"]) * SHARE_OF_AGE)
            row |= {"due_at": uow.now + min(wait_s, LOOKED_AT_LONGEST_S)}
        case Taken():
            row |= {"status": "delivered", "attempts": attempts, "due_at": None, "ended_at": uow.now, "error": ""}
            _log(uow, row, "webhook taken", "info")
        case NotTaken(detail=detail, for_good=for_good) if for_good or attempts >= settings.webhook_attempts:
            row |= {"status": "dead", "attempts": attempts, "due_at": None, "ended_at": uow.now, "error": detail}
            open_incident(uow, "webhook", row["id"], "not-taken", detail)
            _log(uow, row, "webhook given up", "error")
        case NotTaken(detail=detail):
            delay_s = min(FIRST_DELAY_S * 2.0 ** min(row["attempts"], DOUBLINGS), LONGEST_DELAY_S)
            row |= {"attempts": attempts, "due_at": uow.now + delay_s, "error": detail}
            _log(uow, row, "webhook not taken", "warning", again_in_s=delay_s)
    uow.put(webhook, row)


def _log(uow: UnitOfWork, row: Row, event: str, level: Level, **about: float) -> None:
    context = Context(row["id"], traceparent=row["traceparent"])
    about = {"command": row["id"], "attempt": row["attempts"], "error": row["error"], **about}
    uow.log(event, level, context=context, **about)


def calling(entrances: Sequence[Entrance] = ()) -> DutyMaker:
    """Make the calls a duty of a front door's worker; its commands are shown as at these entrances."""

    def call_webhooks(runtime: Runtime) -> Duty:
        read = open_database(runtime.settings, runtime.service, "read", "reader")
        calls = Webhooks(runtime, read, FrontDoor(runtime.system, entrances).views)
        return Duty("webhooks", calls.call_due, due=[Due(webhook.c.due_at, LONGEST_DELAY_S)])

    return call_webhooks
