"""Run a system in one thread, by the real workers and projectors, over a network that loses, repeats and reorders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from sqlalchemy import Engine, update
from tests.service.desk import Acks, Desk, arrived, deliver, sit_down

from pulsaga import faults
from pulsaga.broker import Wire
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.projection import Projector
from pulsaga.delivery.tables import failure, outbox
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError
from pulsaga.operate.verify.report import Report, verify
from pulsaga.operate.verify.scope import Scope
from pulsaga.saga.happenings import Action, Operator
from pulsaga.saga.slots import give_turns
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import resend_to_silent, wake_due_sagas
from pulsaga.saga.tokens import BORNE, FIELD, TOKEN_KEY, digest_of
from pulsaga.sealing import unseal_text
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.web.front_door.acceptance import Request, accept

DEATHS = ("received", "handled", "flushed", "committed", "acking", "acked", "publishing", "published")
SAID_LATER = ("acked", "publishing", "published")
"""Where a worker dies that has acknowledged: only its outbox knows what it would have said."""
ROUNDS = 40
"""After so many everything has ended that ever does."""
SILENCE_S, DEADLINE_S = 6.0, 301.0
FAR_S = 1e6
Finish = Callable[[UnitOfWork], object]


class Death(BaseException):
    """Say that the process which ran is no more."""


@dataclass
class _Rules:
    """Stand in for a book of rules: the process dies at a point, as `kill -9` would."""

    point: str

    def count(self, seam: str, _facts: Any) -> list[Any]:
        if seam == f".{self.point}":
            raise Death
        return []


@contextmanager
def dying_at(point: str) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Have whoever passes a point die while the block runs; yield what runs something that may die."""

    def run(work: Callable[[], object]) -> None:
        with suppress(Death):
            work()

    before, faults._installed = faults._installed, faults._Installed("", _Rules(point)) if point else None  # type: ignore[arg-type]
    try:
        yield run
    finally:
        faults._installed = before


