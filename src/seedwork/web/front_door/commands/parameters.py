"""Describe the parameters and headers by which callers and the front door speak beside the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulsaga.web.contract import Callback, Header, Parameter, Shape
from pulsaga.web.front_door.commands.resources import ID, MOVED_STATUSES

LOCATION = Header(name="Location", description="Where the command is shown.", example=f"/commands/{ID}")
REPLAYED = Header(
    name="Idempotent-Replayed",
    description="`true` when this request was accepted before.",
    example="true",
    always=False,
)
APPLIED = Header(name="Preference-Applied", description="For how long was waited.", example="wait=10", always=False)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="The same key and body again is the same request: it gets the stored answer. "
    "An X-Request-Id that is a GUID counts as one.",
    schema={"type": "string", "pattern": '^"?[!-~]{1,255}"?$'},
    example="8e03978e-40d5-43e8-bc93-6894a57f9324",
)
PREFER = Parameter(
    name="Prefer",
    place="header",
    description="`wait=N` stays for the end of the command, at most N seconds (RFC 7240); with `If-None-Match` for "
    "its next move.",
    example="wait=5",
)
_LAST_EVENT = "The last event that the caller has; what follows it is told."
_EVENT_ID: Mapping[str, Any] = {"type": "string", "pattern": "^[0-9]{0,9}$"}
LAST_EVENT_ID = Parameter(name="Last-Event-ID", place="header", description=_LAST_EVENT, schema=_EVENT_ID, example="2")
LAST_EVENT_ID_IN_QUERY = Parameter(
    name="Last-Event-ID", place="query", description=_LAST_EVENT, schema=_EVENT_ID, example="2"
)
EVENT: Mapping[str, Any] = {
    "type": "object",
    "description": "One event, by the names of its fields (WHATWG HTML §9.2).",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]{1,9}$", "description": "The command's version."},
        "event": {"type": "string", "enum": list(MOVED_STATUSES), "description": "Its status."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Command"},
            "description": "The command.",
        },
    },
}
COMMAND_ID = Parameter(
    name="identifier",
    place="path",
    description="The command's id.",
    schema={"type": "string", "format": "uuid"},
    example=ID,
)


def ended(shape: type[Shape]) -> Callback:
    """Describe the call that tells of a command's end."""
    return Callback(
        name="command_ended",
        url="$request.body#/callback",
        description="Tell that the command has ended, at least once, signed by Standard Webhooks 1.0.0.",
        shape=shape,
        headers=(
            Parameter(name="webhook-id", place="header", description="The command's id, in each call.", example=ID),
            Parameter(name="webhook-timestamp", place="header", description="Unix seconds.", example="1769851613"),
            Parameter(
                name="webhook-signature",
                place="header",
                description="`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.",
                example="v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
            ),
        ),
        answers={"2XX": "Taken.", "410": "Never again.", "default": "Not taken; it comes again."},
    )
