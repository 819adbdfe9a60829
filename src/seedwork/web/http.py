"""Read requests and write answers in the format the caller speaks: what every service's routes use, on Flask."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address
from math import ceil
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, current_app, g, request
from sqlalchemy import Engine
from werkzeug.http import parse_list_header

from pulsaga.running.runtime import Runtime
from pulsaga.web import formats
from pulsaga.web.access.callers import NOBODY, Caller
from pulsaga.web.access.guesses import TooManyAttempts
from pulsaga.web.formats import Document, Format, Problem, invalid
from pulsaga.web.serving.crew import Asker, Client
from pulsaga.web.tracing import traceparent as traceparent

T = TypeVar("T")
BODY_LIMIT_BYTES = 64 * 1024
RETRY_AFTER_S = 1
PAGE_LIMIT = 200
PAGE_DEFAULT = 50
ALWAYS = {"Vary": "Accept", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
REVALIDATED = "private, no-cache"
"""What is shown may be kept by who asked, and is asked for again by its tag; anything else is not stored."""
PLACE = "pulsaga.place"
"""Where the environment of a request holds what the gate counted for it (`server.Place`)."""
CLIENT = "pulsaga.client"
"""Where it holds the Client."""
AUTHORITY = re.compile(r"([\w.~-]+|\[[0-9a-f:.]+\])(?::([0-9]{0,5}))?", re.ASCII)
HTTP_PORT, PORTS = 80, 65536


class Api(Blueprint):
    """A blueprint of a service's resources; documents show its operations under the service's name."""


def api(name: str, module: str = "") -> Api:
    """Return a blueprint whose answers are negotiated before anything is done; its module says what it is."""
    blueprint = Api(name, module or name)
    blueprint.before_request(_negotiate)
    return blueprint


def runtime() -> Runtime:
    """Return what this process works with."""
    return cast(Runtime, current_app.extensions["runtime"])


def read_engine() -> Engine:
    """Return the read database."""
    return cast(Engine, current_app.extensions["read"])


def kept(cls: Callable[[Runtime], T]) -> T:
    """Return what this process keeps of a class, made of its runtime when it is first asked for."""
    made: dict[Any, Any] = current_app.extensions.setdefault("kept", {})
    if cls not in made:
        made[cls] = cls(runtime())
    return cast(T, made[cls])


def caller() -> Caller:
    """Return who asks, as the app's gatekeeper found out before the view was called."""
    return cast(Caller, g.caller)


def asker() -> Asker:
    """Return who waits: by its subject, or by its address where nobody is asked who they are."""
    known: Caller = g.get("caller", NOBODY)
    return Asker(address() if known == NOBODY else known.subject, request.environ.get(CLIENT) or Client())


def recheck() -> Callable[[], None]:
    """Return what raises the Problem 401 as soon as this caller is let in no longer; any thread may call it."""
    return cast("Callable[[], None]", g.recheck)


def address() -> str:
    """Name where the request comes from, behind a trusted proxy what that one says; an IPv6 network, not an address."""
    return cast(str, g.address)


# --- answers


def _asked() -> tuple[str, str, tuple[Format, ...]]:
    return request.headers.get("Accept", ""), request.headers.get("Content-Type", ""), _added()


def _added() -> tuple[Format, ...]:
    return tuple(runtime().system.formats)


def _negotiate() -> None:
    if request.method == "OPTIONS":
        return
    chosen = formats.format_for(*_asked())
    if chosen is None:
        raise Problem(406, "not-acceptable", f"this can be had as {formats.spoken_types(_added())}")
    g.format = chosen


