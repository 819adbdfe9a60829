"""Run the real services under one seeded scheduler: any order, any fault, then heal and see that everything ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

from sqlalchemy.exc import OperationalError
from tests.simulation.broker import Consumer, Memory
from tests.simulation.disks import Disks
from tests.simulation.ends import check_ends, next_due, unfinished
from tests.simulation.faults import SEAMS, Broken, Death, Kind, Plan, replaced, simulated
from tests.simulation.invariants import Invariants
from tests.simulation.mails import MailServer
from tests.simulation.replicas import Replica

import correo.handlers
from bff.acceptance import Request, accept
from protools.bootstrap import projector_of
from protools.services import SERVICES
from seedwork import loop
from seedwork.errors import Unavailable
from seedwork.messages import Message

BEGINNING = 1_800_000_000.0
NAMES = ("ada", "ada", "bob", "eve")
REPLICAS = 2
FAULTS: tuple[Kind, ...] = ("die", "die", "die", "stall", "stall", "refuse", "unheard", "cut", "ack-lost", "hang-up")
MAIL_FAULTS: tuple[Kind, ...] = ("die", "stall", "hang-up")
JUMPS_S = {1.0: 6, 6.0: 10, 31.0: 5, 61.0: 3, 1200.0: 2, 7200.0: 1}
"""Seconds that may pass at once, with how often; the last two are beyond deadlines."""
DUTIES = {"publisher": 12, "sender": 10, "wake-ups": 5, "re-sending": 5, "failures": 4, "sweep": 3, "outbox": 1}
"""How often a duty gets its turn among the others."""
ROUNDS = 200
"""Turns that everything gets to end once nothing goes wrong any more."""


class Simulation:
    """One schedule: everything in it follows from its seed."""

    def __init__(self, disks: Disks, seed: int) -> None:
        self.disks, self.seed, self.random = disks, seed, Random(seed)
        self.now, self.trace = BEGINNING, list[str]()
        self.plan: Plan | None = None
        self.busy: set[str] = set()
        self.stopped: set[str] = set()
        self.poisoned: dict[str, Exception] = {}
        self.poison: tuple[str, Exception] | None = None
        self._waits = self._step = self._asked = 0
        self._chance = Random(seed)
        disks.empty(lambda: self.now, self.seam)
        self.memory = Memory(self, _subscriptions(disks))
        self.mails = MailServer(self, frozenset(f"{n}@x.test" for n in set(NAMES) if self.random.random() < 0.1))
        self.invariants = Invariants(disks, self.memory, self.mails)

    # --- the whole

    def run(self) -> None:
        """Let everything go wrong for a while, then nothing; raise Broken with the trace."""
        world = simulated(lambda: self.now, self._chance, self._waited)
        postman = replaced(correo.handlers, "open_postman", lambda _settings: self.mails)
        with world, postman:
            try:
                self._schedule()
            except Exception as error:
                raise Broken(self._told(error)) from error

    def _schedule(self) -> None:
        kinds = [(service, number) for service in SERVICES for number in range(REPLICAS)]
        self.replicas = [Replica(self.disks, self.memory, *kind, self._taint) for kind in kinds]
        for _ in range(self.random.randint(60, 120)):
            self._step += 1
            self._turn()
            self.invariants.check()
        self.plan, self.stopped = None, set()
        while self._accept():
            continue
        self._heal()
        check_ends(self.disks, self.memory, self.mails)

    def _told(self, error: Exception) -> str:
        again = f"make simulate SEEDS=1 START={self.seed}"
        return "\n".join([*self.trace, f"seed {self.seed}: {type(error).__name__}: {error}", f"again: {again}"])

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self._step:4} {self.now - BEGINNING:9.2f}s {'  ' * len(self.busy)}{what}")

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
            raise OperationalError(name, None, Exception("the database is gone"))

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
            self._let_time_pass(31.0)  # longer than any lease
            self._take_over()
        for _ in range(self.random.randint(1, 6)):
            self.plan = None
            self._act()
        self.plan, self._waits = plan, waits

    def _take_over(self) -> None:
        """Let the twins of who stands still do its duties."""
        services = {name.partition("#")[0] for name in self.busy}
        for replica in self._running():
            for name, work in replica.duties.items() if replica.service.name in services else ():
                self._do(replica, name, work)

    def _taint(self, service: str, message: Message) -> Exception | None:
        if self.poison and self.poison[0] == service:
            self.poisoned[message.id], self.poison = self.poison[1], None
        return self.poisoned.get(message.id)

    def _waited(self, _down: Exception) -> bool:
        self._waits += 1
        self.now += 0.05
        return self._waits < 3

    # --- steps

    def _turn(self) -> None:
        self.now += self.random.random() * 0.2
        self.plan = None
        if self.random.random() < 0.6:
            kind = self.random.choice(FAULTS)
            self.plan = Plan(kind, self.random.choice(SEAMS.get(kind, ("",))), self.random.choice((1, 1, 1, 2)))
        self._act()
        self.plan = None

    def _act(self) -> None:
        while not self.random.choices(ACTIONS, WEIGHTS)[0](self):
            continue

    def _running(self) -> list[Replica]:
        return [r for r in self.replicas if r.name not in self.busy and r.service.name not in self.stopped]

    def _perform(self, replica: Replica, what: str, work: Callable[[], object]) -> None:
        self.note(f"{replica.name} {what}")
        self.busy.add(replica.name)
        self._waits = 0
        try:
            work()
            gave_up = self._waits >= 3
        except Death:
            gave_up = True
        finally:
            self.busy.remove(replica.name)
        if gave_up:
            self.note(f"{replica.name} begins anew")
            replica.start()

    def _deliver(self) -> bool:
        ready = [(r, pair) for r in self._running() for pair in r.consumers if pair[0].open_lanes()]
        if not ready:
            return False
        replica, (consumer, settle) = self.random.choice(ready)
        self._take(replica, consumer, settle, self.random.choice((1, 1, 2, 5)))
        return True

    def _take(self, replica: Replica, consumer: Consumer, settle: Callable[..., None], limit: int) -> None:
        batch = consumer.receive(limit, 0.0)
        names = [f"{d.wire.topic.partition('.')[2]}:{d.wire.key[-4:]}" for d in batch]
        self._perform(replica, f"takes {' '.join(names)}", lambda: settle(batch))

    def _duty(self) -> bool:
        pairs = [(r, name, work) for r in self._running() for name, work in r.duties.items()]
        if not pairs:
            return False
        weights = [100 if name in r.woken else DUTIES[name] for r, name, _ in pairs]
        replica, name, work = self.random.choices(pairs, weights)[0]
        replica.woken.discard(name)
        if name == "sender" and self.plan and not self.busy:
            self.plan = Plan(self.random.choice(MAIL_FAULTS), self.random.choice(("mail", "mail taken")), 1)
        self._do(replica, name, work)
        return True

    def _do(self, replica: Replica, name: str, work: Callable[[], object]) -> None:
        self._perform(replica, name, lambda: loop.keep_trying(threading.Event(), work))

    def _accept(self) -> bool:
        fronts = [r for r in self._running() if r.service.name == "bff"]
        if self._asked == len(NAMES) or not fronts:
            return False
        replica, name = self.random.choice(fronts), NAMES[self._asked]
        number, write = self._asked, self.disks.engines["bff", "write"]
        request = Request(username=name, email=f"{name}@x.test", body_hash=name, idempotency_key=f"k{number}")

        def ask() -> None:
            accept(replica.relay, write, request)
            replica.woken.add("publisher")
            self._asked = max(self._asked, number + 1)  # heard `202`; till then the client asks under the same key

        self._do(replica, f"accepts {name}", ask)
        return True

    def _let_time_pass(self, seconds: float = 0.0) -> bool:
        seconds = seconds or self.random.choices(list(JUMPS_S), list(JUMPS_S.values()))[0]
        self.now += seconds
        self.note(f"{seconds:.0f} s pass")
        return True

    def _redeliver(self) -> bool:
        feed = self.random.choice(list(self.memory.feeds.values()))
        if not feed.acked:
            return False
        stored = self.random.choice(feed.acked)
        self.note(f"again: {stored.topic}:{stored.key[-4:]}")
        feed.put_back([stored])
        return True

    def _reconnect(self) -> bool:
        consumers = [consumer for r in self.replicas for consumer, _ in r.consumers if consumer.held]
        if not consumers:
            return False
        self.note("a consumer loses its connection")
        return self.random.choice(consumers).reconnect()

    def _poison(self) -> bool:
        service = self.random.choice(("generador", "correo", "protools_saga", "protools_saga"))
        error = self.random.choice((RuntimeError("poison"), RuntimeError("poison"), Unavailable("elsewhere")))
        self.poison = service, error
        self.note(f"the next message of {service} raises {error!r}")
        return True

    def _change(self) -> bool:
        """Take something down, or have it back."""
        choice = self.random.choice(("broker", "mail", *SERVICES))
        if choice == "broker":
            self.memory.is_up = not self.memory.is_up
        elif choice == "mail":
            self.mails.mood = self.random.choice(("up", "down", "busy"))
        elif choice in self.stopped:
            self.stopped.remove(choice)
        elif not any(name.startswith(choice) for name in self.busy):
            self.stopped.add(choice)
            for replica in self.replicas:
                if replica.service.name == choice:
                    replica.start()
        self.note(f"broker {self.memory.is_up}, mail {self.mails.mood}, stopped {sorted(self.stopped)}")
        return True

    # --- the end

    def _heal(self) -> None:
        self.note("everything heals")
        self.plan, self.poison, self.poisoned = None, None, {}
        self.memory.is_up, self.mails.mood = True, "up"
        for consumers in self.memory.consumers.values():
            for consumer in consumers:
                consumer.reconnect()
        for _ in range(ROUNDS):
            self._step += 1
            self._fair_round()
            if not (rest := unfinished(self.disks, self.memory)):
                return
            self.now = next_due(self.disks, self.now)
        self.invariants.wrong(f"after {ROUNDS} healthy rounds there is still {rest}")

    def _fair_round(self) -> None:
        for replica in self.replicas:
            for name, work in replica.duties.items():
                self._do(replica, name, work)
        for _ in range(ROUNDS):
            ready = [(r, pair) for r in self.replicas for pair in r.consumers if pair[0].open_lanes()]
            if not ready:
                break
            for replica, (consumer, settle) in ready:
                if consumer.open_lanes():
                    self._take(replica, consumer, settle, 100)
                    self.invariants.check()
        for replica in self.replicas:
            self._do(replica, "outbox", replica.relay.clear)


def _subscriptions(disks: Disks) -> dict[str, list[str]]:
    services = disks.services.values()
    workers = {service.name: service.consumes for service in services}
    return workers | {projector_of(service.name): service.projects for service in services}


ACTIONS: tuple[Callable[[Simulation], bool], ...] = (
    Simulation._deliver,
    Simulation._duty,
    Simulation._accept,
    Simulation._let_time_pass,
    Simulation._redeliver,
    Simulation._reconnect,
    Simulation._poison,
    Simulation._change,
)
WEIGHTS = (60, 25, 8, 5, 4, 4, 3, 1.5)
