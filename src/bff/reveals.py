"""Ask generador to reveal a password; over HTTP, because a secret must not cross the broker."""

from __future__ import annotations

import time
from typing import Any

import orjson
import structlog
import urllib3

from seedwork import http
from seedwork.formats import Problem
from seedwork.settings import Settings
from seedwork.tokens import service_token

log = structlog.get_logger()
CONNECT_S = 2.0
READ_S = 10.0
ANSWER_S = 8.0
"""Seconds after which generador must not reveal any more: nobody would be there to see the password. It leaves room
for clocks that differ and for the commit."""
CONNECTIONS = 16
ROUTE = "generador POST /internal/reveals"


class Reveals:
    """Hold the HTTP client towards generador and the token by which it knows us."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.generador_url}/internal/reveals"
        self._key = settings.key("INTERNAL_TOKEN")
        timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, timeout=timeout, retries=False)

    def reveal(self, token: str) -> dict[str, Any]:
        """Return username and password; raise the Problem 404, 410, or 503 when generador cannot be asked."""
        answer = self._ask(token)
        document = _document(answer)
        if answer.status == 200:
            return {"username": document["username"], "password": document["password"]}
        if answer.status in (404, 410):
            raise Problem(answer.status, document["code"], document["detail"])
        log.error("generador did not reveal", status=answer.status, code=document.get("code"))
        raise http.unavailable("the password cannot be shown for now; the link stays good")

    def _ask(self, token: str) -> urllib3.BaseHTTPResponse:
        badge = service_token(self._key, "bff", ROUTE)
        headers = {"Authorization": f"Bearer {badge}", "Accept": "application/json"}
        question = {"token": token, "answer_by": time.time() + ANSWER_S}
        try:
            return self._pool.request("POST", self._url, json=question, headers=headers, redirect=False)
        except urllib3.exceptions.ReadTimeoutError as late:
            log.warning("generador did not answer in time", error=str(late))
            raise http.unavailable("the password could not be shown in time; try again") from None
        except urllib3.exceptions.HTTPError as down:
            log.warning("generador is down", error=str(down))
            raise http.unavailable("the password cannot be shown for now; the link stays good") from None


def _document(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
