"""Ask generador to reveal or to verify a password; over HTTP, because a secret must not cross the broker."""

from __future__ import annotations

import time
from typing import Any

import orjson
import structlog
import urllib3

from pulsaga import Runtime
from pulsaga.web import Problem, http, service_token

log = structlog.get_logger()
CONNECT_S = 2.0
READ_S = 10.0
ANSWER_S = 8.0
"""Seconds after which generador must not reveal any more: nobody would be there to see the password. It leaves room
for clocks that differ and for the commit."""
CONNECTIONS = 16
REVEALS, VERIFICATIONS = "/internal/reveals", "/internal/verifications"
HANDED_ON = ("Retry-After", "WWW-Authenticate")


class Vault:
    """Hold the HTTP client towards generador and the token by which it knows us."""

    def __init__(self, runtime: Runtime) -> None:
        self._url = runtime.url_of("generador")
        self._key = runtime.settings.key("INTERNAL_TOKEN")
        timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, timeout=timeout, retries=False)

    def reveal(self, token: str) -> dict[str, Any]:
        """Return username and password; raise the Problem 404, 410, or 503 when generador cannot be asked."""
        answer = self._ask(REVEALS, {"token": token, "answer_by": time.time() + ANSWER_S})
        document = _document(answer)
        if answer.status == 200 and document.keys() >= {"username", "password"}:
            return {"username": document["username"], "password": document["password"]}
        if answer.status in (404, 410) and document.keys() >= {"code", "detail"}:
            raise Problem(answer.status, document["code"], document["detail"])
        log.error("generador did not reveal", status=answer.status, code=document.get("code"))
        raise http.unavailable("the password cannot be shown for now; the link stays good")

    def verify(self, username: str, password: str, address: str, caller: str) -> None:
        """Return when this is the user's valid password; raise the Problem 401, 429, or 503 as above."""
        question = {"username": username, "password": password, "address": address, "caller": caller}
        answer = self._ask(VERIFICATIONS, question)
        if answer.status == 204:
            return
        document = _document(answer)
        if answer.status in (401, 429) and document.get("code") in ("wrong-password", "too-many-attempts"):
            headers = {name: answer.headers[name] for name in HANDED_ON if name in answer.headers}
            raise Problem(answer.status, document["code"], document["detail"], headers=headers)
        log.error("generador did not verify", status=answer.status, code=document.get("code"))
        raise http.unavailable("passwords cannot be verified for now")

    def _ask(self, route: str, question: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        badge = service_token(self._key, "bff", f"generador POST {route}")
        headers = {"Authorization": f"Bearer {badge}", "Accept": "application/json"}
        try:
            return self._pool.request("POST", f"{self._url}{route}", json=question, headers=headers, redirect=False)
        except urllib3.exceptions.ReadTimeoutError as late:
            log.warning("generador did not answer in time", error=str(late))
            raise http.unavailable("the vault did not answer in time; try again") from None
        except urllib3.exceptions.HTTPError as down:
            log.warning("generador is down", error=str(down))
            raise http.unavailable("the vault cannot be asked for now; a link stays good") from None


def _document(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