@dataclass
class Lab:
    """The desks of a system, and what is on its way between them."""

    system: System
    settings: Settings
    finishing: Mapping[str, Finish] = field(default_factory=dict)
    """By service: answers what it left for later."""
    desks: dict[str, Desk] = field(init=False)
    on_the_way: list[tuple[str, Wire]] = field(default_factory=list)
    late: list[tuple[str, Wire]] = field(default_factory=list)
    carried: dict[str, int] = field(default_factory=dict)
    borne: list[tuple[str, str]] = field(default_factory=list)
    """Sagas, and their own tokens with which they were sent a signal."""
    passed_s: float = 0.0

    def __post_init__(self) -> None:
        self.desks = {name: sit_down(self.settings, name, None, self.system) for name in self.system.names}
        self.carried = dict.fromkeys(self.desks, 0)

    # --- what comes from outside

    def accept(self, body: Any, subject: str, actor: str = "shop") -> str:
        """Accept a command at the front door."""
        assert self.system.door is not None
        runtime = self.desks[self.system.door.name].runtime
        request = Request(command=body, workflow="", subject=subject, body_hash="", actor=actor)
        identifier = accept(runtime.transactions, runtime.write, request).id
        runtime.transactions.outbox.publish_waiting(0.01)
        return identifier

    def publish(self, body: Any, actor: str | None = None) -> str:
        """Publish a command past every front door, as a tester does, or another service in somebody's name."""
        wire = deliver(body).wire
        wire = wire._replace(properties=wire.properties | ({"ce_actor": actor} if actor else {}))
        self.on_the_way.append((self.system.name, wire))
        return wire.key

    def cancel(self, saga_id: str) -> None:
        """Cancel a saga, past the front door too."""
        wire = deliver(self.system.sagas.cancel(saga_id), saga_id=saga_id).wire
        self.on_the_way.append((self.system.name, wire))

    def signal(self, saga_id: str, body: Any, bears: tuple[str, str] | None = None) -> None:
        """Send a signal to a saga, past the front door; with the token that a saga gave out, whichever."""
        wire = deliver(body, saga_id=saga_id).wire
        if bears:
            actor = f"{BORNE}{digest_of(bears[1])}"
            wire = wire._replace(properties=wire.properties | {"ce_actor": actor})
            if bears[0] == saga_id:
                self.borne.append(bears)
        self.on_the_way.append((self.system.name, wire))

    def tokens(self) -> list[tuple[str, str]]:
        """Open every token that was given out, each with the id of its saga, as its receiver would."""
        keys, commands = self.settings.keys(TOKEN_KEY), {contract_of(cls).name: cls for cls in self.system.sagas.sent}
        sent = [wire for wire in self.coordinator.broker.published if wire.topic in commands]
        bodies = [(wire.key, self.coordinator.read(commands[wire.topic], wire)) for wire in sent]
        sealed = [(saga_id, getattr(body, FIELD, "")) for saga_id, body in bodies]
        return [(saga_id, unseal_text(text, keys, saga_id)) for saga_id, text in sealed if text]

    def operate(self, saga_id: str, action: Action) -> None:
        """Move a saga by hand, if it can be moved so."""

        def work(uow: UnitOfWork) -> None:
            uow.load([(saga, saga_id)])
            if uow.get(saga, saga_id):
                self.system.sagas.operate(uow, saga_id, Operator(action, "ada", "to see"))

        try:
            self.coordinator.runtime.transactions.run(work)
        except DomainError:
            return

    # --- what happens inside

    @property
    def coordinator(self) -> Desk:
        """The desk of the coordinator."""
        return self.desks[self.system.name]

    def gather(self) -> None:
        """Take what was published since, for each who handles it."""
        for name, desk in self.desks.items():
            fresh, self.carried[name] = desk.broker.published[self.carried[name] :], len(desk.broker.published)
            for wire in fresh:
                self.on_the_way += [(to, wire) for to, one in self.desks.items() if wire.topic in one.service.consumes]

    def deliver_some(self, chance: Random) -> None:
        """Deliver one message, whichever: or lose it, where somebody sends it again, or deliver it twice."""
        self.gather()
        if not self.on_the_way:
            return
        to, wire = self.on_the_way.pop(chance.randrange(len(self.on_the_way)))
        fate = chance.random()
        if fate < 0.15:
            self._lose(to, wire)
            return
        if fate > 0.85:
            self.on_the_way.append((to, wire))
        if fate < 0.3:
            self._die_over(to, wire, chance.choice(DEATHS))
            return
        self.desks[to].worker.settle([arrived(wire)])
        self.give_turns()

    def _die_over(self, to: str, wire: Wire, point: str) -> None:
        """Have a worker die, and another take its place: what was not acknowledged comes again."""
        with dying_at(point) as died:
            died(lambda: self.desks[to].worker.settle([arrived(wire)]))
        self.replace_desk(to)
        if point not in SAID_LATER:
            self.on_the_way.append((to, wire))

    def replace_desk(self, name: str) -> None:
        """Start a service's worker anew, with nothing in its memory; its outbox says later what it had not said."""
        old = self.desks[name]
        self.desks[name] = new = sit_down(self.settings, name, None, self.system)
        offset = old.runtime.transactions.outbox.speaker.clock_offset
        speaker = new.runtime.transactions.outbox.speaker
        new.runtime.transactions.outbox.speaker = replace(speaker, clock_offset=offset)
        new.broker.published[:] = old.broker.published
        old.runtime.write.dispose()

    def sweep(self) -> None:
        """Say what was committed and never said."""
        for desk in self.desks.values():
            with desk.runtime.write.begin() as tx:
                tx.execute(update(outbox).values(due_at=0))
            desk.runtime.transactions.outbox.sweep()

    def _lose(self, to: str, wire: Wire) -> None:
        """Lose a command of a saga for good, since that is sent again; anything else until all comes to rest."""
        if to == self.system.name or wire.properties["ce_source"] != f"/protools/{self.system.name}":
            self.late.append((to, wire))

    def deliver_all(self) -> None:
        """Deliver everything until nobody says anything new."""
        self.gather()
        while self.on_the_way:
            waiting, self.on_the_way = self.on_the_way, []
            for name, desk in self.desks.items():
                if heard := [arrived(wire) for to, wire in waiting if to == name]:
                    desk.worker.settle(heard)
            self.give_turns()
            self.gather()

    def give_turns(self) -> None:
        """Let those go on that wait for their turn."""
        if self.system.sagas.limits:
            give_turns(self.coordinator.runtime).work()

    def finish(self) -> None:
        """Have the services answer what they left for later."""
        for name, finish in self.finishing.items():
            if name in self.desks:
                self.desks[name].runtime.transactions.run(finish)

    def pass_time(self, seconds: float, dies_at: str = "") -> None:
        """Let time pass for the coordinator, and what is due happen; it may die over that at a point of its life."""
        self.passed_s += seconds
        transactions = self.coordinator.runtime.transactions
        transactions.outbox.speaker = replace(transactions.outbox.speaker, clock_offset=self.passed_s)
        with dying_at(dies_at) as died:
            for duty in (give_turns, wake_due_sagas, resend_to_silent):
                if duty is not give_turns or self.system.sagas.limits:
                    died(duty(self.coordinator.runtime).work)
        if dies_at:
            self.replace_desk(self.system.name)

    def retry(self) -> None:
        """Try again what failed."""
        for desk in self.desks.values():
            with desk.runtime.write.begin() as tx:
                tx.execute(update(failure).values(due_at=0))
            desk.worker.retry_failures()

    def come_to_rest(self) -> None:
        """Go on until everything has ended that ever does."""
        for _ in range(ROUNDS):
            self.sweep()
            self.retry()
            self.deliver_all()
            self.finish()
            self.deliver_all()
            if self._rests():
                break
            self.pass_time(SILENCE_S)
            self.on_the_way, self.late = self.on_the_way + self.late, []
        self.tidy()

    def _rests(self) -> bool:
        waits = any(row["wake_at"] for row in self.coordinator.rows(saga))
        return not (waits or self.late or any(desk.count(failure) for desk in self.desks.values()))

    def leave_unsent(self, body: Any) -> None:
        """Begin one more saga whose first command cannot be published."""
        self.coordinator.broker.is_up = False
        self.coordinator.worker.settle([deliver(body)])
        with self.coordinator.runtime.write.begin() as tx:
            tx.execute(update(outbox).values(due_at=outbox.c.due_at + FAR_S))

    def tidy(self) -> None:
        """Clear outboxes of what was confirmed, and bring the read databases up to date."""
        for desk in self.desks.values():
            desk.runtime.transactions.outbox.clear()
        said = [wire for desk in self.desks.values() for wire in desk.broker.published]
        for name, desk in self.desks.items():
            heard = [arrived(wire) for wire in said if wire.topic in set(desk.service.projects)]
            with self.engine(name, "read") as engine:
                reader = Reader(desk.service.projecting, desk.runtime.codec, desk.broker)
                Projector(desk.service.projecting, reader, engine, Acks(), 500).settle(heard)

    # --- what came of it

    @contextmanager
    def engine(self, service: str, side: Any) -> Iterator[Engine]:
        """Open a database as its owner."""
        engine = open_database(self.settings, service, side, "owner" if side == "write" else "projector")
        yield engine
        engine.dispose()

    def report(self, **scope: Any) -> Report:
        """Verify the system, a moment after it came to rest by the coordinator's clock."""
        later = replace(self.settings, clock_offset=self.passed_s)
        return verify(self.system, later, Scope(**scope))

    def close(self) -> None:
        """Let go of the databases."""
        for desk in self.desks.values():
            desk.runtime.write.dispose()


def defects(report: Report) -> dict[str, list[tuple[str, str]]]:
    """Return what must not be, by check."""
    return {found.check.path: found.ids for found in report.findings if found.check.is_defect}
