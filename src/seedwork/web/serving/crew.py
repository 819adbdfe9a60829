"""Run work in threads that are made on demand, by rank: what goes before always finds a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

Work = Callable[[], object]
LEAVE_S = 10
"""Seconds after which a thread without work ends."""

_here = threading.local()


@contextmanager
def resting() -> Iterator[None]:
    """Give this thread's place at work to another while it waits for something to happen; elsewhere do nothing."""
    crew, rank = getattr(_here, "place", (None, 0))
    if crew is None:
        yield
        return
    crew._leave(rank)
    try:
        yield
    finally:
        crew._return(rank)


class Client:
    """The one who waits at the other end of a connection. Told by the server's loop, asked by the thread at work."""

    def __init__(self) -> None:
        self.has_left = False
        self._waking = threading.Event()

    def leave(self) -> None:
        """Wake whoever waits for this client's sake: nobody reads the answer any more."""
        self.has_left = True
        self._waking.set()

    def wakes(self, event: threading.Event) -> None:
        """Have `event` set when the client leaves; it takes the place of the one before."""
        self._waking = event
        if self.has_left:  # it may have left before `leave` could see the event
            event.set()


@dataclass(frozen=True)
class Asker:
    """Who waits: the name whose share that takes, and the client for whose sake it is."""

    name: str
    client: Client = field(default_factory=Client)


class Crew:
    """Hold the threads. Of rank r a piece of work begins while less than `limits[r]` are at work; it must not raise."""

    def __init__(self, limits: Sequence[int]) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._waiting: tuple[deque[Work], ...] = tuple(deque() for _ in limits)
        self._working = [0 for _ in limits]
        self._all_working = 0
        self._ready: SimpleQueue[tuple[int, Work]] = SimpleQueue()
        self._idle = 0

    def do(self, rank: int, work: Work) -> None:
        """Have it done as soon as its rank's turn comes; never waits."""
        with self._lock:
            self._waiting[rank].append(work)
            self._hand_out()

    def in_flight(self, rank: int) -> int:
        """Count what waits or is at work; who rests is not counted."""
        return len(self._waiting[rank]) + self._working[rank]

    def _leave(self, rank: int) -> None:
        with self._lock:
            self._count(rank, -1)
            self._hand_out()

    def _return(self, rank: int) -> None:
        with self._lock:
            self._count(rank, 1)

    def _count(self, rank: int, more: int) -> None:
        self._working[rank] += more
        self._all_working += more

    def _hand_out(self) -> None:
        for rank, queue in enumerate(self._waiting):
            while queue and self._all_working < self._limits[rank]:
                self._count(rank, 1)
                self._ready.put((rank, queue.popleft()))
                self._find_a_thread()

    def _find_a_thread(self) -> None:
        if self._idle:
            self._idle -= 1
        else:
            threading.Thread(target=self._run, name="http-work", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                rank, work = self._ready.get(timeout=LEAVE_S)
            except Empty:
                if self._may_end():
                    return
                continue
            _here.place = (self, rank)
            work()
            self._ended(rank)

    def _may_end(self) -> bool:
        with self._lock:
            if not self._idle:  # this thread was counted on just now
                return False
            self._idle -= 1
            return True

    def _ended(self, rank: int) -> None:
        with self._lock:
            self._count(rank, -1)
            self._idle += 1
            self._hand_out()
