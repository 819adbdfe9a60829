"""Keep what HTTP expects of every answer: a request id, entity tags, compression, other origins, OPTIONS.

What may not be stored (`Cache-Control: no-store`) is neither tagged nor compressed: a secret beside text that an
attacker chooses would be told by its compressed length (BREACH).
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Collection

from flask import Flask, Response, request
from werkzeug.http import parse_date

from pulsaga.delivery.messages import new_id

REQUEST_ID = "X-Request-Id"
FIT = re.compile(r"[\x21-\x7e]{1,128}")
COMPRESSED_FROM_BYTES = 1024
COMPRESSION = 5
PREFLIGHT_S = 600
ASKED = (
    "Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, traceparent, "
    "X-Request-Id"
)
"""Headers that a page of another origin may send."""
SHOWN = (
    "ETag, Idempotent-Replayed, Link, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, "
    "WWW-Authenticate, X-Request-Id"
)
"""Headers that a page of another origin may read."""
DATES = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE")
"""Where the environment of a request holds dates that are looked at."""


def keep(app: Flask, origins: Collection[str]) -> None:
    """Have every answer of an app follow them; pages of `origins` may ask from a browser, `*` being all."""

    @app.before_request
    def pass_over_dates() -> None:
        for name in DATES:
            if not _is_readable(request.environ.get(name)):
                request.environ[name] = ""  # RFC 9110 §13.1: it says nothing

    @app.after_request
    def finish(response: Response) -> Response:
        if REQUEST_ID not in response.headers:
            response.headers[REQUEST_ID] = request_id(request.headers.get(REQUEST_ID, ""))
        if origins:
            response.headers.update(for_origin(origins, request.headers.get("Origin", "")))
            response.vary.add("Origin")
        method = request.method
        if method == "OPTIONS":
            return _options(response)
        return _sparing(response) if method in ("GET", "HEAD") else response


def _is_readable(date: str | None) -> bool:
    """Tell whether a date, or what is none, makes nothing raise: the year 3,000,000,000 does."""
    try:
        parse_date(date)
    except Exception:  # whatever a stranger's text raises
        return False
    return True


def request_id(given: str) -> str:
    """Return the caller's id of a request, 1 to 128 visible ASCII characters; one of ours in place of anything else."""
    return given if given and FIT.fullmatch(given) else new_id()


def for_origin(origins: Collection[str], origin: str) -> dict[str, str]:
    """Return the headers that let a page of `origin` read an answer (CORS); none for one not in `origins`."""
    if origin not in origins and not (origin and "*" in origins):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": SHOWN}


def _options(response: Response) -> Response:
    """Tell what may be asked: `204` with Allow, and to a page of a permitted origin what it may send."""
    if response.status_code != 200:
        return response
    response.status_code = 204
    response.headers.pop("Content-Type", None)
    if "Access-Control-Allow-Origin" in response.headers and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = response.headers["Allow"]
        response.headers["Access-Control-Allow-Headers"] = ASKED
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
    return response


def _sparing(response: Response) -> Response:
    """Send nothing that the caller has, and what it has not compressed if it likes."""
    if response.cache_control.no_store or response.is_streamed or response.status_code not in (200, 304):
        return response
    response.vary.add("Accept-Encoding")
    body = response.get_data()
    if "ETag" not in response.headers:
        response.set_etag(tag(body), weak=True)
    response.make_conditional(request)
    response.headers.pop("Date", None)  # the server says it
    if response.status_code == 200 and len(body) >= COMPRESSED_FROM_BYTES and request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(body, COMPRESSION, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response


def tag(body: bytes) -> str:
    """Name a representation by its bytes, uncompressed: the opaque tag of RFC 9110 §8.8.3, without W/."""
    return hashlib.sha256(body).hexdigest()[:22]
