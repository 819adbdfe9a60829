"""Stand in for a broker within one test process: the port, kept in memory."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from pulsaga.broker import Delivery, Subscription, Wire, check_size, publish_error
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.messages import SCHEMA_PREFIX
from pulsaga.errors import Unavailable


class FakeBroker:
    """Keep what is published; `is_up` can be turned off and on; `silences` counts the times nothing was heard.

    Topics in `closed` take no messages, and `asked` counts how often each was asked to.
    """

    def __init__(self) -> None:
        self.published: list[Wire] = []
        self._schemas = CommittedSchemas()
        self.is_up = True
        self.closed: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.listening = threading.Event()
        self.silences = 0
        self._listeners: dict[str, list[_Listener]] = {}
        self._lock = threading.Lock()

    def publish(self, wires: Sequence[Wire]) -> None:
        self._require()
        for wire in wires:
            check_size(wire)
        topics = {wire.topic for wire in wires}
        self.asked.update(topics)
        self.published += [wire for wire in wires if wire.topic not in self.closed]
        if refused := topics & self.closed:
            raise publish_error({topic: Unavailable(f"{topic} is full") for topic in refused}, topics)

    def broadcast(self, topic: str, body: bytes) -> None:
        self._require()
        with self._lock:
            for listener in self._listeners.get(topic, []):
                listener.heard.put(Delivery(Wire(topic, "", {}, body), "", None))

    def listen(self, topic: str) -> Subscription:
        self._require()
        listener = _Listener(self)
        with self._lock:
            self._listeners.setdefault(topic, []).append(listener)
        self.listening.set()
        return listener

    def subscribe(self, name: str, topics: Sequence[str]) -> Subscription:
        raise NotImplementedError

    def browse(self, topics: Sequence[str], *, earliest: bool) -> Subscription:
        raise NotImplementedError

    def schema(self, topic: str, version: str) -> str:
        return self._schemas[f"{SCHEMA_PREFIX}{topic}:{version}"]

    def is_connected(self) -> bool:
        return self.is_up

    def close(self) -> None:
        self.is_up = False

    def _require(self) -> None:
        if not self.is_up:
            raise Unavailable("the fake broker is down")

    def _forget(self, listener: _Listener) -> None:
        with self._lock:
            for listeners in self._listeners.values():
                if listener in listeners:
                    listeners.remove(listener)


class _Listener:
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.heard: queue.Queue[Delivery] = queue.Queue()

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        if not self._broker.is_up:
            raise Unavailable("the fake broker is down")
        try:
            return [self.heard.get(timeout=min(timeout_s, 0.05))]
        except queue.Empty:
            self._broker.silences += 1
            return []

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Do nothing: a broadcast is not stored."""

    def close(self) -> None:
        self._broker._forget(self)
