"""Enumerate the points at which a process may die while one saga runs, kill it there, and look at what is left."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import urllib3
from tests.patience import PATIENCE_S
from tests.system.harness import ENDED, System, eventually, paused

from system import SYSTEM

Kind = Literal["happy", "compensated"]
KINDS: tuple[Kind, ...] = ("happy", "compensated")
ENDS: dict[Kind, str] = {"happy": "completed", "compensated": "refused"}
UNNAMED = ("clearing",)
"""Points whose passes show no message: any pass counts."""
PROVOKED = {"sweeping": "publishing action=drop"}
"""Points that only trouble leads to: what must happen first in the same service."""


@dataclass(frozen=True)
class Point:
    """Name the n-th pass of a saga of this kind through a seam."""

    kind: Kind
    seam: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.kind} {self.seam} #{self.nth}"

    @property
    def service(self) -> str:
        """Whose process dies."""
        return self.seam.partition(".")[0]

    @property
    def place(self) -> str:
        """Where in its life."""
        return self.seam.partition(".")[2]

    def rules(self, subject: str) -> Iterator[str]:
        """Yield the rules that lead there and kill."""
        match = f"match=subject={subject}"
        if self.place in PROVOKED:
            yield f"{self.service}.{PROVOKED[self.place]} {match}"
        yield f"{self.seam} action=crash nth={self.nth} {'' if self.place in UNNAMED else match}".strip()


@dataclass(frozen=True)
class Verdict:
    """Tell what became of a saga whose process was killed: nothing wrong, or what."""

    points: tuple[Point, ...]
    reached: bool
    wrong: str = ""


def enumerate_points(system: System) -> list[Point]:
    """Let one saga of each kind run undisturbed, and return every pass of every seam."""
    return [point for kind in KINDS for point in _passes(system, kind)]


def _passes(system: System, kind: Kind) -> Iterator[Point]:
    subject = new_name()
    with ExitStack() as stack:
        counts = {seam: stack.enter_context(system.counting(_counting(seam, subject))) for seam in SYSTEM.seams}
        run_saga(system, kind, subject)
        settle(system)
        passes = {seam: count().fired for seam, count in counts.items()}
    for seam in SYSTEM.seams:
        service, _, place = seam.partition(".")
        number = min(1, passes[f"{service}.publishing"]) if place in PROVOKED else passes[seam]
        for nth in range(1, (min(1, number) if place in UNNAMED else number) + 1):
            yield Point(kind, seam, nth)


def _counting(seam: str, subject: str) -> str:
    match = "" if seam.partition(".")[2] in UNNAMED else f" match=subject={subject}"
    return f"{seam} action=sleep=0{match} times=forever"


def new_name() -> str:
    """Return a username that no other saga has."""
    return f"u{uuid4().hex[:12]}"


def run_saga(system: System, kind: Kind, subject: str) -> str:
    """Ask until somebody answers, under one idempotency key; return how the command ended."""
    domain = "example.test" if kind == "happy" else system.mailbox.refused
    wish, key = {"username": subject, "email": f"{subject}@{domain}"}, uuid4().hex

    def accepted() -> str | None:
        try:
            answer = system.post("/passwords", wish, Idempotency_Key=key)
        except urllib3.exceptions.HTTPError:
            return None
        return answer.json["id"] if answer.status == 202 else None

    def ended() -> Any:
        try:
            shown = system.command(identifier)
        except urllib3.exceptions.HTTPError:
            return None
        return shown["status"] if shown["status"] in ENDED else None

    identifier = system.eventually(accepted, PATIENCE_S)
    return str(system.eventually(ended, PATIENCE_S))


def settle(system: System) -> None:
    """Wait until nothing is left to be said, and nothing to be tried again."""
    system.eventually(system.is_at_rest, PATIENCE_S)


def defects(system: System) -> str:
    """Return what `protools verify` finds once everything is quiet; nothing when all is well."""

    def clean() -> bool:
        return system.run("verify").returncode == 0

    try:
        settle(system)
        system.eventually(clean, 15)
    except AssertionError:
        return json.dumps(json.loads(system.run("verify", "--json").stdout))[:2000]
    return ""


def kill_at(system: System, point: Point) -> Verdict:
    """Run one saga and kill at one point."""
    subject = new_name()
    with ExitStack() as stack:
        fired = [stack.enter_context(system.counting(rule)) for rule in point.rules(subject)]
        status = run_saga(system, point.kind, subject)
        if not _happens(lambda: all(count().fired for count in fired)):
            return Verdict((point,), reached=False)
    return Verdict((point,), reached=True, wrong=_wrong(system, point.kind, subject, status))


def kill_twice(system: System, first: Point, second: Point) -> Verdict:
    """Kill at one point, and again at another of the same service while it recovers from that."""
    subject, pair = new_name(), (first, second)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        once = [stack.enter_context(system.counting(rule)) for rule in first.rules(subject)]
        with paused([system.process.pid]):  # the supervisor: nobody comes back before the second rule is there
            asking = pool.submit(run_saga, system, first.kind, subject)
            died = _happens(lambda: all(count().fired for count in once) or asking.done())
            again = [stack.enter_context(system.counting(rule)) for rule in second.rules(subject)]
        status = asking.result(PATIENCE_S * 2)
        reached = died and all(count().fired for count in [*once, *again])
    return Verdict(pair, reached, _wrong(system, first.kind, subject, status))


def _happens(look: Callable[[], bool]) -> bool:
    """Tell whether it comes true before one may stop waiting for it."""
    try:
        return eventually(look, 15)
    except AssertionError:
        return False


def _wrong(system: System, kind: Kind, subject: str, status: str) -> str:
    if status != ENDS[kind]:
        return f"it ended {status}"
    mails = {mail.raw for mail in system.mailbox.mails() if subject.encode() in mail.raw}
    if len(mails) != (kind == "happy"):
        return f"{len(mails)} distinct mails"
    return defects(system)


def draw_pairs(points: Sequence[Point], seed: int) -> Iterator[tuple[Point, Point]]:
    """Yield pairs of points of one service and kind, for ever, the same for the same seed."""
    chance = random.Random(seed)
    while True:
        first = chance.choice([point for point in points if point.place not in UNNAMED])
        others = [p for p in points if (p.service, p.kind, p.nth) == (first.service, first.kind, 1) and p != first]
        yield first, chance.choice(others)
