"""Read HTTP/1.1 requests off a stream of bytes (RFC 9112), within limits, each as a WSGI environment (PEP 3333).

httptools parses, strictly; what is refused beside is what two servers could read in two ways.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes, urlsplit

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from seedwork.formats import Problem, problem_of_status
from seedwork.http import BODY_LIMIT_BYTES

TARGET_LIMIT_BYTES = 8 * 1024
HEAD_LIMIT_BYTES = 16 * 1024
HEADER_LIMIT = 100
WIRE_LIMIT_BYTES = 1024 * 1024
"""Largest request on the wire: its body may come in many small chunks, with trailers."""
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

    def feed(self, data: bytes) -> None:
        """Read on; raise the Problem for what cannot be read, after which nothing more can."""
        arriving = self.arriving
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._stay_in_http1(data[upgrade.args[0] :])
        except HttpParserCallbackError as error:
            raise (error.__context__ or error) from None
        except HttpParserInvalidMethodError:
            raise problem_of_status(501, "there is no such method") from None
        except HttpParserError as error:
            raise problem_of_status(400, f"this is not HTTP/1.1: {error}") from None
        if arriving and arriving is self.arriving:
            _count(arriving, len(data))

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
        _begin(request.wsgi, parser.get_method().decode(), request.target, parser.get_http_version())
        _check_head(request.wsgi)
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

    def _stay_in_http1(self, rest: bytes) -> None:
        """Read the body of a request that asked for another protocol (RFC 9110 §7.8): a parser of its own knows how."""
        length = f"Content-Length: {self._request.wsgi.get('CONTENT_LENGTH', 0)}"
        framing = "Transfer-Encoding: chunked" if "HTTP_TRANSFER_ENCODING" in self._request.wsgi else length
        self._parser = HttpRequestParser(_BodyOnly(self))
        self.feed(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode() + rest)


class _BodyOnly:
    """Hear of a request's body; what came before it is known."""

    def __init__(self, reader: Reader) -> None:
        self.on_body, self.on_message_complete = reader.on_body, reader.on_message_complete


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


def _begin(environ: dict[str, Any], method: str, target: bytes, version: str) -> None:
    path, query = _split(target)
    environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"] = method, f"HTTP/{version}"
    environ["PATH_INFO"], environ["QUERY_STRING"] = unquote_to_bytes(path).decode("latin-1"), query.decode("latin-1")


@lru_cache(maxsize=256)
def _variable(name: bytes) -> str:
    variable = name.decode("latin-1").upper().replace("-", "_")
    return variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}"


def _add(environ: dict[str, Any], name: bytes, value: bytes) -> None:
    if b"_" in name:  # it would read like another header's name
        return
    variable = _variable(name)
    if variable not in environ:
        environ[variable] = value.decode("latin-1")
    elif variable in ONCE:
        raise problem_of_status(400, f"there is more than one {name.decode()}")
    else:
        environ[variable] += ("; " if variable == "HTTP_COOKIE" else ", ") + value.decode("latin-1")


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a request target (RFC 9112 §3.2)."""
    if not target.startswith(b"/"):
        try:
            parts = urlsplit(target)
        except ValueError:
            raise problem_of_status(400, "the request target is no URL") from None
        return parts.path or b"/", parts.query
    path, _, query = target.partition(b"?")
    return path, query


def _check_head(environ: dict[str, Any]) -> None:
    """Raise the Problem for what is not read here, or could be read in two ways."""
    version, coding = environ["SERVER_PROTOCOL"], environ.get("HTTP_TRANSFER_ENCODING")
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise problem_of_status(505, "HTTP/1.1 is spoken here")
    if version == "HTTP/1.1" and "HTTP_HOST" not in environ:
        raise problem_of_status(400, "there is no Host")
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
