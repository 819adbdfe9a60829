"""Hold one schedule's services, broker, disks and clock, and let faults strike them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError
from tests.simulation.broker import Consumer, Memory
from tests.simulation.disks import Disks
from tests.simulation.faults import Death, Plan
from tests.simulation.invariants import Invariants
from tests.simulation.mails import MailServer
from tests.simulation.replicas import Replica

from pulsaga.delivery import loop
from pulsaga.delivery.messages import Message
from system import SYSTEM

BEGINNING = 1_800_000_000.0
NAMES = ("ada", "ada", "bob", "eve")
REPLICAS = 2
GIVES_UP_AFTER = 3
"""Times that a process waits for what is down, until it is killed or its duty has its turn later."""


class World:
    """Everything of one schedule; all chance in it comes from its seed."""

    def __init__(self, disks: Disks, seed: int) -> None:
        self.disks, self.seed, self.random = disks, seed, Random(seed)
        self.now, self.trace = BEGINNING, list[str]()
        self.plan: Plan | None = None
        self.busy: set[str] = set()
        self.stopped: set[str] = set()
        self.poisoned: dict[str, Exception] = {}
        self.poison: tuple[str, Exception] | None = None
        self._waits = self.step = self.asked = 0
        self.chance = Random(seed)
        disks.empty(lambda: self.now, self.seam)
        self.memory = Memory(self, _subscriptions(disks))
        self.mails = MailServer(
            self, frozenset(f"{n}@x.test" for n in sorted(set(NAMES)) if self.random.random() < 0.1)
        )
        self.invariants = Invariants(disks, self.memory, self.mails)

    def begin(self) -> None:
        """Start every process."""
        kinds = [(service, number) for service in SYSTEM.names for number in range(REPLICAS)]
        self.replicas = [Replica(self.disks, self.memory, *kind, self.taint) for kind in kinds]

    def act(self) -> None:
        """Let one thing happen."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let the clock jump."""
        self.now += seconds
        self.note(f"{seconds:.0f} s pass")

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.step:4} {self.now - BEGINNING:9.2f}s {'  ' * len(self.busy)}{what}")

    # --- what the broker, the disks and the mail server ask (Weather)

    def seam(self, name: str) -> None:
        """Pass a point at which the fault of this step may strike."""
        if self.plan is None or not self.plan.strikes_at(name):
            return
        kind, self.plan = self.plan.kind, None
        self.note(f"{kind} at {name!r}")
        if kind == "stall":
            self._stall()
        elif kind == "die":
            raise Death
        else:
            raise OperationalError(name, None, psycopg.OperationalError("the database is gone"))

    def strikes(self, kind: str) -> bool:
        """Tell whether this fault happens here and now; once."""
        if self.plan is None or self.plan.kind != kind:
            return False
        if kind != "ack-lost":  # one lost connection loses them all
            self.plan = None
        self.note(kind)
        return True

    def wrong(self, what: str) -> None:
        """Report what must never be."""
        self.invariants.wrong(what)

    def _stall(self) -> None:
        """Let the others go on while this process stands still."""
        plan, waits = self.plan, self._waits
        if self.random.random() < 0.5:
            self.pass_time(31.0)  # longer than any lease
            self._take_over()
        for _ in range(self.random.randint(1, 6)):
            self.plan = None
            self.act()
        self.plan, self._waits = plan, waits

    def _take_over(self) -> None:
        """Let the twins of who stands still do its duties."""
        services = {name.partition("#")[0] for name in self.busy}
        for replica in self.running():
            for name, work in replica.duties.items() if replica.service.name in services else ():
                self.do(replica, name, work)

    def taint(self, service: str, message: Message) -> Exception | None:
        """Say which error this handler runs into over this message, if any."""
        if self.poison and self.poison[0] == service:
            self.poisoned[message.id], self.poison = self.poison[1], None
        return self.poisoned.get(message.id)

    def waited(self, _down: Exception) -> bool:
        """Wait a moment for what is down; return False to give up."""
        self._waits += 1
        self.now += 0.05
        return self._waits < GIVES_UP_AFTER

    # --- processes

    def running(self) -> list[Replica]:
        """Name the processes that are free to do something."""
        return [r for r in self.replicas if r.name not in self.busy and r.service.name not in self.stopped]

    def perform(self, replica: Replica, what: str, work: Callable[[], object]) -> None:
        """Let a process work until it is done, dies or gives up."""
        self.note(f"{replica.name} {what}")
        self.busy.add(replica.name)
        self._waits = 0
        try:
            work()
            gave_up = self._waits >= GIVES_UP_AFTER
        except (Death, DBAPIError):  # who meets what no wait helps against is started again
            gave_up = True
        finally:
            self.busy.remove(replica.name)
        if gave_up:
            self.note(f"{replica.name} begins anew")
            replica.start()

    def take(self, replica: Replica, consumer: Consumer, settle: Callable[..., None], limit: int) -> None:
        """Have a process take a batch."""
        batch = consumer.receive(limit, 0.0)
        names = [f"{d.wire.topic.partition('.')[2]}:{d.wire.key[-4:]}" for d in batch]
        self.perform(replica, f"takes {' '.join(names)}", lambda: settle(batch))

    def do(self, replica: Replica, name: str, work: Callable[[], object]) -> None:
        """Have a process do something, again while what it needs is down."""
        self.perform(replica, name, lambda: loop.keep_trying(threading.Event(), work))


def _subscriptions(disks: Disks) -> dict[str, list[str]]:
    services = disks.services.values()
    workers = {service.name: service.consumes for service in services}
    return workers | {service.projector: service.projects for service in services}
