"""Admit commands or refuse them, before their body is read and before anything is stored.

The server asks for every command: at its head, so that nobody sends a body in vain, and when it is whole, which is when
it counts. What is known comes from the broadcast of commands that ended and from one look a second at the acceptances,
so asking costs no query. `load` holds the rule.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import threading
import time
from collections.abc import Callable, Collection
from http.cookies import SimpleCookie

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from pulsaga.delivery.messages import UUID7, first_id, id_time
from pulsaga.delivery.tables import outbox
from pulsaga.running.runtime import Runtime
from pulsaga.web.formats import Problem
from pulsaga.web.front_door.commands.queries import ENDED
from pulsaga.web.front_door.overload.load import DEPTH, FEW, KEPT_FOR_RETURNING, Count, Load
from pulsaga.web.front_door.tables import acceptance, command

log = structlog.get_logger()

IN_FLIGHT = 250
"""Commands that one process takes at once, twice as many of who comes back; beyond it the process is too slow."""
TRAFFIC_S = 5.0
"""Seconds for which the load is looked at after the last command."""
SILENCE_S = 3.0
"""Seconds without an end after which the read database is asked what ended: a broadcast may have been missed."""
COUNTED_UP_TO = 100_000
NOBODY = first_id(0)
COOKIE = "turn"
TURN_S = 60
"""Seconds for which a turn is kept."""


class Place:
    """A command's place in the load, until it is stored or given back; whatever is said first counts, and only that."""

    def __init__(self, settle: Callable[[Place, bool], None]) -> None:
        self.is_open = True
        self._settle = settle

    def keep(self) -> None:
        """Let it count: the command is stored."""
        self._settle(self, True)

    def give_back(self) -> None:
        """Count it out: strangers, and what cannot be read, must not use up what callers may ask for."""
        self._settle(self, False)


