"""Start workflows: accept a command, durably, by whatever path and in whatever format it comes; wait for its end."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import structlog
from flask import Blueprint, Response, current_app, request
from sqlalchemy.exc import SQLAlchemyError

from pulsaga.errors import DefinitionError
from pulsaga.records import plain
from pulsaga.saga.definition import Access, Saga
from pulsaga.settings import Settings
from pulsaga.web import http
from pulsaga.web.access.rights import Right, allow, right_of
from pulsaga.web.contract import RETRY_AFTER, Answer, Shape, operation
from pulsaga.web.formats import Problem, invalid
from pulsaga.web.front_door import acceptance
from pulsaga.web.front_door.callbacks import webhooks
from pulsaga.web.front_door.commands import queries
from pulsaga.web.front_door.commands.parameters import (
    APPLIED,
    IDEMPOTENCY_KEY,
    LOCATION,
    PREFER,
    REPLAYED,
    ended,
)
from pulsaga.web.front_door.commands.queries import Resource
from pulsaga.web.front_door.commands.waiting import Waiting
from pulsaga.web.front_door.door import Entrance, FrontDoor, Said, Shown
from pulsaga.web.front_door.overload.admission import Place
from pulsaga.web.front_door.shapes import CALLBACK, body_of, command_of

log = structlog.get_logger()
KEY = re.compile(r"[\x21-\x7e]{1,255}")
SUBJECT_LENGTH = 254
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, surrogates, line and paragraph separators."""
OF_COMMANDS = ("show_command", "follow_command", "cancel_command")
"""Views that lead on from a command by its id."""


def entrances_of(door: FrontDoor) -> Iterator[Entrance]:
    """Yield the entrances that are declared, and one below `/workflows` for each other workflow that is open.

    Raise DefinitionError for a declaration that cannot work.
    """
    own = {name for entrance in door.entrances for name in entrance.workflows}
    if missing := sorted(own - door.by_name.keys()):
        raise DefinitionError(f"{', '.join(missing)}: an entrance leads to it, and there is no such workflow")
    yield from door.entrances
    for saga in door.by_name.values():
        if saga.access and saga.name not in own:
            yield _entrance_to(saga, saga.access)


def _entrance_to(saga: Saga[Any], access: Access) -> Entrance:
    return Entrance(
        path=http.path("workflows", saga.name),
        name="start_" + re.sub(r"\W", "_", saga.name),
        about=f"Start the workflow `{saga.name}`; `Prefer: wait` stays for its end.\n\n{saga.starts.__doc__ or ''}",
        takes=body_of(saga.name, saga.starts, access.fields),
        begin=partial(_begin, saga.starts),
        workflows=(saga.name,),
        scope=saga.name,
    )


def _begin(command: type, said: Said, _settings: Settings) -> Any:
    return command_of(command, said)


def add_to(api: Blueprint, door: FrontDoor, entrance: Entrance, shape: type[Shape]) -> str:
    """Add the route of an entrance, which answers with commands of this shape, to a blueprint; return its endpoint."""

    def enter(body: dict[str, Any] | None = None, **in_path: str) -> Response:
        return _enter(door, entrance, {**(body or {}), **in_path})

    enter.__name__, enter.__doc__ = entrance.name, entrance.about
    declared = operation(
        takes=entrance.takes,
        parameters=(*entrance.parameters, IDEMPOTENCY_KEY, PREFER),
        answers=_answers(door, entrance, shape),
        problems={
            409: "Refused, within the time that Prefer gave; `code` says why.",
            422: "A field is wrong, or the idempotency key came with another request before.",
            **({} if entrance.takes else {400: "The idempotency key is none."}),
            **entrance.problems,
        },
        callback=ended(shape),
    )
    api.route(entrance.path, methods=[entrance.method])(allow(_right_to_enter(door, entrance))(declared(enter)))
    return f"{api.name}.{entrance.name}"


def _answers(door: FrontDoor, entrance: Entrance, shape: type[Shape]) -> dict[int, Answer]:
    if shown := entrance.shown:
        return {shown.status: Answer(description=shown.description, shape=shown.shape, headers=(REPLAYED, APPLIED))}
    workflow, links = entrance.workflows[0], _followed(door, entrance)
    return {
        202: Answer(
            description="Accepted, durably; it will end.",
            shape=shape,
            example={"type": workflow, "status": "accepted", "version": None, "reason": None},
            headers=(LOCATION, RETRY_AFTER, REPLAYED, APPLIED),
            links=links,
        ),
        201: Answer(
            description="Done, within the time that Prefer gave.",
            shape=shape,
            example={"type": workflow, "reason": None},
            headers=(LOCATION, REPLAYED, APPLIED),
            links=links,
        ),
    }


def _followed(door: FrontDoor, entrance: Entrance) -> dict[str, dict[str, str]]:
    subject = door.views[entrance.workflows[0]].subject
    by_id = {view: {"identifier": "$response.body#/id"} for view in OF_COMMANDS}
    named = {link: "id" if link.by_id else subject for link in entrance.links}
    return by_id | {link.view: {link.parameter: f"$response.body#/{name}"} for link, name in named.items()}


def _right_to_enter(door: FrontDoor, entrance: Entrance) -> Right:
    rights = {_right_to_start(door.by_name[name]) for name in entrance.workflows}
    (right, *others) = rights
    if right is None or others:
        named = ", ".join(entrance.workflows)
        raise DefinitionError(f"{entrance.path}: {named} must be open to callers, all by the same right")
    return right


def _right_to_start(saga: Saga[Any]) -> Right | None:
    if saga.access is None:
        return None
    try:
        return right_of(saga.access.start)
    except DefinitionError as error:
        raise DefinitionError(f"workflow {saga.name}: {error}") from None


