"""Enumerate the points at which a process may die while one saga runs, kill it there, and look at what is left."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from tests.faults.stories import Story
from tests.patience import PATIENCE_S
from tests.system.harness import System, eventually, paused

UNNAMED = ("clearing",)
"""Points whose passes show no message: any pass counts."""
PROVOKED = {"sweeping": "publishing action=drop"}
"""Points that only trouble leads to: what must happen first in the same service."""


@dataclass(frozen=True)
class Point:
    """Name the n-th pass of a saga of this kind through a seam."""

    kind: str
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


def enumerate_points(system: System, story: Story) -> list[Point]:
    """Let one saga of each kind run undisturbed, and return every pass of every seam."""
    return [point for kind in story.ends for point in _passes(system, story, kind)]


def _passes(system: System, story: Story, kind: str) -> Iterator[Point]:
    subject, seams = story.subject(system, kind), system.of.seams
    with ExitStack() as stack:
        counts = {seam: stack.enter_context(system.counting(_counting(seam, subject))) for seam in seams}
        story.run(system, kind, subject)
        settle(system)
        passes = {seam: count().fired for seam, count in counts.items()}
    for seam in seams:
        service, _, place = seam.partition(".")
        number = min(1, passes[f"{service}.publishing"]) if place in PROVOKED else passes[seam]
        for nth in range(1, (min(1, number) if place in UNNAMED else number) + 1):
            yield Point(kind, seam, nth)


def _counting(seam: str, subject: str) -> str:
    match = "" if seam.partition(".")[2] in UNNAMED else f" match=subject={subject}"
    return f"{seam} action=sleep=0{match} times=forever"


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


def kill_at(system: System, story: Story, point: Point) -> Verdict:
    """Run one saga and kill at one point."""
    subject = story.subject(system, point.kind)
    with ExitStack() as stack:
        fired = [stack.enter_context(system.counting(rule)) for rule in point.rules(subject)]
        status = story.run(system, point.kind, subject)
        if not _happens(lambda: all(count().fired for count in fired)):
            return Verdict((point,), reached=False)
    return Verdict((point,), reached=True, wrong=_wrong(system, story, point, subject, status))


def kill_twice(system: System, story: Story, first: Point, second: Point) -> Verdict:
    """Kill at one point, and again at another of the same service while it recovers from that."""
    subject, pair = story.subject(system, first.kind), (first, second)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        once = [stack.enter_context(system.counting(rule)) for rule in first.rules(subject)]
        with paused([system.process.pid]):  # the supervisor: nobody comes back before the second rule is there
            asking = pool.submit(story.run, system, first.kind, subject)
            died = _happens(lambda: all(count().fired for count in once) or asking.done())
            again = [stack.enter_context(system.counting(rule)) for rule in second.rules(subject)]
        status = asking.result(PATIENCE_S * 2)
        reached = died and all(count().fired for count in [*once, *again])
    return Verdict(pair, reached, _wrong(system, story, first, subject, status))


def _happens(look: Callable[[], bool]) -> bool:
    """Tell whether it comes true before one may stop waiting for it."""
    try:
        return eventually(look, 15)
    except AssertionError:
        return False


def _wrong(system: System, story: Story, point: Point, subject: str, status: str) -> str:
    if status != story.ends[point.kind]:
        return f"it ended {status}"
    return story.wrong(system, point.kind, subject) or defects(system)


def draw_pairs(points: Sequence[Point], seed: int) -> Iterator[tuple[Point, Point]]:
    """Yield pairs of points of one service and kind, for ever, the same for the same seed."""
    chance = random.Random(seed)
    while True:
        first = chance.choice([point for point in points if point.place not in UNNAMED])
        others = [p for p in points if (p.service, p.kind, p.nth) == (first.service, first.kind, 1) and p != first]
        yield first, chance.choice(others)
