"""Keep hundreds of sagas in flight: clients that ask until somebody answers, each wish under one idempotency key."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import urllib3
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from tests.faults.stories import new_name
from tests.system.harness import System

from pulsaga.delivery.database import open_database
from pulsaga.settings import Settings, Side

CLIENTS = 12
SAGA = "SELECT status, target, resend_at, wake_at, moved_at FROM saga WHERE id = :id"
MAIL = "SELECT status, attempts, claim, due_at, created_at, error FROM mail WHERE username = :username"
ASK_AGAIN_S, LOOK_S, LOOK_OFTEN_S = 0.2, 0.25, 0.02
REFUSED_IN = 10
"""One wish in so many is for a mailbox that is refused, so that its saga is compensated."""
RECIPIENT = re.compile(rb"^To: <?([^\s<>]+)>?\r?$", re.MULTILINE)


def hold(seconds: float) -> None:
    """Let time pass: a trouble has to last, and a client waits before it asks again."""
    time.sleep(seconds)


class Census:
    """Count accepted and ended commands in the front door's databases, past every proxy."""

    def __init__(self, settings: Settings) -> None:
        self._engines: Mapping[Side, Engine] = {
            "write": open_database(settings, "bff", "write", "owner"),
            "read": open_database(settings, "bff", "read", "owner"),
        }

    def accepted(self) -> int:
        """Count the accepted commands."""
        return self._count("write", "SELECT count(*) FROM acceptance")

    def ended(self) -> int:
        """Count the commands that their users see ended."""
        return self._count("read", "SELECT count(*) FROM command WHERE status <> 'running'")

    def open_ids(self) -> list[str]:
        """Return the commands that have not ended."""
        known = set(self._ids("write", "SELECT id FROM acceptance"))
        return sorted(known - set(self._ids("read", "SELECT id FROM command WHERE status <> 'running'")))

    def open(self) -> int:
        """Count the accepted commands that have not ended."""
        return self.accepted() - self.ended()

    def accepted_ids(self) -> set[str]:
        """Return every accepted command."""
        return set(self._ids("write", "SELECT id FROM acceptance"))

    def completed_names(self) -> set[str]:
        """Return whose command has completed."""
        return set(self._ids("read", "SELECT subject FROM command WHERE status = 'completed'"))

    def whereabouts(self, settings: Settings, most: int = 5) -> Iterator[str]:
        """Tell of some open commands where they stand: the saga's row, and the mail's."""
        names = "SELECT id, subject FROM acceptance"
        open_ids = set(self.open_ids()[:most])
        for _, identifier, username in self._rows("bff", settings, names, {}):
            if str(identifier) in open_ids:
                told = {"id": str(identifier), "username": username}
                yield f"{identifier}: saga {self._rows('protools_saga', settings, SAGA, told)}"
                yield f"{identifier}: mail {self._rows('correo', settings, MAIL, told)}"

    @staticmethod
    def _rows(service: str, settings: Settings, statement: str, values: Mapping[str, str]) -> list[tuple[Any, ...]]:
        engine = open_database(settings, service, "write", "owner")
        try:
            with engine.connect() as connection:
                return [(f"{time.time():.1f}", *row) for row in connection.execute(text(statement), values)]
        finally:
            engine.dispose()

    def close(self) -> None:
        """Let go of the databases."""
        for engine in self._engines.values():
            engine.dispose()

    def _count(self, side: Side, statement: str) -> int:
        with self._engines[side].connect() as connection:
            return int(connection.execute(text(statement)).scalar_one())

    def _ids(self, side: Side, statement: str) -> list[str]:
        with self._engines[side].connect() as connection:
            return [str(identifier) for identifier in connection.execute(text(statement)).scalars()]


class Feeder:
    """Keep `target` sagas open while `flowing`; remember every wish and every answer."""

    def __init__(self, system: System, census: Census, seed: int, target: int) -> None:
        self._system, self._census, self._target = system, census, target
        self._chance = random.Random(seed)
        self._flowing = threading.Event()
        self._lock = threading.Lock()
        self._before = census.accepted_ids()
        self._ended = 0
        self.wishes = 0
        self.heard: dict[str, str] = {}
        """Username by the id that a client was given."""
        self.wrong: list[str] = []

    @property
    def open(self) -> int:
        """Count the wishes whose command has not ended, as far as known."""
        return len(self._before) + self.wishes - self._ended

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Let clients ask while the block runs, and wait for the answers to what they asked."""
        self._ended = self._census.ended()
        self._flowing.set()
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            working = [pool.submit(self._look), *(pool.submit(self._client) for _ in range(CLIENTS))]
            try:
                yield
            finally:
                self._flowing.clear()
                for done in working:
                    done.result()

    def ask_once(self) -> None:
        """Make one wish that can be fulfilled; return once it is accepted."""
        self.wishes += 1
        name = new_name()
        self._ask(name, f"{name}@example.test")

    def _look(self) -> None:
        while self._flowing.is_set():
            try:
                self._ended = self._census.ended()
            except SQLAlchemyError:  # that database is down on purpose
                hold(ASK_AGAIN_S)
            hold(LOOK_S)

    def _client(self) -> None:
        while self._flowing.is_set():
            wish = self._next_wish()
            if wish:
                self._ask(*wish)
            else:
                hold(LOOK_OFTEN_S)

    def _next_wish(self) -> tuple[str, str] | None:
        with self._lock:
            if self.open >= self._target:
                return None
            self.wishes += 1
            refused = self._chance.randrange(REFUSED_IN) == 0
        name = new_name()
        return name, f"{name}@{self._system.mailbox.refused if refused else 'example.test'}"

    def _ask(self, name: str, email: str) -> None:
        wish, key = {"username": name, "email": email}, uuid4().hex
        while True:
            try:
                answer = self._system.post("/passwords", wish, Idempotency_Key=key)
            except urllib3.exceptions.HTTPError:
                hold(ASK_AGAIN_S)
                continue
            if answer.status == 202:
                self.heard[answer.json["id"]] = name
                return
            if answer.status < 500:
                self.wrong.append(f"{name}: the front door said {answer.status} {answer.body[:200]!r}")
                return
            hold(ASK_AGAIN_S)

    def at_the_front_door(self) -> Iterator[str]:
        """Yield what is wrong with the acceptances: each wish is one of them, whatever its client had to repeat."""
        yield from self.wrong
        accepted = self._census.accepted_ids() - self._before
        if len(accepted) != self.wishes:
            yield f"{len(accepted)} acceptances of {self.wishes} wishes"
        if lost := self.heard.keys() - accepted:
            yield f"{len(lost)} answered 202 and unknown, such as {min(lost)}"

    def in_the_mailbox(self) -> Iterator[str]:
        """Yield what is wrong with the mails: one distinct mail for each completed command, none for others."""
        raw: dict[str, set[bytes]] = defaultdict(set)
        for mail in self._system.mailbox.mails():
            found = RECIPIENT.search(mail.raw)
            raw[found[1].decode().partition("@")[0] if found else "?"].add(mail.raw)
        completed = self._census.completed_names()
        several = sorted(name for name, mails in raw.items() if len(mails) > 1)
        for words, names in {
            "have several distinct mails": several,
            "completed without a mail": sorted(completed - raw.keys()),
            "got a mail and did not complete": sorted(raw.keys() - completed),
        }.items():
            if names:
                yield f"{len(names)} {words}, such as {names[0]}"
