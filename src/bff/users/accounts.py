"""Ask usuarios to sign people up and to log them in; over HTTP, because a password must not cross the broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bff.users.queries import user_resource
from pulsaga import Runtime
from pulsaga.web import Answered, Peer

DOWN = "nobody can sign up or log in for now; try again"
REFUSALS = (401, 403, 404, 409, 410, 429)


class Accounts:
    """What the front door asks of usuarios."""

    def __init__(self, runtime: Runtime) -> None:
        self._peer = Peer(runtime, "usuarios")

    def session(self, route: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the session of a user who signs up, logs in or chooses another password, as callers see it.

        Raise the Problem of a refusal, or 503 when usuarios cannot be asked.
        """
        document = self._asked(route, question).document
        user = {**document["user"], "user_id": document["user"]["id"]}
        return {"status": "success", "token": document["token"], "data": {"user": user_resource(user)}}

    def forget(self, email: str) -> None:
        """Have a link sent to a user of this address, if there is one; raise the Problem 503."""
        self._asked("/internal/forgotten-passwords", {"email": email})

    def mark(self, user_id: str, mark: str, value: bool, actor: str) -> dict[str, Any]:
        """Return a user who was given a mark, or lost it, as callers see one; raise the Problem 404 or 503."""
        question = {"user_id": user_id, "mark": mark, "value": "yes" if value else "no", "actor": actor}
        document = self._asked("/internal/marks", question).document
        return user_resource({**document, "user_id": document["id"]})

    def _asked(self, route: str, question: Mapping[str, Any]) -> Answered:
        answer = self._peer.ask(route, question, DOWN)
        known = answer.document.keys()
        if answer.status == 204 or (answer.status == 200 and known & {"user", "id"}):
            return answer
        if answer.status in REFUSALS and known >= {"code", "detail"} and answer.document["code"] != "unauthorized":
            raise answer.problem()
        raise self._peer.unexpected(answer, DOWN)
