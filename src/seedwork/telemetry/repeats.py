"""Pass on what others say over and over only now and then, with a count.

What is said from one place is passed on at once the first time, then the newest of it once in TOLD_EVERY_S.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from time import monotonic

TOLD_EVERY_S = 60.0
"""Seconds in which one place is heard once; what is said there meanwhile is counted."""
LOOK_S = 1.0
MOST_PLACES = 1000
"""Places that are told apart at the same time; what others say is counted together."""
ELSEWHERE = "elsewhere"

Tell = Callable[[int], object]
"""Pass on what was said; it is given how often that was."""


@dataclass
class _Rest:
    until: float
    times: int = 0
    tell: Tell | None = None


class Repeats:
    """What was said lately, by the place that it came from. Thread-safe; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._resting: dict[str, _Rest] = {}
        self._changing = threading.Lock()

    @property
    def is_counting(self) -> bool:
        """Whether there is something to settle."""
        return bool(self._resting)

    def hear(self, place: str, tell: Tell, now: float) -> None:
        """Pass on what is said, or count it."""
        with self._changing:
            if place not in self._resting and len(self._resting) >= MOST_PLACES:
                place = ELSEWHERE
            if rest := self._resting.get(place):
                rest.times, rest.tell = rest.times + 1, tell
                return
            self._resting[place] = _Rest(now + TOLD_EVERY_S)
        _pass_on(tell, 1)

    def settle(self, now: float) -> None:
        """Pass on what was counted for long enough; a place that was silent meanwhile is heard at once again."""
        for tell, times in self._counted(now):
            _pass_on(tell, times)

    def _counted(self, now: float) -> list[tuple[Tell, int]]:
        counted = []
        with self._changing:
            for place, rest in [(place, rest) for place, rest in self._resting.items() if rest.until <= now]:
                if rest.tell:
                    counted.append((rest.tell, rest.times))
                    self._resting[place] = _Rest(now + TOLD_EVERY_S)
                else:
                    del self._resting[place]
        return counted


def _pass_on(tell: Tell, times: int) -> None:
    with suppress(Exception):  # whatever it is, it is about this line alone
        tell(times)


def hear(place: str, tell: Tell) -> None:
    """Pass on what is said, or count it, together with all that is said in this process."""
    heard, wanted = _of_this_process()
    heard.hear(place, tell, monotonic())
    wanted.set()


@cache
def _of_this_process() -> tuple[Repeats, threading.Event]:
    heard, wanted = Repeats(), threading.Event()
    threading.Thread(target=_settle, args=(heard, wanted), name="log-repeats", daemon=True).start()
    return heard, wanted


def _settle(heard: Repeats, wanted: threading.Event) -> None:
    pause = threading.Event()
    while wanted.wait():
        wanted.clear()
        while heard.is_counting:
            pause.wait(LOOK_S)
            heard.settle(monotonic())
