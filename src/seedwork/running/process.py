"""Run the loops of one process side by side until it is told to stop, or until one of them breaks."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from pulsaga.telemetry.logs import announce

log = structlog.get_logger()
LEAVE_WITHIN_S = 4.0
"""Seconds that the batches in hand have to finish after SIGTERM."""


@dataclass(frozen=True)
class Loop:
    """Name a loop: `run` blocks until `stop` was called."""

    name: str
    run: Callable[[], object]
    stop: Callable[[], object]


class Process:
    """The loops of this process."""

    def __init__(self, *, alone: bool = False) -> None:
        self.alone = alone
        """Whether it was started by itself, not as a part of a system that runs on this machine."""
        self.needs: dict[str, Callable[[], bool]] = {}
        """What it needs for its work, by name: whether that answers now."""
        self.registries: list[CollectorRegistry] = []
        """Of metrics, beside the framework's."""
        self.engines: dict[str, Engine] = {}
        """Of databases beside the write database, by side."""
        self._loops: list[Loop] = []
        self._threads: list[threading.Thread] = []
        self._end = threading.Event()
        self._broken = False

    def add(self, name: str, run: Callable[[], object], stop: Callable[[], object]) -> None:
        """Add a loop; loops are stopped in the order in which they were added."""
        self._loops.append(Loop(name, run, stop))

    def begin(self) -> None:
        """Start the loops that were added so far; `run` starts the others."""
        for loop in self._loops[len(self._threads) :]:
            thread = threading.Thread(target=self._guard, args=(loop,), name=loop.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Ask the process to end."""
        self._end.set()

    def run(self, *, signals: bool = True) -> bool:
        """Run every loop in a thread until SIGTERM, SIGINT or `end`; return False when a loop broke."""
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.end())
        self.begin()
        announce("ready")
        self._end.wait()
        self.leave()
        return not self._broken

    def _guard(self, loop: Loop) -> None:
        try:
            loop.run()
        except BaseException:
            log.exception("loop broke", loop=loop.name)
            self._broken = True
            self.end()

    def leave(self) -> None:
        """Stop the loops that were begun, and wait for them as long as a process may take to leave."""
        deadline = time.monotonic() + LEAVE_WITHIN_S
        for loop in self._loops:
            loop.stop()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("left without waiting", loop=thread.name)


def collect_seldom() -> None:
    """Leave what is loaded out of garbage collection, and look for cycles in the rest a hundredth as often."""
    gc.freeze()
    gc.set_threshold(100 * gc.get_threshold()[0], *gc.get_threshold()[1:])


def repeat(work: Callable[[], object]) -> Loop:
    """Make a loop of a piece of work that blocks for at most a second or so."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            work()

    return Loop(getattr(work, "__name__", "loop"), run, stopping.set)
