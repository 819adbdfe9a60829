"""Tell what Pulsar's client says as log lines of ours, and what it repeats only now and then, with a count.

The client writes through a pipe, not to a Python logger: such a one takes the GIL on the client's own threads, and
while a call of ours holds it and waits for one of them, neither goes on (apache/pulsar-client-python#116).
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from time import monotonic

import structlog

from pulsaga.text import DETAIL_CHARACTERS, printable

log = structlog.get_logger()
TOLD_EVERY_S = 60.0
"""Seconds in which one place of the client's source is heard once; what it says meanwhile is counted."""
LOOK_MS = 1000
PIPE_BYTES = 1024 * 1024
"""The client's threads wait when it is full, so it holds thousands of lines."""
LINE = re.compile(r"\S+ \S+ (?:ERROR|FATAL|WARN) +\[\w+\] (?P<place>[\w.]{1,60}:\d{1,6}) \| (?P<said>.*)")
ELSEWHERE = "client"


@cache
def log_file() -> str:
    """Return the file that a client is to log to; it keeps the first one for the whole process, and so does this."""
    read, write = os.pipe()
    with suppress(AttributeError, OSError):  # elsewhere than on Linux a pipe has the size that it has
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    threading.Thread(target=_listen, args=(read,), name="pulsar-log", daemon=True).start()
    return f"/dev/fd/{write}"


def _listen(pipe: int) -> None:
    said, rest, written = Sayings(_tell), b"", select.poll()
    written.register(pipe, select.POLLIN)
    while True:
        if written.poll(LOOK_MS if said.is_counting else None):
            *lines, rest = (rest + os.read(pipe, PIPE_BYTES)).split(b"\n")
            for line in lines:
                said.hear(line.decode(errors="replace"), monotonic())
        said.settle(monotonic())


def _tell(place: str, text: str, times: int) -> None:
    repeated = {"times": times} if times > 1 else {}
    with suppress(Exception):  # whatever it is: a pipe that nobody reads would stop the client
        log.warning("pulsar client", said=printable(text, DETAIL_CHARACTERS), at=place, **repeated)


@dataclass
class _Rest:
    until: float
    times: int = 0
    text: str = ""


class Sayings:
    """Pass on the first line of each place at once, and the newest of those after it once in TOLD_EVERY_S."""

    def __init__(self, tell: Callable[[str, str, int], None]) -> None:
        self._tell = tell
        self._resting: dict[str, _Rest] = {}

    @property
    def is_counting(self) -> bool:
        """Whether there is something to settle."""
        return bool(self._resting)

    def hear(self, line: str, now: float) -> None:
        """Take one line; `now` is in seconds of any clock that does not go back."""
        found = LINE.fullmatch(line)
        place, text = (found["place"], found["said"]) if found else (ELSEWHERE, line)
        if rest := self._resting.get(place):
            rest.times, rest.text = rest.times + 1, text
        else:
            self._resting[place] = _Rest(now + TOLD_EVERY_S)
            self._tell(place, text, 1)

    def settle(self, now: float) -> None:
        """Pass on what was counted for long enough; a place that was silent meanwhile is heard at once again."""
        for place, rest in list(self._resting.items()):
            if rest.until > now:
                continue
            if rest.times:
                self._resting[place] = _Rest(now + TOLD_EVERY_S)
                self._tell(place, rest.text, rest.times)
            else:
                del self._resting[place]
