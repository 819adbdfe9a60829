"""Make sagas and tell when they are done: done is when the front door's read database shows the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from sqlalchemy import func, select, text

from bench.contest import Run
from bench.poster import Poster
from bench.rig import Rig
from protools_saga.messages import IssuePassword
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import outbox
from pulsaga.delivery.transaction.rows import among, array
from pulsaga.running.runtime import open_runtime
from pulsaga.web.front_door.acceptance import Request, accept_many
from pulsaga.web.front_door.commands.waiting import ENDED, topic_of
from system import SYSTEM

LOOK = "SELECT id FROM command WHERE {} AND status IN ('completed', 'refused', 'suspended')"
GIVE_UP_S = 180
ACCEPT_BATCH = 100
READ_EVERY_S = 0.03
"""Under load the ids that were heard of are read this often; alone, at once."""
FEW_FIRST = 200
LOOK_S = 1.2
"""Within it the front door's admission has looked once."""
READ_ALL_EVERY_S = 1.0
"""All that is waited for is read this often: a broadcast may be lost, and may tell of a hundred ends."""


class Watch:
    """Tell which commands have ended, as a web process does: hear of their ends by broadcast, then read them by key."""

    def __init__(self, rig: Rig) -> None:
        self._runtime = open_runtime(SYSTEM, rig.settings, "bff")
        self._listener = self._runtime.broker.listen(topic_of("bff"))
        self._read = open_database(rig.settings, "bff", "read", "reader")
        self._look = text(LOOK.format(among("id", "uuid", self._read.dialect.name)))
        self._mentioned: set[str] = set()
        self._all_read_at = self._read_at = time.monotonic()
        self.last_heard: dict[str, float] = {}
        """When the end of each was told; of those that were not, for broadcasts may be lost, when it was seen."""
        self.reads = 0

    def hear(self, wait_s: float = 0.02) -> None:
        """Take in what is told."""
        heard = self._listener.receive(500, wait_s)
        self._listener.ack(heard)
        if heard:
            heard_at = time.monotonic()
            lines = (line for delivery in heard for line in delivery.wire.body.decode().split("\n"))
            ids = {line.removesuffix(ENDED) for line in lines if line.endswith(ENDED)}
            self.last_heard.update(dict.fromkeys(ids, heard_at))
            self._mentioned |= ids

    def ended(self, waiting: Iterable[str], every_s: float) -> list[str]:
        """Return which of those whose end was told show it; reads at most once in `every_s` seconds."""
        now = time.monotonic()
        if now - self._all_read_at > READ_ALL_EVERY_S:
            self._mentioned, self._all_read_at = set(waiting), now
        if not self._mentioned or now - self._read_at < every_s:
            return []
        with self._read.connect() as connection:
            ended = list(connection.execute(self._look, {"keys": array(connection, [*self._mentioned])}).scalars())
        self.reads += 1
        self._read_at = time.monotonic()
        self._mentioned.clear()
        for identifier in ended:
            self.last_heard.setdefault(identifier, self._read_at)
        return ended


def _wish(name: str) -> Request:
    command = IssuePassword(name, f"{name}@example.test")
    return Request(command=command, workflow="issue-password", subject=name, body_hash="")


def names() -> Iterator[str]:
    """Yield usernames that no other load uses."""
    return (f"u{new_id()[-6:]}-{n}" for n in count())


