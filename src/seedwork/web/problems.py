"""Describe problems as callers see them, and which of them any route may answer with."""

from __future__ import annotations

from collections.abc import Mapping

from marshmallow import fields

from pulsaga.web.contract import RETRY_AFTER, Header, Operation, Shape


class FieldError(Shape):
    """Name one wrong field and what is wrong with it."""

    root = "i"
    pointer = fields.String(metadata={"description": "JSON Pointer into the body.", "examples": ["/name"]})
    parameter = fields.String(metadata={"description": "Name of a query parameter."})
    detail = fields.String(required=True, metadata={"examples": ["must have 1 to 254 characters"]})


class Problem(Shape):
    """Say why a request is refused (RFC 9457)."""

    root = "problem"
    type = fields.String(
        required=True,
        metadata={"description": "`urn:protools:problem:<code>`.", "format": "uri", "examples": ["about:blank"]},
    )
    title = fields.String(required=True, metadata={"description": "The code in words."})
    status = fields.Integer(required=True, metadata={"description": "The HTTP status.", "minimum": 400, "maximum": 599})
    detail = fields.String(required=True, metadata={"description": "For people."})
    code = fields.String(required=True, metadata={"description": "Never changes; for programs."})
    instance = fields.String(metadata={"description": "The command that was refused.", "format": "uri-reference"})
    commandId = fields.UUID(metadata={"description": "Its id."})
    line = fields.Integer(metadata={"description": "Where the body cannot be read, from 1.", "minimum": 1})
    column = fields.Integer(metadata={"description": "Likewise.", "minimum": 0})
    errors = fields.List(fields.Nested(FieldError), metadata={"description": "Each wrong field."})


ALWAYS = {
    429: "Too many requests from one caller.",
    500: "A fault of ours; it was logged.",
    503: "Something needed is down, or too much is asked for; come back after Retry-After.",
}
NEGOTIATED = {406: "No format that is spoken here is accepted."}
PRIVATE = {401: "Nobody says who asks.", 403: "Who asks may not do this."}
BODY = {
    400: "The body cannot be read; `line` and `column` say where.",
    413: "The body is too large.",
    415: "The Content-Type is not spoken here.",
    422: "A field is wrong; `errors` says which.",
}
QUERY = {422: "A query parameter is wrong; `errors` says which."}
USUAL = ALWAYS | NEGOTIATED | PRIVATE | BODY
HEADERS = {
    401: (Header(name="WWW-Authenticate", description="How to say who asks.", example="Bearer"),),
    429: (
        RETRY_AFTER,
        Header(name="RateLimit", description="What is left of which limit.", example='"caller";r=0;t=2', always=False),
        Header(name="RateLimit-Policy", description="The limit.", example='"caller";q=50;w=10', always=False),
    ),
    503: (RETRY_AFTER,),
}


def problems_of(operation: Operation, *, is_public: bool) -> Mapping[int, str]:
    """Return by status why a route may refuse; what the route says of itself comes first."""
    asks = any(parameter.place == "query" for parameter in operation.parameters)
    speaks = operation.takes or any(answer.shape for answer in operation.answers.values())
    kinds = (
        (ALWAYS, True),
        (NEGOTIATED, speaks),
        (PRIVATE, not is_public),
        (QUERY, asks),
        (BODY, operation.takes),
        (operation.problems, True),
    )
    told = {status: reason for kind, applies in kinds if applies for status, reason in kind.items()}
    return dict(sorted(told.items()))
