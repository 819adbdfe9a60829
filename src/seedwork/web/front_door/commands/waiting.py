"""Hear which commands changed, as the projector tells it, and wake who waits for one; nobody polls.

A waiter registers, reads once, waits, and reads again when woken, when the broker is back, and before it gives up.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from pulsaga.broker import Broker, Subscription
from pulsaga.errors import Unavailable
from pulsaga.web.serving.crew import Asker, resting

log = structlog.get_logger()
T = TypeVar("T")

ROOM = 200
"""Waiters of one process; each holds a thread that rests, which costs some memory and nobody's place at work."""
SHARE = 50
"""Waiters that one caller may have of these."""
RECEIVE_S = 1.0
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0


ENDED = "."
"""Stands behind the id of a command that ended."""


def topic_of(service: str) -> str:
    """Return the ephemeral topic on which the projector of a front door broadcasts."""
    return f"{service}.commands-changed"


def changed_ids_body(ids: Iterable[str], ended: Collection[str] = ()) -> bytes:
    """Write command ids as the body of one broadcast, and which of them ended."""
    return "\n".join(identifier + ENDED * (identifier in ended) for identifier in ids).encode()


class Waiting:
    """Hold the waiters of one web process and the thread that wakes them; `tell_ended` hears which commands ended."""

    def __init__(
        self, broker: Broker, topic: str, tell_ended: Callable[[Collection[str]], None] = lambda _ended: None
    ) -> None:
        self._broker, self._topic, self._tell_ended = broker, topic, tell_ended
        self._waiters: dict[str, set[threading.Event]] = defaultdict(set)
        self._taken: Counter[str] = Counter()
        """By the name of who asked, how many of these."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="waiting", daemon=True)

    def start(self) -> None:
        """Begin to listen, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Let go of every waiter and end the thread."""
        self.release()
        if self._thread.is_alive():
            self._thread.join(LONGEST_DELAY_S + RECEIVE_S)

    def release(self) -> None:
        """Let every waiter answer with what is known now; nobody waits from here on."""
        self._stopping.set()
        self._wake_all()

    def has_room(self) -> bool:
        """Tell whether one more may wait in this process, whoever asks."""
        with self._lock:
            return self._taken.total() < ROOM and not self._stopping.is_set()

    def has_room_for(self, asker: Asker) -> bool:
        """Tell whether this one may wait once more; otherwise it is answered at once."""
        with self._lock:
            return self._has_room_for(asker) and not self._stopping.is_set()

    def _has_room_for(self, asker: Asker) -> bool:
        return self._taken.total() < ROOM and self._taken[asker.name] < SHARE

    def until(self, asker: Asker, identifier: str, look: Callable[[], T | None], timeout_s: float) -> T | None:
        """Return what `look` finds, as soon as it finds something, at the latest after `timeout_s` seconds.

        Whoever has no room, or has left, waits no longer.
        """
        deadline = time.monotonic() + timeout_s
        with self._registered(asker, identifier) as woken:
            while (found := look()) is None:
                left = deadline - time.monotonic()
                if woken is None or left <= 0 or self._is_over(asker):
                    break
                with resting():
                    woken.wait(left)
                woken.clear()
        return found

    def changes(self, asker: Asker, identifier: str, silence_s: float) -> Iterator[bool]:
        """Yield True at once and when a command may have changed, False after so long a silence.

        End at `release`, when the client has left, and at once for whoever has no room.
        """
        with self._registered(asker, identifier) as woken:
            if woken is None:
                return
            yield True
            while not self._is_over(asker):
                with resting():
                    heard = woken.wait(silence_s)
                woken.clear()
                yield heard

    def _is_over(self, asker: Asker) -> bool:
        return self._stopping.is_set() or asker.client.has_left

    @contextmanager
    def _registered(self, asker: Asker, identifier: str) -> Iterator[threading.Event | None]:
        """Take a place for as long as the context lasts; give None where there is none to take."""
        woken = threading.Event()
        with self._lock:
            if has_room := self._has_room_for(asker):
                self._waiters[identifier].add(woken)
                self._taken[asker.name] += 1
        if not has_room:
            yield None
            return
        asker.client.wakes(woken)
        try:
            yield woken
        finally:
            with self._lock:
                self._taken -= Counter([asker.name])  # forgets whoever has none left
                self._waiters[identifier].discard(woken)
                if not self._waiters[identifier]:
                    del self._waiters[identifier]

    def run(self) -> None:
        """Listen until `release`; for a process that brings the thread."""
        delay = FIRST_DELAY_S
        while not self._stopping.is_set():
            try:
                subscription = self._broker.listen(self._topic)
                delay = FIRST_DELAY_S
                self._wake_all()  # what was told while nobody listened is lost
                self._hear(subscription)
            except Exception as down:  # whatever it is: without this thread every waiter would wait in vain
                log.warning("not listening", topic=self._topic, again_in_s=delay, error=str(down))
                self._stopping.wait(delay)
                delay = min(delay * 2, LONGEST_DELAY_S)

    def _hear(self, subscription: Subscription) -> None:
        try:
            while not self._stopping.is_set():
                heard = subscription.receive(500, RECEIVE_S)
                subscription.ack(heard)
                bodies = [delivery.wire.body.decode(errors="replace") for delivery in heard]
                told = {line for body in bodies for line in body.split("\n")}
                self._wake({line.removesuffix(ENDED) for line in told})
                self._tell_ended([line.removesuffix(ENDED) for line in told if line.endswith(ENDED)])
                if not heard and self._waiters and not self._broker.is_connected():
                    raise Unavailable("the broker is gone, broadcasts may be missed")
        finally:
            subscription.close()

    def _wake(self, identifiers: set[str]) -> None:
        with self._lock:
            woken = [event for name in identifiers & self._waiters.keys() for event in self._waiters[name]]
        for event in woken:
            event.set()

    def _wake_all(self) -> None:
        with self._lock:
            waiting = set(self._waiters)
        self._wake(waiting)
