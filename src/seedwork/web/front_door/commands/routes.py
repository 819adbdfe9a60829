"""Show commands, and cancel them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import cast

from flask import Blueprint, Response, current_app, request
from werkzeug.http import unquote_etag

from pulsaga.delivery.messages import Context
from pulsaga.web import http
from pulsaga.web.access.rights import ASKING, SEEING, allow
from pulsaga.web.contract import ETAG, IF_NONE_MATCH, RETRY_AFTER, Answer, Shape, operation
from pulsaga.web.formats import Problem
from pulsaga.web.front_door import acceptance
from pulsaga.web.front_door.commands import cancelling, queries
from pulsaga.web.front_door.commands.parameters import APPLIED, COMMAND_ID, LOCATION, PREFER
from pulsaga.web.front_door.commands.queries import Resource
from pulsaga.web.front_door.commands.waiting import Waiting
from pulsaga.web.front_door.door import Entrance, FrontDoor, view_of

HEARD = "Heard, durably. Unless its pivot is passed meanwhile, it ends `refused`, code `cancelled`."


def add_to(api: Blueprint, door: FrontDoor, shape: type[Shape]) -> None:
    """Add the routes to a blueprint; `shape` is of the commands that they show."""
    showing = operation(
        parameters=(COMMAND_ID, PREFER, IF_NONE_MATCH),
        answers={
            200: Answer(
                description="Where it stands.",
                shape=shape,
                example={"status": "refused"},
                headers=(ETAG, APPLIED),
            ),
            304: Answer(description="Where it stood.", headers=(ETAG, APPLIED)),
        },
        problems={404: "Nobody was given this id."},
    )
    cancelling_it = operation(
        parameters=(COMMAND_ID,),
        answers={
            202: Answer(
                description=HEARD,
                shape=shape,
                example={"status": "running", "reason": None},
                headers=(LOCATION, RETRY_AFTER),
            )
        },
        problems={404: "Nobody was given this id.", 409: "It has ended, or cannot be called back any more."},
    )
    api.get("/commands/<identifier>")(allow(SEEING)(showing(show_command)))
    api.delete("/commands/<identifier>")(allow(ASKING)(cancelling_it(cancel_command)))
    for entrance in door.entrances:
        if entrance.cancelled_at:
            api.delete(entrance.cancelled_at)(allow(ASKING)(cancelling_it(_canceller(entrance))))


def _canceller(entrance: Entrance) -> Callable[[str], Response]:
    def cancel(identifier: str) -> Response:
        return _cancel(identifier, entrance.workflows)

    cancel.__name__, cancel.__doc__ = f"cancel_{entrance.name}", cancel_command.__doc__
    return cancel


def show_command(identifier: str) -> Response:
    """Show where a command stands; one just accepted is found by its acceptance. Another's is not found.

    `Prefer: wait` stays until it has ended, or with `If-None-Match` until it has changed.
    """
    look = partial(look_up, _door(), http.identifier(identifier), http.caller().sees_only)
    found, wait_s = look(), http.preferred_wait()
    if not found:
        raise http.not_found("command of this id")
    waiting, asker = cast(Waiting, current_app.extensions["waiting"]), http.asker()
    if wait_s is None or not waiting.has_room_for(asker):
        return _shown(found, {})
    found = waiting.until(asker, found["id"], partial(_if, _is_awaited, look), wait_s) or look() or found
    http.recheck()()
    return _shown(found, {"Preference-Applied": f"wait={wait_s}"})


def cancel_command(identifier: str) -> Response:
    """Cancel a command: what was done of it is undone. To ask again changes nothing; too late, it is `409`."""
    return _cancel(identifier)


def _cancel(identifier: str, of: Collection[str] = ()) -> Response:
    door = _door()
    found = look_up(door, http.identifier(identifier), http.caller().sees_only)
    if not found or (of and found["type"] not in of):
        raise http.not_found("command of this id")
    if not cancelling.is_cancellable(http.read_engine(), found["id"]):
        code = "already-ended" if _has_ended(found) else "not-cancellable"
        raise Problem(409, code, f"the command is {found['status']}, and cannot be called back")
    context = Context(found["id"], actor=http.caller().subject, traceparent=http.traceparent())
    subject = found[view_of(door.views, found["type"]).subject]
    cancelling.cancel(http.runtime().transactions, http.read_engine(), context, door.cancel(found["id"]), subject)
    headers = {"Location": http.path("commands", found["id"]), "Retry-After": str(http.RETRY_AFTER_S)}
    return http.reply("command", found, 202, headers)


def _door() -> FrontDoor:
    return cast(FrontDoor, current_app.extensions["front_door"])


def _shown(found: Resource, headers: dict[str, str]) -> Response:
    headers |= {"ETag": queries.etag(found)}
    return http.reply("command", found, 200, headers)


def _is_awaited(found: Resource) -> bool:
    """Tell whether this is what the caller waits for: the end, after which nothing changes, or before it any change."""
    if _has_ended(found):
        return True
    tag, _ = unquote_etag(queries.etag(found))
    return bool(request.if_none_match) and not request.if_none_match.contains_weak(tag)


def _has_ended(found: Resource) -> bool:
    return found["status"] in queries.ENDED


def _if(is_awaited: Callable[[Resource], bool], look: Callable[[], Resource | None]) -> Resource | None:
    found = look()
    return found if found and is_awaited(found) else None


def look_up(door: FrontDoor, identifier: str | None, actor: str | None) -> Resource | None:
    """Return where a command stands, if this actor may see it; None is whoever sees all."""
    if identifier is None:
        return None
    return queries.find_command(http.read_engine(), door.views, identifier, actor) or _just_accepted(
        door, identifier, actor
    )


def _just_accepted(door: FrontDoor, identifier: str, actor: str | None) -> Resource | None:
    accepted = acceptance.find(http.runtime().write, identifier, actor)
    return queries.accepted_resource(door.views, accepted) if accepted else None
