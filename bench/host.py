"""Keep a contestant in a process of its own, so that it can be stopped together with its client between two turns."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.contest import Contestant, Run

Make = Callable[[Path], Contestant]
PATIENCE_S = 240.0
STOP_S = 40.0
SAMPLE_S = 0.5


class ContestantFailed(RuntimeError):
    """Say what went wrong in a contestant's process."""


class Host:
    """Talk to a contestant that lives in another process."""

    def __init__(self, make: Make, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, make, folder))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Process in which the contestant lives."""
        return self._process.pid or 0

    def call(self, method: str, *arguments: Any, patience_s: float = PATIENCE_S) -> Any:
        """Call a method of the contestant; raise ContestantFailed with its traceback."""
        self._pipe.send((method, arguments))
        try:
            if not self._pipe.poll(patience_s):
                raise ContestantFailed(f"{method}: no answer within {patience_s:.0f} s")
            good, result = self._pipe.recv()
        except EOFError:
            raise ContestantFailed(f"{method}: its process died") from None
        if not good:
            raise ContestantFailed(f"{method}: {result}")
        return result

    def stop(self) -> None:
        """Have the contestant end everything and end its process; by force when it does not."""
        with suppress(ContestantFailed, OSError):
            self.call("stop", patience_s=STOP_S)
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


def serve(pipe: Connection, make: Make, folder: Path) -> None:
    """Call what is asked for until the other end is closed; leave nothing behind."""
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends when the contest does, which still has to stop it
        signal.signal(number, signal.SIG_IGN)
    os.chdir(Path(__file__).parent.parent)
    contestant = make(folder)
    stopped = False
    with suppress(EOFError, OSError):
        while not stopped:
            method, arguments = pipe.recv()
            stopped = method == "stop"
            pipe.send(_outcome(contestant, method, arguments))
    if not stopped:
        contestant.stop()
    os._exit(0)


def _outcome(contestant: Contestant, method: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        if method == "describe":
            return True, _described(contestant)
        if method == "sustained":
            return True, _watched(contestant, *arguments)
        return True, getattr(contestant, method)(*arguments)
    except Exception:
        return False, traceback.format_exc()


def _described(contestant: Contestant) -> tuple[str, dict[str, str], dict[str, str], dict[str, int]]:
    return contestant.name, dict(contestant.versions()), dict(contestant.settings), dict(contestant.pids())


def _watched(contestant: Contestant, sagas: int, in_flight: int) -> tuple[Run, list[tuple[float, int]]]:
    """Run, and note the depth of the outbox over time."""
    depths: list[tuple[float, int]] = []
    ended = threading.Event()
    sampling = threading.Thread(target=_sample, args=(contestant, depths, ended))
    sampling.start()
    try:
        return contestant.sustained(sagas, in_flight), depths
    finally:
        ended.set()
        sampling.join()


def _sample(contestant: Contestant, depths: list[tuple[float, int]], ended: threading.Event) -> None:
    began = time.monotonic()
    while not ended.wait(SAMPLE_S) and (depth := contestant.depth()) is not None:
        depths.append((round(time.monotonic() - began, 2), depth))
