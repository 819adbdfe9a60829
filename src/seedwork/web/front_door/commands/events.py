"""Tell every move of a command as server-sent events (WHATWG HTML §9.2), without a gap and without polling.

An event's id is the command's version: who comes back with `Last-Event-ID`, here or at another replica, misses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import cast

import orjson
import structlog
from flask import Blueprint, Response, current_app, request
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from pulsaga.web import http
from pulsaga.web.access.rights import SEEING, allow
from pulsaga.web.contract import Answer, operation
from pulsaga.web.formats import Problem, invalid
from pulsaga.web.front_door import acceptance
from pulsaga.web.front_door.commands import queries
from pulsaga.web.front_door.commands.parameters import COMMAND_ID, EVENT, LAST_EVENT_ID, LAST_EVENT_ID_IN_QUERY
from pulsaga.web.front_door.commands.queries import Resource
from pulsaga.web.front_door.commands.waiting import SHARE, Waiting
from pulsaga.web.front_door.door import FrontDoor, Views
from pulsaga.web.serving.crew import Asker

log = structlog.get_logger()
events = Blueprint("events", __name__)
RETRY_MS = 1000
"""Milliseconds after which a client that lost its connection comes back."""
HEARTBEAT = b":\n\n"
RECHECK_S = 5.0
"""Seconds between two looks, at most, at whether a silent stream's caller is still let in."""
FROM_THE_FIRST = -1
UNBUFFERED = {"X-Accel-Buffering": "no"}
"""Asks proxies to pass each event on at once; what else every answer has comes from `webapp`."""


@events.get("/commands/<identifier>/events")
@allow(SEEING)
@operation(
    parameters=(COMMAND_ID, LAST_EVENT_ID, LAST_EVENT_ID_IN_QUERY),
    answers={
        200: Answer(
            description="Events: `id` is the version, `event` the status, `data` the command as JSON.",
            media_type="text/event-stream",
            schema=EVENT,
        ),
        204: Answer(description="It has ended, and the caller knows."),
    },
    problems={404: "Nobody was given this id.", 503: "As many wait here as can."},
)
def follow_command(identifier: str) -> Response:
    """Tell the moves of a command from behind `Last-Event-ID` on, until it has ended."""
    known, read, last = http.identifier(identifier), http.read_engine(), _last_event_id()
    door = cast(FrontDoor, current_app.extensions["front_door"])
    shown = known and queries.find_command(read, door.views, known, http.caller().sees_only)
    if not known or not (shown or _is_accepted(known)):
        raise http.not_found("command of this id")
    if shown and shown["status"] in queries.ENDED and shown["version"] <= last:
        return http.nothing()  # this alone keeps a browser from coming back
    waiting, asker = cast(Waiting, current_app.extensions["waiting"]), http.asker()
    _check_room(waiting, asker)
    stream = _Stream(read, door.views, waiting, asker, http.recheck(), known, last)
    told = stream.told(http.runtime().settings.events_heartbeat)
    return Response(told, content_type="text/event-stream", headers=UNBUFFERED)


def _check_room(waiting: Waiting, asker: Asker) -> None:
    wait = {"Retry-After": str(http.RETRY_AFTER_S)}
    if not waiting.has_room():
        raise Problem(503, "too-many-wait", "as many wait here as can; ask again, or ask another replica", headers=wait)
    if not waiting.has_room_for(asker):
        detail = f"one caller may wait {SHARE} times at once; end a stream, or ask again"
        raise Problem(429, "too-many-wait", detail, headers=wait)


def _is_accepted(identifier: str) -> bool:
    return acceptance.find(http.runtime().write, identifier, http.caller().sees_only) is not None


def _last_event_id() -> int:
    """Read the last event that the caller has: the header that browsers send, or the parameter of the same name."""
    given = [said for said in (request.headers.get("Last-Event-ID"), request.args.get("Last-Event-ID")) if said]
    if not all(re.fullmatch("[0-9]{1,9}", said) for said in given):
        raise invalid({"Last-Event-ID": "must be the id of an event"}, "parameter")
    return int(given[0]) if given else FROM_THE_FIRST


@dataclass
class _Stream:
    """Hold how far one listener has been told."""

    read: Engine
    views: Views
    waiting: Waiting
    asker: Asker
    recheck: Callable[[], None]
    identifier: str
    last: int

    def told(self, heartbeat_s: float) -> Iterator[bytes]:
        """Yield what is written; a silence is broken by comments, which show who is gone.

        End with the command, or when its caller is let in no longer, which is looked at every few seconds.
        """
        yield b"retry: %d\n\n" % RETRY_MS
        due = 0.0
        for may_have_moved in self.waiting.changes(self.asker, self.identifier, min(heartbeat_s, RECHECK_S)):
            if not self._is_still_known():
                return
            if not may_have_moved and monotonic() < due:
                continue
            moves, due = self._moves(), monotonic() + heartbeat_s
            for move in moves:
                self.last = move["version"]
                yield _event(move)
            if moves and moves[-1]["status"] in queries.ENDED:
                return
            if not moves:
                yield HEARTBEAT

    def _is_still_known(self) -> bool:
        try:
            self.recheck()
        except Problem:
            return False
        return True

    def _moves(self) -> Sequence[Resource]:
        try:
            return list(queries.moves_behind(self.read, self.views, self.identifier, self.last))
        except SQLAlchemyError as down:  # told when it is back: at the next heartbeat at the latest
            log.warning("cannot look", command=self.identifier, error=str(down).partition("\n")[0])
            return []


def _event(move: Resource) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (move["version"], move["status"].encode(), orjson.dumps(move))
