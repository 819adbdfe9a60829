"""Drive the real engine, step by step and at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from seedwork.engine import Move, advance, start
from seedwork.messages import Contract
from seedwork.saga import (
    ACTIVE,
    TERMINAL,
    Due,
    Entry,
    Failed,
    Outgoing,
    Progress,
    Refused,
    Replied,
    Saga,
    Silent,
    Step,
    StepState,
    fold,
)


@dataclass(frozen=True)
class Body:
    """A command body; `undoes` is empty for a forward command."""

    contract: Contract
    undoes: str = ""


@dataclass(frozen=True)
class Reply:
    value: str


def step(name: str, *, undo: bool = True, **rest: Any) -> Step:
    def command(_data: Any) -> Body:
        return Body(Contract(f"s.{name}", 1, "command"))

    def compensation(_data: Any, undoes: str) -> Body:
        return Body(Contract(f"s.undo-{name}", 1, "command"), undoes)

    return Step(
        command=command,
        learn=lambda reply: {name: reply.value},
        compensation=compensation if undo else None,
        deadline=60,
        **rest,
    )


TRIP = Saga(
    name="trip", steps=[step("flight"), step("hotel"), step("pay", undo=False, pivot=True), step("tell", undo=False)]
)


@dataclass
class Talk:
    """A conversation with one saga: say what happens, look at what it sends."""

    saga: Saga = TRIP
    now: float = 1000.0
    progress: Progress = field(init=False)
    log: list[list[Entry]] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._take(start(self.saga, "saga", {"who": "ada"}, self.now, self.new_id))

    def new_id(self) -> str:
        return f"c{next(self._numbers)}"

    def _take(self, move: Move) -> None:
        self.progress, entries, commands = move
        if entries:
            self.log.append(entries)
        self.sent += commands

    def hear(self, happening: Any) -> Talk:
        self._take(advance(self.saga, self.progress, happening, self.now, self.new_id))
        return self

    def reply(self, command_id: str = "") -> Talk:
        return self.hear(Replied(command_id or self.sent[-1].command_id, Reply("ok")))

    def refuse(self, command_id: str = "") -> Talk:
        return self.hear(Refused(command_id or self.sent[-1].command_id, "sold-out", "no seats"))

    def fail(self, command_id: str = "") -> Talk:
        return self.hear(Failed(command_id or self.sent[-1].command_id, "dead-letter", "boom"))

    def let_time_pass(self) -> Talk:
        self.now += 61
        return self.hear(Due())

    @property
    def names(self) -> list[str]:
        return [outgoing.body.contract.name.removeprefix("s.") for outgoing in self.sent]

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entries in self.log for entry in entries]


def folded(saga: Saga, log: list[list[Entry]]) -> Progress:
    progress = Progress("saga", saga.key, steps=tuple(StepState() for _ in saga.steps))
    for entries in log:
        progress = fold(progress, entries)
    return progress


def test_a_saga_runs_its_steps_in_order_and_learns_from_replies() -> None:
    """The table of steps is what happens: nothing else decides the order."""
    talk = Talk().reply().reply().reply().reply()
    assert talk.names == ["flight", "hotel", "pay", "tell"]
    assert talk.progress.status == "COMPLETED"
    assert talk.progress.data == {"who": "ada", "flight": "ok", "hotel": "ok", "pay": "ok", "tell": "ok"}


def test_a_refusal_compensates_in_reverse_what_was_issued_and_not_refused() -> None:
    """The refused step did nothing, so there is nothing of it to undo."""
    talk = Talk().reply().reply().refuse().reply().reply()
    assert talk.names == ["flight", "hotel", "pay", "undo-hotel", "undo-flight"]
    assert talk.progress.status == "COMPENSATED"
    assert talk.progress.reason == ("sold-out", "no seats")


def test_a_deadline_before_the_pivot_undoes_the_unanswered_step_too() -> None:
    """Silence says nothing about the effect: it may be there, or come later."""
    talk = Talk().reply().let_time_pass()
    assert talk.names == ["flight", "hotel", "undo-hotel"]
    assert talk.sent[-1].body.undoes == "c2"
    assert talk.reply().reply().progress.status == "COMPENSATED"
    assert talk.progress.reason[0] == "timed-out"


def test_a_deadline_at_the_pivot_suspends_and_a_late_success_resumes() -> None:
    """Past the pivot there is no way back, so an operator must see it, and the mail may still arrive."""
    talk = Talk().reply().reply().let_time_pass()
    assert (talk.progress.status, talk.progress.reason[0], talk.progress.wake_at) == ("SUSPENDED", "timed-out", None)
    talk.reply("c3").reply()
    assert talk.progress.status == "COMPLETED"
    assert talk.progress.reason == ("", "")


def test_a_refusal_after_the_pivot_suspends() -> None:
    """After the pivot nothing is compensated."""
    assert Talk().reply().reply().reply().refuse().progress.status == "SUSPENDED"


def test_a_failed_command_suspends_and_is_never_sent_again() -> None:
    """An answered failure is not retried by us: the receiver has tried and given up."""
    talk = Talk().fail().hear(Silent())
    assert (talk.progress.status, talk.names) == ("SUSPENDED", ["flight"])
    assert talk.reply("c1").names == ["flight", "hotel"]


def test_silence_sends_the_same_command_again_under_its_id() -> None:
    """The command id is the receiver's key against doing it twice."""
    talk = Talk().hear(Silent()).hear(Silent())
    assert [outgoing.command_id for outgoing in talk.sent] == ["c1", "c1", "c1"]
    assert talk.progress.steps[0].attempts == 3


