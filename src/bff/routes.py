"""Answer callers in JSON and XML: accept commands, show commands and passwords, reveal once."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import structlog
from flask import Response, current_app, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.http import unquote_etag

from bff import acceptance, cancelling, queries, resources, webhooks
from bff.admission import Place
from bff.parameters import (
    AFTER,
    APPLIED,
    COMMAND_ID,
    ENDED,
    IDEMPOTENCY_KEY,
    LOCATION,
    PREFER,
    REPLAYED,
    USERNAME,
)
from bff.queries import Resource
from bff.schemas import ISSUE_PASSWORD, REVEAL_REQUEST, VERIFICATION, wish_of
from bff.settings import BffSettings
from bff.vault import Vault
from bff.waiting import Waiting
from pulsaga.delivery.messages import Context
from pulsaga.web import http
from pulsaga.web.access.rights import ASKING, PUBLIC, SEEING, allow
from pulsaga.web.contract import ETAG, IF_NONE_MATCH, LIMIT, NEXT, RETRY_AFTER, Answer, operation
from pulsaga.web.formats import Problem

log = structlog.get_logger()
KEY = re.compile(r"[\x21-\x7e]{1,255}")
FOLLOWED = {
    "show_command": {"identifier": "$response.body#/id"},
    "follow_command": {"identifier": "$response.body#/id"},
    "cancel_command": {"identifier": "$response.body#/id"},
    "show_password": {"username": "$response.body#/username"},
}
api = http.api("bff")


@api.post("/passwords")
@allow(ASKING)
@operation(
    takes=ISSUE_PASSWORD,
    parameters=(IDEMPOTENCY_KEY, PREFER),
    answers={
        202: Answer(
            description="Accepted, durably; it will end.",
            shape=resources.Command,
            example={"status": "accepted", "version": None, "reason": None},
            headers=(LOCATION, RETRY_AFTER, REPLAYED, APPLIED),
            links=FOLLOWED,
        ),
        201: Answer(
            description="Done, within the time that Prefer gave.",
            shape=resources.Command,
            example={"reason": None},
            headers=(LOCATION, REPLAYED, APPLIED),
            links=FOLLOWED,
        ),
    },
    problems={
        409: "Refused, within the time that Prefer gave; `code` says why.",
        422: "A field is wrong, or the idempotency key came with another request before.",
    },
    callback=ENDED,
)
def issue_password(body: dict[str, Any]) -> Response:
    """Accept a wish for a password; `Prefer: wait` stays for its end."""
    runtime = http.runtime()
    wish = wish_of(body, runtime.settings.of(BffSettings).mail_domain)
    asked = acceptance.Request(
        username=wish.username,
        email=wish.email,
        rotate=wish.rotate,
        body_hash=acceptance.hash_of(wish),
        idempotency_key=idempotency_key(),
        actor=http.caller().subject,
        traceparent=http.traceparent(),
        callback=webhooks.permitted(runtime.settings, body.get("callback")),
    )
    group = cast(acceptance.GroupCommit, current_app.extensions["acceptance"])
    accepted = group.accept(asked)
    _settle(accepted)
    wait_s = http.preferred_wait()
    waiting, asker = cast(Waiting, current_app.extensions["waiting"]), http.asker()
    if wait_s is None or not waiting.has_room_for(asker):
        return _accepted(accepted, {"Preference-Applied": "respond-async"} if http.prefers_async() else {})
    ended = waiting.until(asker, accepted.id, partial(_ended, accepted.id), wait_s)
    applied = {"Preference-Applied": f"wait={wait_s}"}
    return _answer(ended, accepted, applied) if ended else _accepted(accepted, applied)


def _settle(accepted: acceptance.Accepted) -> None:
    """Tell the gate whether what it let in is one more command; the server does for what does not come this far."""
    place: Place | None = request.environ.get(http.PLACE)
    if place and not accepted.replayed:
        place.keep()
    elif place:
        place.give_back()


def idempotency_key() -> str | None:
    """Read the key under which a repeated request is the same: Idempotency-Key, else an X-Request-Id that is a GUID."""
    given = request.headers.get("Idempotency-Key")
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


def _ended(identifier: str) -> Resource | None:
    try:
        found = queries.find_command(http.read_engine(), identifier)
    except SQLAlchemyError as down:  # it is accepted all the same: the caller must hear 202, not 503
        log.warning("cannot look", id=identifier, error=str(down).partition("\n")[0])
        return None
    return found if found and found["status"] in queries.ENDED else None


def _headers(accepted: acceptance.Accepted, more: dict[str, str]) -> dict[str, str]:
    replayed = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
    return {"Location": http.path("commands", accepted.id), **replayed, **more}


def _accepted(accepted: acceptance.Accepted, more: dict[str, str]) -> Response:
    headers = _headers(accepted, {"Retry-After": str(http.RETRY_AFTER_S), **more})
    return http.reply("command", queries.accepted_resource(accepted), 202, headers)


def _answer(ended: Resource, accepted: acceptance.Accepted, more: dict[str, str]) -> Response:
    headers = _headers(accepted, more)
    if ended["status"] == "completed":
        return http.reply("command", ended, 201, headers)
    reason = ended.get("reason", {"code": "refused", "detail": "the command was refused"})
    about = {"instance": ended["links"]["self"], "commandId": ended["id"]}
    raise Problem(409, reason["code"], reason["detail"], headers=headers, **about)


@api.get("/commands/<identifier>")
@allow(SEEING)
@operation(
    parameters=(COMMAND_ID, PREFER, IF_NONE_MATCH),
    answers={
        200: Answer(
            description="Where it stands.",
            shape=resources.Command,
            example={"status": "refused"},
            headers=(ETAG, APPLIED),
        ),
        304: Answer(description="Where it stood.", headers=(ETAG, APPLIED)),
    },
    problems={404: "Nobody was given this id."},
)
def show_command(identifier: str) -> Response:
    """Show where a command stands; one just accepted is found by its acceptance. Another's is not found.

    `Prefer: wait` stays until it has ended, or with `If-None-Match` until it has changed.
    """
    look = partial(_look_up, http.identifier(identifier), http.caller().scope)
    found, wait_s = look(), http.preferred_wait()
    if not found:
        raise http.not_found("command of this id")
    waiting, asker = cast(Waiting, current_app.extensions["waiting"]), http.asker()
    if wait_s is None or not waiting.has_room_for(asker):
        return _shown(found, {})
    found = waiting.until(asker, found["id"], partial(_if, _is_awaited, look), wait_s) or look() or found
    http.recheck()()
    return _shown(found, {"Preference-Applied": f"wait={wait_s}"})


@api.delete("/commands/<identifier>")
@allow(ASKING)
@operation(
    parameters=(COMMAND_ID,),
    answers={
        202: Answer(
            description="Heard, durably. Unless its pivot is passed meanwhile, it ends `refused`, code `cancelled`.",
            shape=resources.Command,
            example={"status": "running", "reason": None},
            headers=(LOCATION, RETRY_AFTER),
        )
    },
    problems={404: "Nobody was given this id.", 409: "It has ended, or cannot be called back any more."},
)
def cancel_command(identifier: str) -> Response:
    """Cancel a command: what was done of it is undone. To ask again changes nothing; too late, it is `409`."""
    found = _look_up(http.identifier(identifier), http.caller().scope)
    if not found:
        raise http.not_found("command of this id")
    if not cancelling.is_cancellable(http.read_engine(), found["id"]):
        code = "already-ended" if _has_ended(found) else "not-cancellable"
        raise Problem(409, code, f"the command is {found['status']}, and cannot be called back")
    context = Context(found["id"], actor=http.caller().subject, traceparent=http.traceparent())
    cancelling.cancel(http.runtime().relay, http.read_engine(), context, found["username"])
    headers = {"Location": http.path("commands", found["id"]), "Retry-After": str(http.RETRY_AFTER_S)}
    return http.reply("command", found, 202, headers)


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


def _look_up(identifier: str | None, scope: str | None) -> Resource | None:
    if identifier is None:
        return None
    return queries.find_command(http.read_engine(), identifier, scope) or _just_accepted(identifier, scope)


def _just_accepted(identifier: str, scope: str | None) -> Resource | None:
    accepted = acceptance.find(http.runtime().write, identifier, scope)
    return queries.accepted_resource(accepted) if accepted else None


@api.get("/passwords")
@allow(SEEING)
@operation(
    parameters=(LIMIT, AFTER),
    answers={200: Answer(description="A page of passwords.", shape=resources.Passwords, headers=(NEXT,))},
)
def list_passwords() -> Response:
    """List the passwords that the caller may see by username, a page at a time."""
    after, limit, scope = http.argument("after"), http.page_limit(), http.caller().scope
    return http.reply("passwords", queries.list_passwords(http.read_engine(), after, limit, scope))


@api.get("/passwords/<whole:username>")
@allow(SEEING)
@operation(
    parameters=(USERNAME,),
    answers={200: Answer(description="The user's password.", shape=resources.Password)},
    problems={404: "This user has no password."},
)
def show_password(username: str) -> Response:
    """Show a user's password, never its secret."""
    scope = http.caller().scope
    name = unicodedata.normalize("NFC", username)
    found = None if "\x00" in name else queries.find_password(http.read_engine(), name, scope)
    if found is None:
        raise http.not_found("password of this user")
    return http.reply("password", found)


@api.post("/reveals")
@allow(PUBLIC)
@operation(
    takes=REVEAL_REQUEST,
    answers={200: Answer(description="The password; it cannot be had again.", shape=resources.Reveal)},
    problems={404: "No link has this token.", 410: "It was revealed before, or it is gone."},
)
def reveal(body: dict[str, str]) -> Response:
    """Reveal a password once, for the token of its link."""
    return http.reply("reveal", _vault().reveal(body["token"]))


def _vault() -> Vault:
    return cast(Vault, current_app.extensions["vault"])


@api.post("/verifications")
@allow(ASKING)
@operation(
    takes=VERIFICATION,
    answers={204: Answer(description="It is the user's valid password.")},
    problems={
        401: "It is not, or there is no such user: `wrong-password`. Or nobody says who asks.",
        429: "Too many attempts with this name or from this address failed; come back after Retry-After.",
    },
)
def verify_password(body: dict[str, str]) -> Response:
    """Tell whether this is a user's valid password; for a user who does not exist it takes as long to say no."""
    _vault().verify(body["username"], body["password"], http.address(), http.caller().subject)
    return http.nothing()