def reply(name: str, document: Document, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a resource in the negotiated format; `name` is its XML root. A page links to the next (RFC 8288)."""
    chosen = g.get("format") or problem_format(*_asked())
    content_type = chosen.content_type or chosen.media_type
    response = _finish(Response(chosen.write(name, document), status, content_type=content_type), headers or {})
    if following := document.get("links", {}).get("next"):
        response.headers["Link"] = f'<{following}>; rel="next"'
    return response


def problem_format(accept: str, content_type: str, added: tuple[Format, ...]) -> Format:
    """Choose the format of a problem; a browser gets JSON, which it shows: XML it would save to a file."""
    return formats.problem_format("" if "text/html" in accept.lower() else accept, content_type, added)


def nothing() -> Response:
    """Answer that it was done, and that there is nothing to say."""
    return _finish(Response(status=204), {})


def refuse(problem: Problem) -> Response:
    """Answer with a problem in the caller's format, whatever went before."""
    chosen = problem_format(*_asked())
    content_type = chosen.problem_type or chosen.media_type
    response = Response(chosen.write_problem(problem.document), problem.status, content_type=content_type)
    return _finish(response, problem.headers)


def _finish(response: Response, headers: Mapping[str, str]) -> Response:
    response.headers.update(ALWAYS)
    if response.status_code < 400 and request.method in ("GET", "HEAD"):
        response.headers["Cache-Control"] = REVALIDATED
    response.headers.update(headers)
    return response


# --- requests


def authority(text: str) -> tuple[str, int]:
    """Read `host[:port]` as Host has it (RFC 9110 §7.2), in lower case; raise ValueError for anything else."""
    match = AUTHORITY.fullmatch(text.lower())
    if not match or int(match[2] or HTTP_PORT) >= PORTS:
        raise ValueError("host or host:port is needed")
    host = match[1]
    return (f"[{IPv6Address(host[1:-1])}]" if host.startswith("[") else host), int(match[2] or HTTP_PORT)


def body() -> Any:
    """Read the request's body by its Content-Type; raise the Problem 415, 413 or 400."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        plain = {"Accept-Encoding": "identity"}
        raise Problem(415, "unsupported-media-type", "send the body uncompressed", headers=plain)
    return formats.read(request.headers.get("Content-Type", ""), request.get_data(cache=False), _added())


def speaks_xml() -> bool:
    """Tell whether the body that `body` read is XML."""
    return "xml" in request.mimetype


def page_limit() -> int:
    """Read the `limit` of a list, 1 to PAGE_LIMIT; raise the Problem 422."""
    text = request.args.get("limit", str(PAGE_DEFAULT))
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= PAGE_LIMIT:
        raise invalid({"limit": f"must be a whole number from 1 to {PAGE_LIMIT}"}, "parameter")
    return int(text)


def next_page(rows: Sequence[Mapping[Any, Any]], limit: int, parameter: str, key: str) -> dict[str, Any]:
    """Link to the page behind `limit` rows, if one more row was found; `parameter` takes the last row's `key`."""
    if len(rows) <= limit:
        return {}
    query = request.args.to_dict() | {"limit": str(limit), parameter: rows[limit - 1][key]}
    return {"links": {"next": f"{quote(request.path)}?{urlencode(query)}"}}


def argument(name: str) -> str | None:
    """Read one query parameter; raise the Problem 422 for text that no database holds."""
    value = request.args.get(name)
    if value is not None and "\x00" in value:
        raise invalid({name: "must not hold a NUL"}, "parameter")
    return value


def argument_id(name: str) -> str | None:
    """Read a query parameter that is an id; raise the Problem 422 for anything else."""
    value = request.args.get(name)
    if value is not None and identifier(value) is None:
        raise invalid({name: "must be an id"}, "parameter")
    return value and identifier(value)


def identifier(text: str) -> str | None:
    """Read a UUID in its usual form of 36 characters; None for anything else."""
    try:
        return str(uuid.UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None


def known_id(text: str, what: str) -> str:
    """Read the id of a resource; raise the Problem 404 for what nothing can have as its id."""
    known = identifier(text)
    if known is None:
        raise not_found(f"{what} of this id")
    return known


def unavailable(detail: str) -> Problem:
    """Make the Problem 503 that asks to come back."""
    return Problem(503, "unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def too_many_attempts(early: TooManyAttempts) -> Problem:
    """Make the Problem 429 of an attempt that came early."""
    wait = {"Retry-After": str(ceil(early.wait_s))}
    return Problem(429, "too-many-attempts", "too many attempts failed; wait before the next", headers=wait)


def not_found(what: str) -> Problem:
    """Make the Problem 404 of a resource that does not exist."""
    return Problem(404, "not-found", f"there is no {what}")


def path(*parts: str) -> str:
    """Write a path of any texts; what is not plain is percent-encoded."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def preferred_wait() -> int | None:
    """Read `Prefer: wait=N` (RFC 7240 §4.3) in seconds, at most WAIT_LIMIT; None when it is absent or no number.

    Together with `respond-async` it says how long to wait before the answer becomes asynchronous.
    """
    given = _preferences().get("wait", "")
    return min(int(given), int(runtime().settings.wait_limit)) if re.fullmatch("[0-9]{1,9}", given) else None


def prefers_async() -> bool:
    """Tell whether the caller said `Prefer: respond-async` (RFC 7240 §4.1)."""
    return "respond-async" in _preferences()


def _preferences() -> dict[str, str]:
    if "Prefer" not in request.headers:
        return {}
    parts = (
        one.partition(";")[0].partition("=") for one in parse_list_header(",".join(request.headers.getlist("Prefer")))
    )
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in parts}