def test_sending_again_does_not_move_the_deadline() -> None:
    """Else a saga could wait for ever."""
    talk = Talk()
    wake_at = talk.progress.wake_at
    talk.now += 30
    assert talk.hear(Silent()).progress.wake_at == wake_at


def test_the_same_reply_twice_changes_nothing() -> None:
    """Redelivery is normal."""
    talk = Talk().reply().reply("c1")
    assert talk.names == ["flight", "hotel"]
    assert talk.progress.seq == 2


def test_a_refused_compensation_suspends_and_its_later_success_goes_on() -> None:
    """Nothing may silently stay done."""
    talk = Talk().reply().refuse()
    assert talk.names[-1] == "undo-flight"
    assert talk.refuse().progress.status == "SUSPENDED"
    assert talk.reply().progress.status == "COMPENSATED"
    assert talk.progress.reason == ("sold-out", "no seats")


def test_a_success_after_giving_up_is_logged_as_late_and_left_to_its_compensation() -> None:
    """The undo names the command it undoes, so it finds what came late."""
    talk = Talk().let_time_pass().reply("c1")
    assert talk.kinds[-1] == "late"
    assert talk.reply().progress.status == "COMPENSATED"


def test_a_late_success_without_compensation_follows_its_policy() -> None:
    """`park` puts it in front of an operator, `ignore` notes it."""
    for policy, kind in (("park", "parked"), ("ignore", "late")):
        saga = Saga(name="x", steps=[step("only", undo=False, late=policy)])
        talk = Talk(saga).let_time_pass()
        assert talk.progress.status == "COMPENSATED"
        assert talk.reply("c1").kinds[-1] == kind


def test_a_deadline_of_a_step_behind_the_pivot_suspends() -> None:
    """Not only the pivot itself: whatever follows it must not take back what was paid."""
    talk = Talk().reply().reply().reply().let_time_pass()
    assert (talk.names[-1], talk.progress.status, talk.kinds[-1]) == ("tell", "SUSPENDED", "suspended")


def test_a_success_after_a_refusal_of_the_same_command_is_put_in_front_of_an_operator() -> None:
    """A refusal says that nothing was done, so nothing will undo it; who says both is wrong once."""
    talk = Talk().reply().refuse("c2").reply("c2")
    assert talk.kinds[-1] == "parked"


def test_a_deadline_that_fires_early_does_nothing() -> None:
    """Two coordinators may see the same due row; the second one comes to a saga that has moved on."""
    talk = Talk().hear(Due())
    assert talk.kinds == ["started", "issued"]


# --- at random