# --- a request


def _enter(door: FrontDoor, entrance: Entrance, said: dict[str, Any]) -> Response:
    """Accept a command; `Prefer: wait` stays for its end."""
    accepted = _accept(door, entrance, said)
    _settle(accepted)
    wait_s = _wait_s(entrance)
    waiting, asker = cast(Waiting, current_app.extensions["waiting"]), http.asker()
    if wait_s is None or not waiting.has_room_for(asker):
        applied = {"Preference-Applied": "respond-async"} if http.prefers_async() else {}
        return _accepted(door, entrance, accepted, applied)
    found = waiting.until(asker, accepted.id, partial(_ended, door, accepted.id), wait_s)
    applied = {"Preference-Applied": f"wait={wait_s}"} if http.preferred_wait() is not None else {}
    return _answer(found, entrance, accepted, applied) if found else _accepted(door, entrance, accepted, applied)


def _wait_s(entrance: Entrance) -> int | None:
    """Return for how long to stay for a command's end; None for not at all."""
    preferred = http.preferred_wait()
    if preferred is None and entrance.shown and not http.prefers_async():
        return min(entrance.shown.wait_s, int(http.runtime().settings.wait_limit))
    return preferred


def _accept(door: FrontDoor, entrance: Entrance, said: dict[str, Any]) -> acceptance.Accepted:
    settings = http.runtime().settings
    command = entrance.begin(said, settings)
    saga = door.by_command[type(command)]
    _check_owner(saga, command)
    asked = acceptance.Request(
        command=command,
        workflow=saga.name,
        subject=_subject_of(saga, command),
        body_hash=acceptance.hash_of({"workflow": entrance.scope, "body": said} if entrance.scope else said),
        idempotency_key=idempotency_key(any_request_id=entrance.by_request_id),
        actor=http.caller().subject,
        traceparent=http.traceparent(),
        callback=webhooks.permitted(settings, said.get(CALLBACK)),
    )
    group = cast(acceptance.GroupCommit, current_app.extensions["acceptance"])
    return group.accept(asked)


def _check_owner(saga: Saga[Any], command: Any) -> None:
    """Raise the Problem 403 unless who asks is whose it is, or may ask for everybody."""
    owner, caller = saga.access.owner if saga.access else None, http.caller()
    if owner and caller.role not in ("operator", "admin") and owner(command) != caller.subject:
        raise Problem(403, "forbidden", "this is somebody else's to ask for")


def _subject_of(saga: Saga[Any], command: Any) -> str:
    """Return the subject of a command; raise the Problem 422 for one that no envelope can carry."""
    subject = str(saga.subject(saga.load(plain(command))))
    if not 1 <= len(subject) <= SUBJECT_LENGTH or any(unicodedata.category(c) in UNPRINTABLE for c in subject):
        detail = f"what {saga.name} is about must have 1 to {SUBJECT_LENGTH} characters, and no control characters"
        raise invalid({"": detail})
    return subject


def _settle(accepted: acceptance.Accepted) -> None:
    """Tell the gate whether what it let in is one more command; the server does for what does not come this far."""
    place: Place | None = request.environ.get(http.PLACE)
    if place and not accepted.replayed:
        place.keep()
    elif place:
        place.give_back()


def idempotency_key(*, any_request_id: bool) -> str | None:
    """Read the key under which a repeated request is the same: Idempotency-Key, else an X-Request-Id that is one.

    That is one that is a GUID, or any at all; raise the Problem 400 for what is no key.
    """
    given = request.headers.get("Idempotency-Key")
    if given is None and any_request_id:
        given = request.headers.get("X-Request-Id")
    if given is None:
        return _guid(request.headers.get("X-Request-Id", ""))
    quoted = re.fullmatch('"(.+)"', given.strip())
    key = quoted[1] if quoted else given.strip()
    if not KEY.fullmatch(key):
        raise Problem(400, "idempotency-key-invalid", "Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


def _guid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _ended(door: FrontDoor, identifier: str) -> Resource | None:
    try:
        found = queries.find_command(http.read_engine(), door.views, identifier)
    except SQLAlchemyError as down:  # it is accepted all the same: the caller must hear 202, not 503
        log.warning("cannot look", command=identifier, error=str(down).partition("\n")[0])
        return None
    return found if found and found["status"] in queries.ENDED else None


def _headers(accepted: acceptance.Accepted, more: dict[str, str]) -> dict[str, str]:
    replayed = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
    return {"Location": http.path("commands", accepted.id), **replayed, **more}


def _accepted(door: FrontDoor, entrance: Entrance, accepted: acceptance.Accepted, more: dict[str, str]) -> Response:
    if entrance.shown:
        return _shown(entrance.shown, accepted, more)
    headers = _headers(accepted, {"Retry-After": str(http.RETRY_AFTER_S), **more})
    return http.reply("command", queries.accepted_resource(door.views, accepted), 202, headers)


def _shown(shown: Shown, accepted: acceptance.Accepted, more: dict[str, str]) -> Response:
    headers = {name: value for name, value in _headers(accepted, more).items() if name != "Location"}
    return http.reply(shown.shape.root, dict(shown.document(accepted.id)), shown.status, headers)


def _answer(found: Resource, entrance: Entrance, accepted: acceptance.Accepted, more: dict[str, str]) -> Response:
    headers = _headers(accepted, more)
    if found["status"] != "completed":
        reason = found.get("reason", {"code": "refused", "detail": "the command was refused"})
        about = {"instance": found["links"]["self"], "commandId": found["id"]}
        raise Problem(409, reason["code"], reason["detail"], headers=headers, **about)
    if entrance.shown:
        return _shown(entrance.shown, accepted, more)
    return http.reply("command", found, 201, headers)
