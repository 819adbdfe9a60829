"""Read HTTP/1.1 requests off a stream of bytes (RFC 9112), within limits, each as a WSGI environment (PEP 3333).

httptools parses, strictly; what is refused beside is what two servers could read in two ways.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import structlog
from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from pulsaga.web.formats import Problem, problem_of_status
from pulsaga.web.http import BODY_LIMIT_BYTES, authority

log = structlog.get_logger()
TARGET_LIMIT_BYTES = 8 * 1024
HEAD_LIMIT_BYTES = 16 * 1024
HEADER_LIMIT = 100
WIRE_LIMIT_BYTES = 1024 * 1024
"""Largest request on the wire: its body may come in many small chunks, with trailers."""
OTHER_PROTOCOL, OTHER_PROTOCOL_BYTES = re.compile(rb" (?:RTSP|ICE)/\d\.\d\r?\n"), 10
"""End of a request line that httptools reads as if it said HTTP; nothing else that is understood here has it."""
TARGET = re.compile(rb"(?:(?i:https?)://([^/?#]+))?(|/[^?#]*|\*)(?:\?([^#]*))?")
"""Host, path and query."""
ONCE = ("HTTP_HOST", "CONTENT_TYPE", "HTTP_AUTHORIZATION")
"""Headers of which a second one would leave open which counts."""


class Request:
    """Hold one request while it arrives and until it is answered."""

    def __init__(self) -> None:
        self.wsgi: dict[str, Any] = {}
        self.target, self.body = b"", bytearray()
        self.headers = self.head_bytes = self.wire_bytes = 0
        self.has_head = self.keep_alive = False
        self.rank = 0
        self.problem: Problem | None = None
        """Why it is answered without the app."""


class Listener(Protocol):
    """Hear how a request arrives; what is raised is raised by `Reader.feed`."""

    def begins(self) -> None:
        """Hear that one has begun."""

    def has_head(self, request: Request) -> None:
        """Hear that its head is there, and was not refused."""

    def is_whole(self, request: Request) -> None:
        """Hear that it is there."""


class Reader:
    """Hold the request that arrives, `arriving`; the methods that begin with `on_` are the parser's to call."""

    def __init__(self, listener: Listener, client: Sequence[Any], server: Sequence[Any]) -> None:
        self.arriving: Request | None = None
        self._listener, self._ends = listener, _ends(client, server)
        self._parser = HttpRequestParser(self)
        self._last_bytes = b""

    def feed(self, data: bytes) -> None:
        """Read on; raise the Problem for what cannot be read, after which nothing more can."""
        arriving = self.arriving
        try:
            self._check_protocol(data)
            rest = self._parse(data)
            if rest is not None and self.arriving:
                self._stay_in_http1()
                self._parse(rest)
        except Problem:
            raise
        except HttpParserInvalidMethodError:
            raise problem_of_status(501, "there is no such method") from None
        except HttpParserError as error:
            raise problem_of_status(400, f"this is not HTTP/1.1: {error}") from None
        except Exception as error:  # whatever it is, this one client sent it
            log.warning("unreadable request", error=repr(error))
            raise problem_of_status(400, "this cannot be read") from None
        if arriving and arriving is self.arriving:
            _count(arriving, len(data))

    def _check_protocol(self, data: bytes) -> None:
        """Raise the Problem 505 for a protocol that the parser takes for HTTP, and does not tell from it."""
        seen = self._last_bytes + data
        if OTHER_PROTOCOL.search(seen):
            raise problem_of_status(505, "HTTP/1.1 is spoken here")
        self._last_bytes = seen[-OTHER_PROTOCOL_BYTES:]

    def _parse(self, data: bytes) -> bytes | None:
        """Return what lies behind a head that asks for another protocol, None where there is none."""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except HttpParserCallbackError as error:
            raise (error.__context__ or error) from None
        return None

    def on_message_begin(self) -> None:
        self._listener.begins()
        self.arriving = Request()

    def on_url(self, part: bytes) -> None:
        request = self._request
        request.target += part
        if len(request.target) > TARGET_LIMIT_BYTES:
            raise problem_of_status(414, f"the request target is over {TARGET_LIMIT_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        request.headers += 1
        request.head_bytes += len(name) + len(value)
        if request.headers > HEADER_LIMIT or request.head_bytes > HEAD_LIMIT_BYTES:
            raise _head_too_large()
        if not request.has_head:  # a trailer says nothing that we ask for
            _add(request.wsgi, name, value)

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        request.wsgi |= self._ends
        request.wsgi["REQUEST_METHOD"] = parser.get_method().decode()
        request.wsgi["SERVER_PROTOCOL"] = f"HTTP/{parser.get_http_version()}"
        _check_head(request.wsgi)
        _add_target(request.wsgi, request.target)
        request.has_head = True
        request.keep_alive = parser.should_keep_alive() and not parser.should_upgrade()
        self._listener.has_head(request)

    def on_body(self, part: bytes) -> None:
        request = self._request
        request.body += part
        if len(request.body) > BODY_LIMIT_BYTES:
            raise _body_too_large()

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():  # its body is still to come
            return
        request, self.arriving = self._request, None
        if request.wsgi.pop("HTTP_TRANSFER_ENCODING", None):
            request.wsgi["CONTENT_LENGTH"] = str(len(request.body))
        request.wsgi["wsgi.input"] = BytesIO(request.body)
        self._listener.is_whole(request)

    @property
    def _request(self) -> Request:
        assert self.arriving
        return self.arriving

    def _stay_in_http1(self) -> None:
        """Read the body of a request that asked for another protocol (RFC 9110 §7.8): a parser of its own knows how."""
        length = f"Content-Length: {self._request.wsgi.get('CONTENT_LENGTH', 0)}"
        framing = "Transfer-Encoding: chunked" if "HTTP_TRANSFER_ENCODING" in self._request.wsgi else length
        self._parser = HttpRequestParser(_BodyOnly(self))
        self._parser.feed_data(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode())


class _BodyOnly:
    """Hear of the body of one request, the last of its connection; what came before it is known."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def on_body(self, part: bytes) -> None:
        if self._reader.arriving:
            self._reader.on_body(part)

    def on_message_complete(self) -> None:
        if self._reader.arriving:
            self._reader.on_message_complete()


def _count(request: Request, more: int) -> None:
    request.wire_bytes += more
    if not request.has_head and request.wire_bytes > HEAD_LIMIT_BYTES:
        raise _head_too_large()
    if request.wire_bytes > WIRE_LIMIT_BYTES:
        raise _body_too_large()


# --- what a head says


def _ends(client: Sequence[Any], server: Sequence[Any]) -> dict[str, Any]:
    """Return what the environment of each request on a connection has in common."""
    return {
        "SCRIPT_NAME": "",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


@lru_cache(maxsize=256)
def _variable(name: bytes) -> str:
    variable = name.decode("latin-1").upper().replace("-", "_")
    return variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}"


def _add(environ: dict[str, Any], name: bytes, value: bytes) -> None:
    if b"_" in name:  # it would read like another header's name
        return
    variable, text = _variable(name), value.rstrip(b" \t").decode("latin-1")  # RFC 9110 §5.5: spaces are no part of it
    if variable not in environ:
        environ[variable] = text
    elif variable in ONCE:
        raise problem_of_status(400, f"there is more than one {name.decode()}")
    else:
        environ[variable] += ("; " if variable == "HTTP_COOKIE" else ", ") + text


def _add_target(environ: dict[str, Any], target: bytes) -> None:
    """Read path and query of a request target (RFC 9112 §3.2); one that names a host agrees with Host."""
    match = TARGET.fullmatch(target)
    if not match:
        raise problem_of_status(400, "the request target is no path and no URL of HTTP")
    origin, path, query = ((part or b"").decode("latin-1") for part in match.groups())
    if origin and _authority(environ.setdefault("HTTP_HOST", origin)) != _authority(origin):
        raise problem_of_status(400, "the request target and Host name two hosts")
    environ["PATH_INFO"], environ["QUERY_STRING"] = unquote_to_bytes(path).decode("latin-1") or "/", query


def _authority(text: str) -> tuple[str, int]:
    try:
        return authority(text)
    except ValueError as error:
        raise problem_of_status(400, f"Host is no host: {error}") from None


def _check_head(environ: dict[str, Any]) -> None:
    """Raise the Problem for what is not read here, or could be read in two ways."""
    version, coding = environ["SERVER_PROTOCOL"], environ.get("HTTP_TRANSFER_ENCODING")
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise problem_of_status(505, "HTTP/1.1 is spoken here")
    if version == "HTTP/1.1" and "HTTP_HOST" not in environ:
        raise problem_of_status(400, "there is no Host")
    if "HTTP_HOST" in environ:
        _authority(environ["HTTP_HOST"])
    if version == "HTTP/1.0":
        environ.pop("HTTP_EXPECT", None)  # RFC 9110 §10.1.1: it is not understood there
    if coding is not None and version == "HTTP/1.0":
        raise problem_of_status(400, "HTTP/1.0 has no Transfer-Encoding")
    if coding is not None and coding.lower() != "chunked":
        raise problem_of_status(501, "chunked is the one Transfer-Encoding that is read here")
    if environ["REQUEST_METHOD"] == "CONNECT":
        raise problem_of_status(501, "this is no proxy")
    if environ.get("HTTP_EXPECT", "100-continue").lower() != "100-continue":
        raise problem_of_status(417, "100-continue is the one expectation that is known here")
    if int(environ.get("CONTENT_LENGTH", 0)) > BODY_LIMIT_BYTES:
        raise _body_too_large()


# --- what is refused


def _head_too_large() -> Problem:
    return problem_of_status(431, f"the head is over {HEAD_LIMIT_BYTES} bytes or {HEADER_LIMIT} headers")


def _body_too_large() -> Problem:
    return problem_of_status(413, f"the body is over {BODY_LIMIT_BYTES} bytes")
