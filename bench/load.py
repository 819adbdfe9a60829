"""Make sagas and tell when they are done: done is when the front door's read database shows the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import urllib3
from sqlalchemy import Engine, func, select

from bench.rig import Rig
from bff.acceptance import Request, accept_many
from bff.tables import command
from bff.waiting import TOPIC
from seedwork.database import open_database
from seedwork.messages import new_id
from seedwork.service import open_runtime

ENDED = ("completed", "refused", "suspended")
GIVE_UP_S = 180
ACCEPT_BATCH = 100
HTTP_CLIENTS = 24


@dataclass(frozen=True)
class Run:
    """Hold one run: sagas, seconds from the first acceptance to the last end."""

    sagas: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Completed sagas per second."""
        return self.sagas / self.seconds


class Load:
    """Accept commands in this process as the front door does, and watch its read database."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._runtime = open_runtime(rig.settings, "bff")
        self._read: Engine = open_database(rig.settings, "bff", "read", "reader")
        self._names = (f"u{new_id()[-6:]}-{n}" for n in count())
        self._stopping = threading.Event()
        threading.Thread(target=self._publish, daemon=True).start()

    def _publish(self) -> None:
        while not self._stopping.is_set():
            self._runtime.relay.publish_waiting(0.5)

    def close(self) -> None:
        """Leave the broker."""
        self._stopping.set()
        self._runtime.broker.close()

    def accept(self, number: int) -> list[str]:
        """Accept this many commands in one commit; return their ids."""
        names = [next(self._names) for _ in range(number)]
        requests = [Request(username=name, email=f"{name}@example.test", body_hash="") for name in names]
        return [accepted.id for accepted in accept_many(self._runtime.relay, requests)]

    def ended(self) -> int:
        """Count the commands that have ended."""
        with self._read.connect() as connection:
            query = select(func.count()).select_from(command).where(command.c.status.in_(ENDED))
            return int(connection.execute(query).scalar_one())

    def sustained(self, sagas: int, in_flight: int) -> Run:
        """Keep up to `in_flight` sagas going until `sagas` have ended."""
        before, accepted, began = self.ended(), 0, time.monotonic()
        while (done := self.ended() - before) < sagas:
            if accepted < sagas and accepted - done + ACCEPT_BATCH <= in_flight:
                self.accept(ACCEPT_BATCH)
                accepted += ACCEPT_BATCH
            else:
                self._stopping.wait(0.02)
            _give_up(began, done, sagas)
        return Run(sagas, time.monotonic() - began)

    def one_at_a_time(self, sagas: int) -> list[float]:
        """Return the seconds from accepting to done of sagas that run alone, told by the broadcast."""
        listener = self._runtime.broker.listen(TOPIC)
        self._wait_for(listener, self.accept(1)[0])
        times = []
        for _ in range(sagas):
            began = time.perf_counter()
            self._wait_for(listener, self.accept(1)[0])
            times.append(time.perf_counter() - began)
        listener.close()
        return sorted(times)

    def _wait_for(self, listener: Any, identifier: str) -> None:
        query = select(command.c.status).where(command.c.id == identifier)
        for _ in range(GIVE_UP_S):
            listener.receive(100, 1.0)
            with self._read.connect() as connection:
                if connection.execute(query).scalar() in ENDED:
                    return
        raise TimeoutError(f"{identifier} did not end")

    def over_http(self, sagas: int) -> Run:
        """POST from HTTP_CLIENTS threads as fast as they are answered, then wait until all have ended."""
        url = f"http://127.0.0.1:{self._rig.settings.bff_port}/passwords"
        http = urllib3.PoolManager(maxsize=HTTP_CLIENTS, block=True)
        before, began = self.ended(), time.monotonic()
        with ThreadPoolExecutor(HTTP_CLIENTS) as pool:
            statuses = set(pool.map(lambda name: _post(http, url, name), _some(self._names, sagas)))
        if statuses != {202}:
            raise RuntimeError(f"not accepted: {statuses}")
        self.accepted_per_s = sagas / (time.monotonic() - began)
        while (done := self.ended() - before) < sagas:
            self._stopping.wait(0.02)
            _give_up(began, done, sagas)
        return Run(sagas, time.monotonic() - began)


def _some(names: Iterator[str], number: int) -> list[str]:
    return [next(names) for _ in range(number)]


def _post(http: urllib3.PoolManager, url: str, username: str) -> int:
    return http.request("POST", url, json={"username": username}).status


def _give_up(began: float, done: int, sagas: int) -> None:
    if time.monotonic() - began > GIVE_UP_S:
        raise TimeoutError(f"{done} of {sagas} sagas ended within {GIVE_UP_S} s")