@st.composite
def sagas(draw: st.DrawFn) -> Saga:
    """Up to four steps; from the pivot on nothing has a compensation."""
    number = draw(st.integers(1, 4))
    pivot = draw(st.integers(0, number))
    late = st.sampled_from(["ignore", "park"])
    return Saga(
        name="any",
        steps=[
            step(f"s{i}", undo=i < pivot and draw(st.booleans()), pivot=i == pivot, late=draw(late))
            for i in range(number)
        ],
    )


@dataclass
class World:
    """Receivers as the rules of delivery make them: a command takes effect at most once, an undo leaves a tombstone."""

    decide: Callable[[str], str]
    answered: dict[str, Any] = field(default_factory=dict)
    done: dict[str, bool] = field(default_factory=dict)
    """Command id → whether its effect stands."""
    undone: list[str] = field(default_factory=list)
    tombstones: set[str] = field(default_factory=set)

    def receive(self, command: Outgoing) -> Any:
        if command.command_id not in self.answered:
            self.answered[command.command_id] = self._handle(command)
        return self.answered[command.command_id]

    def _handle(self, command: Outgoing) -> Any:
        identifier, undoes = command.command_id, command.body.undoes
        if identifier in self.tombstones:
            return Refused(identifier, "withdrawn", "")
        choice = self.decide(identifier)
        if choice == "fail":
            return Failed(identifier, "dead-letter", "boom")
        if choice == "refuse":
            return Refused(identifier, "no", "")
        if not undoes:
            self.done[identifier] = True
        elif self.done.get(undoes):
            self.done[undoes] = False
            self.undone.append(undoes)
        else:
            self.tombstones.add(undoes)
        return Replied(identifier, Reply("ok"))


def deliver_something(draw: st.DataObject, talk: Talk, world: World, replies: list[Any]) -> None:
    """Let one thing happen: a command or reply arrives (again), the deadline fires, silence is noticed."""
    choice = draw.draw(st.sampled_from(["command", "command", "reply", "reply", "due", "silent"]))
    if choice == "command":
        replies.append(world.receive(draw.draw(st.sampled_from(talk.sent))))
    elif choice == "reply" and replies:
        talk.hear(draw.draw(st.sampled_from(replies)))
    elif choice == "due":
        talk.let_time_pass()
    elif choice == "silent":
        talk.hear(Silent())


def deliver_the_rest(talk: Talk, world: World) -> None:
    """Everything that was sent arrives, and every reply, until nothing moves any more."""
    seen = -1
    while seen != len(talk.log):
        seen = len(talk.log)
        assert seen < 200, "the log grows for ever"
        for command in list(talk.sent):
            talk.hear(world.receive(command))


@settings(max_examples=400, deadline=None)
@given(sagas(), st.data())
def test_whatever_the_order_every_run_ends_and_nothing_stays_done_that_was_given_up(
    saga: Saga, data: st.DataObject
) -> None:
    """The promise of the engine, under random interleavings of replies, refusals, failures, timeouts and duplicates."""
    world = World(lambda _id: data.draw(st.sampled_from(["do", "do", "do", "refuse", "fail"])))
    talk, replies = Talk(saga), []
    for _ in range(data.draw(st.integers(0, 25))):
        deliver_something(data, talk, world, replies)
        check(saga, talk)
    deliver_the_rest(talk, world)
    check(saga, talk)
    progress = talk.progress
    assert progress.status in TERMINAL or (progress.status == "SUSPENDED" and progress.reason[0])
    assert len(world.undone) == len(set(world.undone))
    if progress.status == "COMPENSATED":
        kept = [
            s.command_id for s, d in zip(progress.steps, saga.steps, strict=True) if d.compensation and s.command_id
        ]
        assert not any(world.done.get(identifier) for identifier in kept)


def check(saga: Saga, talk: Talk) -> None:
    """What holds after every move."""
    progress = talk.progress
    assert (progress.status in ACTIVE) == (progress.wake_at is not None)
    assert folded(saga, talk.log) == progress
    undos = [outgoing.body.undoes for outgoing in talk.sent if outgoing.body.undoes]
    assert len({(o.command_id) for o in talk.sent if o.body.undoes}) == len(set(undos))
    ends = [kind for kind in talk.kinds if kind == "ended"]
    assert len(ends) <= 1
