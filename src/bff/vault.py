"""Ask generador to reveal or to verify a password; over HTTP, because a secret must not cross the broker."""

from __future__ import annotations

import time
from typing import Any

from pulsaga import Runtime
from pulsaga.web import Peer

ANSWER_S = 8.0
"""Seconds after which generador must not reveal any more: nobody would be there to see the password. It leaves room
for clocks that differ and for the commit."""
REVEALS, VERIFICATIONS = "/internal/reveals", "/internal/verifications"
NOT_SHOWN = "the password cannot be shown for now; the link stays good"
NOT_VERIFIED = "passwords cannot be verified for now"


class Vault:
    """What the front door asks of generador."""

    def __init__(self, runtime: Runtime) -> None:
        self._peer = Peer(runtime, "generador")

    def reveal(self, token: str) -> dict[str, Any]:
        """Return username and password; raise the Problem 404, 410, or 503 when generador cannot be asked."""
        answer = self._peer.ask(REVEALS, {"token": token, "answer_by": time.time() + ANSWER_S}, NOT_SHOWN)
        document = answer.document
        if answer.status == 200 and document.keys() >= {"username", "password"}:
            return {"username": document["username"], "password": document["password"]}
        if answer.status in (404, 410) and document.keys() >= {"code", "detail"}:
            raise answer.problem()
        raise self._peer.unexpected(answer, NOT_SHOWN)

    def verify(self, username: str, password: str, address: str, caller: str) -> None:
        """Return when this is the user's valid password; raise the Problem 401, 429, or 503 as above."""
        question = {"username": username, "password": password, "address": address, "caller": caller}
        answer = self._peer.ask(VERIFICATIONS, question, NOT_VERIFIED)
        if answer.status == 200 and "issuedBy" in answer.document:
            return
        if answer.status in (401, 429) and answer.document.get("code") in ("wrong-password", "too-many-attempts"):
            raise answer.problem()
        raise self._peer.unexpected(answer, NOT_VERIFIED)
