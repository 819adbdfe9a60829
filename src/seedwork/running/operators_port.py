"""The port of a process for those who operate it: metrics, liveness, readiness. No proxy in front is to route to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from socketserver import ThreadingMixIn
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pulsaga import values
from pulsaga.errors import SettingError
from pulsaga.settings import Settings
from pulsaga.telemetry.vitals import OURS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger()

EVERYWHERE = ("0.0.0.0", "::")
SLOW_S = 30.0
"""Seconds that a client may take to send or read something."""
REALM = ("WWW-Authenticate", 'Bearer realm="protools"')
SURVEY, SETTINGS = "/operate/survey", "/operate/settings"
"""What every process shows of its own service."""
AT_ONCE = 16
"""Requests that are answered at the same time; who comes then is hung up on."""
CHECKED_S = 1.0
"""Seconds for which readiness is not tried again: whoever asks, the databases are not asked more often."""
Needs = Mapping[str, Callable[[], bool]]
"""What a process needs for its work, by name: whether that answers now."""
Answer = tuple[str, str, bytes]
"""Status line, content type and body."""


class OperatorsPort:
    """Answers `/livez` and `/readyz` of a process, and with a token metrics and `views`, which are JSON by path.

    `may_look` tells by path and bearer who is let in.
    """

    def __init__(
        self,
        needs: Needs,
        registries: Sequence[CollectorRegistry],
        may_look: Callable[[str, str], bool],
        views: Mapping[str, Callable[[], bytes]] = MappingProxyType({}),
    ) -> None:
        self._needs, self._registries, self._may_look = needs, registries, may_look
        self._checking, self._checks, self._checked_until = threading.Lock(), dict[str, str](), 0.0
        self._public = {"/livez": self._live, "/readyz": self._ready}
        shown = {path: partial(_shown, view) for path, view in views.items()}
        self._routes: dict[str, Callable[[], Answer]] = {**self._public, "/metrics": self._metrics, **shown}

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        path = environ.get("PATH_INFO", "")
        try:
            status, kind, body = self._answer(path, environ)
        except Exception:
            log.exception("an operator's request failed", path=path)
            status, kind, body = _as_json("500 Internal Server Error", {"detail": "this is our fault; it was logged"})
        challenge = [REALM] if status.startswith("401") else []
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *challenge])
        return [body]

    def _answer(self, path: str, environ: WSGIEnvironment) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _as_json("405 Method Not Allowed", {"detail": "GET"})
        if path not in self._routes:
            return _as_json("404 Not Found", {"detail": f"there are {', '.join(self._routes)}"})
        bearer = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        if path not in self._public and not self._may_look(path, bearer):
            return _as_json("401 Unauthorized", {"detail": "a token of a reader, an operator or an admin is needed"})
        return self._routes[path]()

    def _live(self) -> Answer:
        hanging = OURS.hanging()
        return _as_json(
            "503 Service Unavailable" if hanging else "200 OK",
            {"status": "hangs" if hanging else "ok", "hanging": hanging},
        )

    def _ready(self) -> Answer:
        with self._checking:
            if time.monotonic() >= self._checked_until:
                self._checks = {name: "ok" if _passes(name, one) else "failed" for name, one in self._needs.items()}
                self._checked_until = time.monotonic() + CHECKED_S
        checks = self._checks
        is_ready = "failed" not in checks.values()
        status = "200 OK" if is_ready else "503 Service Unavailable"
        return _as_json(status, {"status": "ready" if is_ready else "not-ready", "checks": checks})

    def _metrics(self) -> Answer:
        return "200 OK", CONTENT_TYPE_LATEST, b"".join(map(generate_latest, self._registries))


def _passes(name: str, check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception as error:  # whatever it raises, the answer is no
        log.warning("check failed", check=name, error=str(error))
        return False


def _shown(view: Callable[[], bytes]) -> Answer:
    return "200 OK", "application/json", view()


def _as_json(status: str, document: Mapping[str, Any]) -> Answer:
    return status, "application/json", json.dumps(document).encode()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, while there is room."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of whoever hangs up, or sends what is no request."""

    def server_bind(self) -> None:
        """Bind without asking who this machine is: a resolver that is away would hold that up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    timeout = SLOW_S

    def log_message(self, *_: Any) -> None:
        """Log nothing: a scrape each few seconds is no news."""


def _server(settings: Settings, host: str) -> _Server:
    """Listen; where no port was asked for and the usual one is taken, on any that is free."""
    kind, asked = (_Server6 if ":" in host else _Server), settings.given("OPERATORS_PORT", values.port_or_any)
    for port in (asked,) if asked is not None else (settings.operators_port, 0):
        try:
            return kind((host, port), _Silent)
        except OSError as error:
            refused = error
    raise SettingError("OPERATORS_PORT", f"port {port} of {host} cannot be had: {refused.strerror}")


class Listener:
    """The listening port, open from the start. Raises SettingError when it cannot be had."""

    def __init__(self, settings: Settings) -> None:
        host = settings.operators_host
        self._server = _server(settings, host)
        name = socket.gethostname() if host in EVERYWHERE else host
        self.address = f"{f'[{name}]' if ':' in name else name}:{self._server.server_port}"

    def close(self) -> None:
        """Listen no more, where nothing is served."""
        self._server.server_close()

    def serve(self, app: OperatorsPort) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return the loop that answers with `app`, and what ends it."""
        self._server.set_app(app)
        begun = threading.Event()

        def run() -> None:
            begun.set()
            self._server.serve_forever(poll_interval=0.5)
            self._server.server_close()

        def stop() -> None:
            if begun.wait(1.0):
                self._server.shutdown()

        return run, stop
