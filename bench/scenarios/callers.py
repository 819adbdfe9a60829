"""Ask a system for orders and passwords over HTTP at a steady rate, and tell what became of each command."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import urllib3
from sqlalchemy import bindparam, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from bench.rig import Rig
from bench.scenarios.whole import DOOR
from system import SYSTEM

Answer = Literal["accepted", "refused", "no answer"]
THREADS = 64
"""Callers at once: an answer may take ANSWER_S, and the next caller does not wait for it."""
ANSWER_S = 10.0
LOOK_S = 0.2
ENDS = text("SELECT CAST(id AS text), status FROM command WHERE CAST(id AS text) IN :ids").bindparams(
    bindparam("ids", expanding=True)
)
ENDED = ("completed", "refused", "cancelled", "suspended")


@dataclass(frozen=True)
class Asked:
    """One request: when it was sent, what was answered, how long that took, and the command's id."""

    at: float
    answer: Answer
    seconds: float
    id: str = ""


@dataclass
class Callers:
    """Callers of a system, who do not wait for one another."""

    system: Rig
    name: str
    """In every username, which must be new."""
    product: str = ""
    asked: list[Asked] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)
    """Last status seen of each command that was accepted."""
    ends: dict[str, float] = field(default_factory=dict)
    """When each was seen to have ended."""
    open_by_second: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool = urllib3.PoolManager(maxsize=THREADS, retries=False, timeout=ANSWER_S)
        self._url = f"http://127.0.0.1:{SYSTEM.port_of(self.system.settings, DOOR)}"
        url = self.system.settings.database_url(DOOR, "read")
        self._read = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 2})

    def prepare(self, drivers: int) -> None:
        """Make a product with stock for everything, and so many drivers."""
        self.product = self._made("/productos", {"nombre": self.name, "stock": 1_000_000_000})
        with ThreadPoolExecutor(16) as pool:
            names = [f"{self.name}-{number}" for number in range(drivers)]
            list(pool.map(lambda name: self._made("/conductores", {"nombre": name}), names))

    def _made(self, path: str, said: dict[str, Any]) -> str:
        answer = self._post(path, said, Prefer="wait=30")
        if answer.status != 201:
            raise RuntimeError(f"POST {path} answers {answer.status}: {answer.data.decode()}")
        return str(json.loads(answer.data)["id"])

    def _post(self, path: str, said: dict[str, Any], **headers: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request(
            "POST", self._url + path, body=json.dumps(said), headers={"Content-Type": "application/json", **headers}
        )

    @contextmanager
    def asking(self, per_second: float) -> Iterator[None]:
        """Ask at this rate while the block runs, for orders and passwords in turn."""
        stopping = threading.Event()

        def ask() -> None:
            with ThreadPoolExecutor(THREADS) as pool:
                number, began = 0, time.monotonic()
                sent = []
                while not stopping.wait(max(0.0, began + number / per_second - time.monotonic())):
                    sent.append(pool.submit(self._ask, number))
                    number += 1
                wait(sent)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def _ask(self, number: int) -> None:
        user = f"{self.name}-{number}"
        order = {"id_producto": self.product, "cantidad": 1, "user_id": user, "direccion_entrega": "Calle 1"}
        path, said = ("/orders", order) if number % 2 else ("/passwords", {"username": user})
        at, began = time.time(), time.monotonic()
        try:
            answer = self._post(path, said)
        except urllib3.exceptions.HTTPError:
            self.asked.append(Asked(at, "no answer", time.monotonic() - began))
            return
        seconds = time.monotonic() - began
        if answer.status == 202:
            self.asked.append(Asked(at, "accepted", seconds, str(json.loads(answer.data)["id"])))
        elif answer.status == 503:
            self.asked.append(Asked(at, "refused", seconds))
        else:
            raise RuntimeError(f"POST {path} answers {answer.status}: {answer.data.decode()}")

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Count the commands that are open each second while the block runs."""
        stopping = threading.Event()

        def look() -> None:
            while not stopping.wait(1.0):
                self.open_by_second.append(len(self.open()))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def accepted(self) -> list[str]:
        """Return the ids of all commands that were accepted."""
        return [one.id for one in list(self.asked) if one.answer == "accepted"]

    def answers(self, since: float, until: float) -> Counter[str]:
        """Count what was answered to requests sent within a span of time."""
        return Counter(one.answer for one in self.asked if since <= one.at < until)

    def open(self, among: Sequence[str] | None = None) -> list[str]:
        """Return the accepted commands that the front door does not show as ended, as far as it can be asked."""
        ids = self.accepted() if among is None else among
        waiting = [one for one in ids if self.statuses.get(one) not in ENDED]
        if waiting:
            try:
                with self._read.connect() as connection:
                    rows = connection.execute(ENDS, {"ids": waiting})
                    self.statuses.update({row.id: row.status for row in rows})
            except SQLAlchemyError:
                return waiting
            ended = (one for one in waiting if self.statuses.get(one) in ENDED)
            self.ends.update(dict.fromkeys(ended, time.time()))
        return [one for one in waiting if self.statuses.get(one) not in ENDED]

    def ended_at(self, ids: Sequence[str]) -> float:
        """Return when the last of them was seen to have ended."""
        return max(self.ends[one] for one in ids)

    def wait_for(self, ids: Sequence[str], within_s: float) -> bool:
        """Wait until all of them are shown as ended; tell whether they are."""
        deadline = time.monotonic() + within_s
        while self.open(ids):
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        return True
