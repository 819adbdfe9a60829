"""Ask another service of this system over HTTP: for what must not cross the broker, or needs its answer at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
import urllib3
from flask import has_request_context

from pulsaga.running.runtime import Runtime
from pulsaga.telemetry.traces import calling_out
from pulsaga.web import http
from pulsaga.web.access.tokens import service_token
from pulsaga.web.formats import Problem

log = structlog.get_logger()
CONNECT_S = 2.0
READ_S = 10.0
CONNECTIONS = 16
HANDED_ON = ("Retry-After", "WWW-Authenticate")


@dataclass(frozen=True)
class Answered:
    """What another service answered: a status, and a document, which is empty where it is no JSON object."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str]

    def problem(self) -> Problem:
        """Return its problem as one of ours."""
        headers = {name: self.headers[name] for name in HANDED_ON if name in self.headers}
        errors = {"errors": self.document["errors"]} if "errors" in self.document else {}
        return Problem(self.status, self.document["code"], self.document["detail"], headers=headers, **errors)


class Peer:
    """The HTTP client towards one service of this system, which knows us by a token for each route. Thread-safe."""

    def __init__(self, runtime: Runtime, service: str) -> None:
        self.service, self._asking = service, runtime.service
        self._url, self._key = runtime.url_of(service), runtime.settings.key("INTERNAL_TOKEN")
        timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, timeout=timeout, retries=False)

    def ask(self, route: str, question: Mapping[str, Any], detail: str) -> Answered:
        """Return what it answers to `POST <route>`; raise the Problem 503 with this detail when it cannot be asked."""
        badge = service_token(self._key, self._asking, f"{self.service} POST {route}")
        headers = {"Authorization": f"Bearer {badge}", "Accept": "application/json"}
        about = {"http.request.method": "POST", "url.full": f"{self._url}{route}"}
        with calling_out("POST", http.traceparent() if has_request_context() else None, about) as call:
            headers |= {"traceparent": call.traceparent} if call.traceparent else {}
            try:
                answer = self._pool.request(
                    "POST", f"{self._url}{route}", json=question, headers=headers, redirect=False
                )
            except urllib3.exceptions.HTTPError as down:
                log.warning("a service cannot be asked", asked=self.service, error=str(down))
                raise http.unavailable(detail) from None
            call.more["http.response.status_code"] = answer.status
        return Answered(answer.status, _document(answer), answer.headers)

    def unexpected(self, answer: Answered, detail: str) -> Problem:
        """Log an answer that means nothing here; return the Problem 503."""
        log.error("a service gave no answer that is known", asked=self.service, status=answer.status, **_code(answer))
        return http.unavailable(detail)


def _code(answer: Answered) -> dict[str, str]:
    return {"code": str(answer.document["code"])} if "code" in answer.document else {}


def _document(answer: urllib3.BaseHTTPResponse) -> Mapping[str, Any]:
    try:
        document = orjson.loads(answer.data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
