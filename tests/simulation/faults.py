"""Say how a process dies, waits or stalls in a simulation, and put simulated time and chance in place of the real."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any, Literal

import structlog

import correo.handlers
import pulsaga.delivery.loop
import pulsaga.delivery.messages
import pulsaga.delivery.outbox

Kind = Literal["die", "stall", "refuse", "unheard", "cut", "ack-lost", "hang-up"]

SEAMS: dict[Kind, tuple[str, ...]] = {
    "die": ("commit", "committed", "ack", "acked", "publish", "published", "mail", "mail taken"),
    "stall": ("ack", "acked", "publish", "published", "mail", "mail taken"),
    "refuse": ("commit",),
    "unheard": ("committed",),
}
"""Where a fault may strike; the others strike wherever the broker or the mail server asks."""


class Death(BaseException):
    """Say that the process which ran is no more."""


class Broken(AssertionError):
    """Say which promise was broken, after which steps."""


@dataclass
class Plan:
    """One fault of one step: it strikes when its seam is passed for the so-manieth time."""

    kind: Kind
    seam: str
    passes: int

    def strikes_at(self, name: str) -> bool:
        """Count one pass; tell whether the fault strikes now."""
        self.passes -= name == self.seam
        return name == self.seam and self.passes == 0


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put a value in the place of another for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def simulated(clock: Callable[[], float], chance: Random, waited: Callable[[Exception], bool]) -> Iterator[None]:
    """Have ids made of simulated time and seeded chance, pauses reported instead of waited out, logs unsaid."""

    class Pause:
        def __init__(self, _stopping: Any) -> None: ...

        def wait(self, down: Exception) -> bool:
            return waited(down)

    time = SimpleNamespace(time_ns=lambda: int(clock() * 1e9), time=clock, monotonic=clock, perf_counter=clock)
    with ExitStack() as stack:
        stack.enter_context(_silence())
        for owner, name, value in (
            (pulsaga.delivery.messages, "time", time),
            (pulsaga.delivery.messages, "random", chance),
            (correo.handlers, "time", time),
            (pulsaga.delivery.outbox, "time", time),
            (pulsaga.delivery.loop, "Pause", Pause),
            (pulsaga.saga.silence, "time", time),
        ):
            stack.enter_context(replaced(owner, name, value))
        yield


@contextmanager
def _silence() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