class Load:
    """Accept commands in this process as the front door does, for one name after the other."""

    def __init__(self, rig: Rig, names: Iterator[str]) -> None:
        self._rig = rig
        self._runtime = open_runtime(SYSTEM, rig.settings, "bff")
        self.watch = Watch(rig)
        self._poster = Poster(SYSTEM.port_of(rig.settings, "bff"))
        self._names = names
        self._stopping = threading.Event()
        threading.Thread(target=self._publish, daemon=True).start()

    @property
    def poster_pid(self) -> int:
        """Process that asks over HTTP."""
        return self._poster.pid

    def _publish(self) -> None:
        while not self._stopping.is_set():
            self._runtime.transactions.outbox.publish_waiting(0.5)

    def close(self) -> None:
        """End the process that asks over HTTP; the connections end with this one."""
        self._stopping.set()
        self._poster.close()

    def accept(self, number: int) -> list[str]:
        """Accept this many commands in one commit; return their ids."""
        names = [next(self._names) for _ in range(number)]
        requests = [_wish(name) for name in names]
        return [accepted.id for accepted in accept_many(self._runtime.transactions, requests)]

    def sustained(self, sagas: int, in_flight: int) -> Run:
        """Keep up to `in_flight` sagas going until `sagas` have ended."""
        waiting: dict[str, float] = {}
        latencies: list[float] = []
        began = moved_at = time.monotonic()
        accepted = 0
        while len(latencies) < sagas:
            number = min(ACCEPT_BATCH, in_flight, sagas - accepted)
            if number and len(waiting) + number <= in_flight:
                asked = time.monotonic()
                waiting.update(dict.fromkeys(self.accept(number), asked))
                accepted += number
            else:
                ended = self._ended(waiting, READ_EVERY_S if in_flight > 1 else 0)
                latencies += ended
                moved_at = time.monotonic() if ended else moved_at
                self._give_up(moved_at, f"none of {len(waiting)} sagas ended")
        return Run(sagas, time.monotonic() - began, latencies)

    def preload(self, sagas: int) -> dict[str, float]:
        """Accept and publish while nobody works; return the ids to wait for."""
        waiting: dict[str, float] = {}
        while len(waiting) < sagas:
            number = min(5 * ACCEPT_BATCH, sagas - len(waiting))
            waiting.update(dict.fromkeys(self.accept(number), 0.0))
        began = time.monotonic()
        while self._unpublished():
            self._runtime.transactions.outbox.clear()
            self._give_up(began, f"not all of {sagas} commands were published")
        return waiting

    def _unpublished(self) -> int:
        with self._runtime.write.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(outbox)).scalar_one())

    def finish(self, waiting: dict[str, float], began: float) -> float:
        """Wait for all of these; return the seconds since `began`."""
        moved_at = time.monotonic()
        while waiting:
            moved_at = time.monotonic() if self._ended(waiting, READ_EVERY_S) else moved_at
            self._give_up(moved_at, f"none of {len(waiting)} sagas ended")
        return time.monotonic() - began

    def over_http(self, sagas: int) -> Run:
        """POST as fast as the front door answers, then wait until all have ended.

        First a few, after which its admission knows again that it takes all there is: what was accepted here just now
        looked to it like the work of other web processes.
        """
        first = self.posted(FEW_FIRST)
        self.finish(dict(first["accepted"]), first["began"])
        time.sleep(LOOK_S)
        self.watch.last_heard.clear()
        answer = self.posted(sagas)
        accepted = dict(answer["accepted"])
        seconds = self.finish(dict(accepted), answer["began"])
        latencies = [self.watch.last_heard[identifier] - at for identifier, at in accepted.items()]
        return Run(sagas, seconds, latencies)

    def posted(self, sagas: int) -> dict[str, Any]:
        """POST this many; return when it began and ended and what was accepted when."""
        self._poster.ask([next(self._names) for _ in range(sagas)])
        while not (answer := self._poster.answer()):
            self.watch.hear()
        return answer

    def _ended(self, waiting: dict[str, float], every_s: float) -> list[float]:
        """Take those that have ended out of `waiting`; return the seconds each took."""
        self.watch.hear()
        ended = self.watch.ended(waiting, every_s)
        now = time.monotonic()
        return [now - waiting.pop(identifier) for identifier in ended if identifier in waiting]

    def _give_up(self, since: float, what: str) -> None:
        if time.monotonic() - since > GIVE_UP_S:
            dead = [name for name, process in self._rig.processes.items() if process.poll() is not None]
            raise TimeoutError(f"{what} within {GIVE_UP_S} s; processes that died: {', '.join(dead) or 'none'}")