class Admission:
    """The load as this web process sees it, and what is decided by it; `commands` are endpoints. Thread-safe."""

    def __init__(
        self, runtime: Runtime, read: Engine, registry: CollectorRegistry, commands: Collection[str] = ()
    ) -> None:
        self._runtime, self._read, self._commands = runtime, read, frozenset(commands)
        self._key = runtime.settings.key("INTERNAL_TOKEN")
        self._load = Load(runtime.settings.accept_within)
        self._lock = threading.Lock()
        self._ended: list[str] = []
        self._front = NOBODY
        """The command that stands in the middle of those that ended last: what was accepted after it waits its turn,
        what was accepted before and has not ended waits for something else."""
        self._looked_up_to = first_id(time.time())
        self._asked_at = self._heard_at = float("-inf")
        self._metrics = _Metrics(registry, self._load)

    # --- asked by the server

    def is_command(self, endpoint: str) -> bool:
        """Tell whether requests to an endpoint ask for new work."""
        return endpoint in self._commands

    def refusal(self, cookies: str, in_flight: int) -> Problem | None:
        """Return None if one more command would be admitted, else the 503 whose Retry-After is this caller's turn."""
        return self._unless(self._load.has_room, cookies, in_flight)

    def admit(self, cookies: str, in_flight: int) -> Place | Problem:
        """Admit one more command and return its place, to be settled; or return what `refusal` does."""
        return self._unless(self._load.admit, cookies, in_flight) or Place(self._settle)

    def _unless(self, is_taken: Callable[..., bool], cookies: str, in_flight: int) -> Problem | None:
        with self._lock:
            self._asked_at = now = time.monotonic()
            returning = self._is_turn(cookies)
            too_slow = in_flight >= IN_FLIGHT * (KEPT_FOR_RETURNING if returning else 1)
            if not too_slow and is_taken(now, returning=returning):
                return None
            wait_s = self._load.turn(now, random.random())
        self._metrics.refused.labels("in-flight" if too_slow else "backlog").inc()
        headers = {"Retry-After": str(wait_s), "Set-Cookie": self._turn(wait_s)}
        return Problem(
            503, "overloaded", f"more is asked for than can be done; come back in {wait_s} s", headers=headers
        )

    def _settle(self, place: Place, is_stored: bool) -> None:
        with self._lock:
            if place.is_open:
                place.is_open = False
                self._load.settle(is_stored=is_stored)

    def _turn(self, wait_s: int) -> str:
        at = int(time.time()) + wait_s
        return f"{COOKIE}={at}.{self._sign(at)}; Max-Age={wait_s + TURN_S}; Path=/; HttpOnly; SameSite=Strict"

    def _is_turn(self, cookies: str) -> bool:
        if COOKIE not in cookies:
            return False
        try:
            at, _, signature = SimpleCookie(cookies)[COOKIE].value.partition(".")
            due = int(at)
            return due - 1 <= time.time() <= due + TURN_S and hmac.compare_digest(signature, self._sign(due))
        except Exception:  # whatever a stranger's text raises
            return False

    def _sign(self, at: int) -> str:
        return hmac.new(self._key, f"{COOKIE}:{at}".encode(), hashlib.sha256).hexdigest()[:32]

    # --- told by the broadcast

    def ended(self, identifiers: Collection[str]) -> None:
        """Take in which commands ended, whoever accepted them."""
        now = time.time()
        soon = first_id(now + 1)  # anybody who may publish may invent ids, of next year too
        ours = [identifier for identifier in identifiers if UUID7.fullmatch(identifier) and identifier < soon]
        for identifier in ours:
            self._metrics.seconds.observe(max(0.0, now - id_time(identifier).timestamp()))
        with self._lock:
            self._ended += ours

    # --- once a second

    def look(self) -> None:
        """Bring the load up to date, while there is traffic."""
        now = time.monotonic()
        with self._lock:
            ended, self._ended = self._ended, []
        if now - self._asked_at > TRAFFIC_S and self._load.counted < FEW:
            return
        self._move_front(now, ended)
        connected = self._runtime.broker.is_connected()
        seen = self._look(len(ended), connected)
        with self._lock:
            if not connected:
                self._load.forget_rate()
            self._load.count(time.monotonic(), seen)

    def _move_front(self, now: float, ended: list[str]) -> None:
        silent = self._front == NOBODY or now - self._heard_at > SILENCE_S
        if not ended and not silent:
            return
        self._front = max(self._front, sorted(ended)[len(ended) // 2] if ended else self._newest_ended())
        self._heard_at = now

    def _newest_ended(self) -> str:
        ended = command.c.status.in_(ENDED), command.c.id < first_id(time.time() + 1)
        newest = select(command.c.id).where(*ended).order_by(command.c.id.desc()).limit(1)
        try:
            with self._read.connect() as connection:
                return connection.execute(newest).scalar() or NOBODY
        except SQLAlchemyError as down:
            log.warning("cannot look what ended", error=str(down).partition("\n")[0])
            return NOBODY

    def _look(self, ended: int, connected: bool) -> Count:
        waiting = select(acceptance.c.id).where(acceptance.c.id > self._front).limit(COUNTED_UP_TO).subquery()
        since, self._looked_up_to = self._looked_up_to, first_id(time.time())
        counts = select(func.count(), func.count().filter(waiting.c.id >= since)).select_from(waiting)
        unsaid = select(func.count()).select_from(select(outbox.c.id).limit(2 * DEPTH).subquery())
        with self._runtime.write.connect() as connection:
            backlog, accepted = connection.execute(counts).one()
            if not connected:
                backlog = connection.execute(unsaid).scalar_one()
        return Count(backlog=backlog, ended=ended, accepted=accepted)


class _Metrics:
    def __init__(self, registry: CollectorRegistry, load: Load) -> None:
        refused = "Commands refused for overload, by this process."
        self.refused = Counter("protools_commands_refused", refused, ("reason",), registry=registry)
        self.seconds = Histogram(
            "protools_command_seconds",
            "From acceptance to the end as the broadcast tells it, of all commands.",
            registry=registry,
            buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 300, 3600),
        )
        backlog = Gauge(
            "protools_commands_backlog", "Commands accepted and not yet done, at the last look.", registry=registry
        )
        backlog.set_function(lambda: load.counted)
        rate = Gauge(
            "protools_commands_rate", "Commands ended per second while more wait; 0: not known.", registry=registry
        )
        rate.set_function(lambda: load.rate or 0.0)
