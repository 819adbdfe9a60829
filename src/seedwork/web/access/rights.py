"""Say who may do what: one table of every route of every web process and the roles that may use it.

What is not in it is refused. A `caller` sees and cancels only its own commands, wherever it is let in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pulsaga.web.access.callers import Role

Right = frozenset[Role] | Literal["public", "service"]

PUBLIC: Right = "public"
"""Nobody is asked who they are."""
SERVICE: Right = "service"
"""Only services of this installation, by a token for this very route."""
ASKING: Right = frozenset({"caller", "operator", "admin"})
SEEING: Right = frozenset({"caller", "reader", "operator", "admin"})
OVERSEEING: Right = frozenset({"reader", "operator", "admin"})

EVERY: dict[str, Right] = {
    "GET /livez": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /health": PUBLIC,
    "GET /metrics": OVERSEEING,
}
"""Routes that every web process has."""

RIGHTS: Mapping[str, Mapping[str, Right]] = {
    "bff": EVERY
    | {
        "POST /passwords": ASKING,
        "GET /passwords": SEEING,
        "GET /passwords/<whole:username>": SEEING,
        "GET /commands/<identifier>": SEEING,
        "DELETE /commands/<identifier>": ASKING,
        "GET /commands/<identifier>/events": SEEING,
        "POST /verifications": ASKING,
        "POST /reveals": PUBLIC,  # the token of the link is the right
        "GET /reveal": PUBLIC,
        "GET /": PUBLIC,
        "GET /docs": PUBLIC,
        "GET /docs/messages": PUBLIC,
        "GET /openapi.json": PUBLIC,
        "GET /asyncapi.json": PUBLIC,
        "GET /schema.xsd": PUBLIC,
        "GET /problem.xsd": PUBLIC,
        "GET /static/<path:filename>": PUBLIC,
    },
    "protools_saga": EVERY
    | {
        "GET /sagas": OVERSEEING,
        "GET /sagas/<identifier>": OVERSEEING,
    },
    "generador": EVERY
    | {
        "GET /passwords/<whole:username>": OVERSEEING,
        "POST /internal/reveals": SERVICE,
        "POST /internal/verifications": SERVICE,
    },
    "correo": EVERY
    | {
        "GET /mails": OVERSEEING,
        "GET /mails/<identifier>": OVERSEEING,
    },
}


def right_to(service: str, method: str, rule: str) -> Right:
    """Return who may use a route; HEAD is a GET, OPTIONS tells what is public, an unknown route is nobody's."""
    if method == "OPTIONS":
        return PUBLIC
    return RIGHTS.get(service, EVERY).get(f"{'GET' if method == 'HEAD' else method} {rule}", frozenset())
