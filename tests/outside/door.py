"""Ask the front door over real HTTP, and tell in a word what it answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import orjson
import urllib3
from lxml import etree
from tests.patience import PATIENCE_S

Outcomes = Mapping[str, str]
"""By the name of each case, the status and the code of the problem that were answered."""
Tally = Callable[[str, Outcomes], None]
PROBLEM = "{urn:ietf:rfc:7807}"


class Door:
    """Hold one connection to a front door, and the token that opens it."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url, self.token = url, token
        self._pool = urllib3.PoolManager(retries=False, timeout=PATIENCE_S)

    def post(self, body: bytes, media_type: str, path: str = "/passwords") -> str:
        """Post a body; return the outcome."""
        return outcome(self.ask("POST", path, body, {"Content-Type": media_type}))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Ask for a path as it stands, without any normalization."""
        known = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self._pool.request(method, self.url + path, body=body, headers={**known, **(headers or {})})

    def close(self) -> None:
        """Let go of the connection."""
        self._pool.clear()


def outcome(answer: urllib3.BaseHTTPResponse) -> str:
    """Say `202`, or `400 unreadable`; fail if what should be a problem is none, or cannot be read."""
    if answer.status < 400:
        return str(answer.status)
    if answer.headers["Content-Type"] == "application/problem+json":
        return f"{answer.status} {orjson.loads(answer.data)['code']}"
    assert answer.headers["Content-Type"] == "application/problem+xml; charset=utf-8"
    return f"{answer.status} {etree.fromstring(answer.data).findtext(f'{PROBLEM}code')}"


def expect(outcomes: Outcomes, *allowed: str) -> None:
    """Fail unless every case had one of these outcomes, and name some that had not."""
    wrong = [f"{name}: {said}" for name, said in outcomes.items() if said not in allowed]
    assert not wrong, f"{len(wrong)} of {len(outcomes)}, such as {wrong[:20]}"


def row(suite: str, outcomes: Outcomes) -> str:
    """Write a row of the table of counts."""
    counted = sorted(Counter(outcomes.values()).items())
    return f"| {suite} | {len(outcomes)} | {', '.join(f'{count} × `{said}`' for said, count in counted)} |"
