"""Drive the real engine, step by step and at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, make_dataclass, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulsaga.delivery.messages import command, contract_of, event
from pulsaga.errors import DomainError
from pulsaga.saga.branches import Branch, fork_of
from pulsaga.saga.definition import Saga
from pulsaga.saga.engine.moves import advance, start
from pulsaga.saga.engine.turn import Move
from pulsaga.saga.happenings import Due, Failed, Operator, Outgoing, Refused, Replied, Signalled, Silent
from pulsaga.saga.log import ACTIVE, TERMINAL, Entry, Progress, fold
from pulsaga.saga.steps import Await, Each, ForEach, Parallel, Sleep, Step, When, hours, inside, minutes


@event("s.done")
@dataclass(frozen=True)
class Reply:
    value: str


def message(name: str) -> type:
    """A command of this name; `undoes` is empty for a forward command."""
    made = make_dataclass("Body", [("undoes", str, "")], frozen=True)
    return command(f"s.{name}", replies=(Reply,))(made)


def step(name: str, *, undo: bool = True, **rest: Any) -> Step[Any]:
    there, back = message(name), message(f"undo-{name}")

    def forward(_data: Any) -> Any:
        return there()

    def backward(_data: Any, undoes: str) -> Any:
        return back(undoes)

    forward.__annotations__["return"], backward.__annotations__["return"] = there, back
    return Step(
        forward,
        undo=backward if undo else None,
        learn=lambda data, reply: learned(data, name, reply.value),
        deadline=60,
        **rest,
    )


def learned(data: Any, name: str, value: str) -> Any:
    """Note an answer: what an item learns, it knows itself."""
    return Each(data.data, f"{data.item}+{value}") if isinstance(data, Each) else replace(data, **{name: value})


@command("s.go")
@dataclass(frozen=True)
class Go:
    """Let whoever waits go on."""


@command("s.start")
@dataclass(frozen=True)
class Start:
    who: str


def steps_in(nodes: Sequence[Any]) -> Iterator[Step[Any]]:
    for node in nodes:
        if isinstance(node, Step):
            yield node
        yield from steps_in([one for _, steps in inside(node) for one in steps])


def saga_of(name: str, steps: Sequence[Any]) -> Saga[Any]:
    learned = [(contract_of(one.sends).name.removeprefix("s."), str, "") for one in steps_in(steps)]
    data = make_dataclass("Known", [("who", str), *learned], frozen=True)
    return Saga(name, starts=Start, data=data, subject=lambda data: data.who, steps=steps)


TRIP = saga_of("trip", [step("flight"), step("hotel"), step("pay", undo=False, pivot=True), step("tell", undo=False)])


@dataclass
class Talk:
    """A conversation with one saga: say what happens, look at what it sends."""

    saga: Saga[Any] = field(default_factory=lambda: TRIP)
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

    def by_hand(self, action: Any) -> Talk:
        return self.hear(Operator(action, "ada", "because"))

    def refused_by_hand(self, action: Any) -> str:
        """Let an operator want what cannot be had; return the code of the refusal."""
        return self.told_no(action).code

    def told_no(self, action: Any) -> DomainError:
        before = self.progress, len(self.log), len(self.sent)
        with pytest.raises(DomainError) as refused:
            self.by_hand(action)
        assert before == (self.progress, len(self.log), len(self.sent))
        return refused.value

    def let_time_pass(self) -> Talk:
        self.now += 61
        return self.hear(Due(tuple(self.branches)))

    @property
    def branches(self) -> dict[str, Branch]:
        """Its branches by path, the trunk too."""
        return {path: self.progress.branch(path) for path in ("", *self.progress.branches)}

    @property
    def names(self) -> list[str]:
        return [contract_of(outgoing.body).name.removeprefix("s.") for outgoing in self.sent]

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entries in self.log for entry in entries]


def folded(saga: Saga, log: list[list[Entry]]) -> Progress:
    progress = Progress("saga", saga.key)
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
    talk = Talk().reply().reply().reply().refuse()
    assert (talk.progress.status, talk.progress.reason) == ("SUSPENDED", ("sold-out", "no seats"))


def test_a_failed_command_suspends_and_is_never_sent_again() -> None:
    """An answered failure is not retried by us: the receiver has tried and given up."""
    talk = Talk().fail().hear(Silent())
    assert (talk.progress.status, talk.names) == ("SUSPENDED", ["flight"])
    assert talk.reply("c1").names == ["flight", "hotel"]


def test_silence_sends_the_same_command_again_under_its_id() -> None:
    """The command id is the receiver's key against doing it twice."""
    talk = Talk().hear(Silent()).hear(Silent())
    assert [outgoing.command_id for outgoing in talk.sent] == ["c1", "c1", "c1"]
    assert talk.progress.steps["0"].attempts == 3


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
        saga = saga_of("x", [step("only", undo=False, late=policy)])
        talk = Talk(saga).let_time_pass()
        assert talk.progress.status == "COMPENSATED"
        assert talk.reply("c1").kinds[-1] == kind


def test_a_deadline_of_a_step_behind_the_pivot_suspends() -> None:
    """Not only the pivot itself: whatever follows it must not take back what was paid."""
    talk = Talk().reply().reply().reply().let_time_pass()
    assert (talk.names[-1], talk.progress.status, talk.kinds[-1]) == ("tell", "SUSPENDED", "suspended")


def test_while_others_are_undone_a_late_success_does_not_carry_the_saga_on() -> None:
    """Whoever gave up stays with it: the next step of a trip that is being called back is not booked."""
    talk = Talk(saga_of("x", [step("first"), step("second", undo=False), step("third")]))
    talk.reply().let_time_pass().reply("c2")
    assert (talk.names, talk.kinds[-1]) == (["first", "second", "undo-first"], "parked")
    assert talk.reply("c3").progress.status == "COMPENSATED"


def test_a_success_after_a_refusal_of_the_same_command_is_put_in_front_of_an_operator() -> None:
    """A refusal says that nothing was done, so nothing will undo it; who says both is wrong once."""
    talk = Talk().reply().refuse("c2").reply("c2")
    assert talk.kinds[-1] == "parked"


def test_a_deadline_that_fires_early_does_nothing() -> None:
    """Two coordinators may see the same due row; the second one comes to a saga that has moved on."""
    talk = Talk().hear(Due())
    assert talk.kinds == ["started", "issued"]


def test_a_deadline_that_a_wrong_clock_wrote_is_written_anew() -> None:
    """The clock was a day ahead and is put right: the saga must neither wait a day longer nor be given up for it."""
    talk = Talk()
    deadline = talk.saga.step("0").deadline
    talk.now -= 86_400
    talk.hear(Due())
    assert (talk.kinds[-1], talk.progress.status) == ("issued", "RUNNING")
    assert talk.progress.wake_at == talk.now + deadline
    assert talk.sent[-1] == talk.sent[0]
    talk.now += deadline
    assert talk.hear(Due()).progress.status == "COMPENSATING" or talk.kinds[-1] == "ended"


def test_a_deadline_that_fires_at_a_suspended_saga_does_nothing() -> None:
    """It waits for an operator, and would else be suspended once more at every look."""
    talk = Talk().fail()
    kinds = talk.kinds
    assert talk.let_time_pass().kinds == kinds


def test_silence_sends_an_undo_again_as_what_it_is() -> None:
    """The log names every attempt, and a view shows the command that is waited for."""
    talk = Talk().reply().refuse().hear(Silent())
    assert talk.sent[-1] == talk.sent[-2]
    assert (talk.log[-1][0].command, talk.progress.steps["0"].undo) == ("s.undo-flight", "s.undo-flight")
    assert talk.progress.steps["0"].undo_attempts == 2


def test_an_answer_to_what_was_never_issued_is_an_error_that_names_it() -> None:
    """It came to the wrong saga, and whoever looks for the right one needs the id."""
    with pytest.raises(LookupError, match="stranger"):
        Talk().reply("stranger")


def test_times_are_told_in_seconds() -> None:
    """A deadline that is wrong by a factor is wrong for everybody."""
    assert (minutes(15), hours(2)) == (900, 7200)


# --- by hand


def test_resume_asks_again_under_the_same_id_with_a_fresh_deadline() -> None:
    """Nobody knows whether the first was done; the receiver knows it by its id."""
    talk = Talk().reply().reply().let_time_pass().by_hand("resume")
    assert (talk.names[-1], talk.sent[-1].command_id, talk.progress.status) == ("pay", "c3", "RUNNING")
    assert talk.progress.wake_at == talk.now + 60
    assert talk.reply().reply().progress.status == "COMPLETED"


def test_resume_goes_on_with_an_undo_that_was_not_answered() -> None:
    """A suspended compensation is resumed as a compensation."""
    talk = Talk().reply().refuse().let_time_pass()
    assert talk.progress.status == "SUSPENDED"
    talk.by_hand("resume")
    assert (talk.names[-2:], talk.progress.status) == (["undo-flight", "undo-flight"], "COMPENSATING")
    assert talk.sent[-1] == talk.sent[-2]
    assert talk.reply().progress.status == "COMPENSATED"


@pytest.mark.parametrize("answer", [Talk.refuse, Talk.fail])
def test_what_was_answered_for_good_is_issued_anew_and_not_resumed(answer: Callable[[Talk], Talk]) -> None:
    """The receiver would repeat its answer to the old id."""
    talk = answer(Talk().reply().reply().reply())
    assert talk.refused_by_hand("resume") == "answered"
    talk.by_hand("retry-step")
    assert (talk.names[-1], talk.sent[-1].command_id, talk.progress.steps["3"].former) == ("tell", "c5", ("c4",))
    assert talk.reply().progress.status == "COMPLETED"


@pytest.mark.parametrize("answer", [Talk.refuse, Talk.fail])
def test_an_undo_that_was_answered_for_good_is_issued_anew(answer: Callable[[Talk], Talk]) -> None:
    """Something stays done until an undo succeeds, whatever its id."""
    talk = answer(Talk().reply().refuse())
    assert talk.refused_by_hand("resume") == "answered"
    talk.by_hand("retry-step")
    first, second = talk.sent[-2:]
    assert (first.body, first.command_id != second.command_id) == (second.body, True)
    assert talk.reply().progress.status == "COMPENSATED"


def test_a_step_that_may_still_be_answered_is_not_issued_anew() -> None:
    """Under a new id it would be done twice."""
    assert Talk().reply().reply().let_time_pass().refused_by_hand("retry-step") == "not-answered"


def test_answers_to_a_command_that_was_replaced_move_nothing_and_a_success_is_parked_once() -> None:
    """It should not be: so an operator sees it."""
    talk = Talk().fail().by_hand("retry-step").fail("c1").refuse("c1").reply("c1").reply("c1")
    parked = talk.log[-1][-1]
    assert (parked.kind, parked.command_id, parked.code) == ("parked", "c1", "superseded")
    assert talk.kinds.count("parked") == 1
    assert talk.reply("c2").names[-1] == "hotel"


@pytest.mark.parametrize(
    ("action", "reason"),
    [("compensate", ("operator", "given up by an operator")), ("cancel", ("cancelled", "cancelled by an operator"))],
)
def test_giving_up_by_hand_undoes_what_was_issued(action: str, reason: tuple[str, str]) -> None:
    """Before the pivot there is always a way back, and the user is told who took it."""
    talk = Talk().reply().by_hand(action).reply().reply()
    assert talk.names == ["flight", "hotel", "undo-hotel", "undo-flight"]
    assert (talk.progress.status, talk.progress.reason) == ("COMPENSATED", reason)


def test_giving_up_by_hand_undoes_a_step_that_failed() -> None:
    """A receiver that died over a command may have done it before it died."""
    talk = Talk().reply().fail().by_hand("compensate")
    assert talk.names[-1] == "undo-hotel"
    assert talk.reply().reply().progress.status == "COMPENSATED"


def test_from_the_pivot_on_nothing_is_given_up_by_hand() -> None:
    """It may have been done, and cannot be undone."""
    talk = Talk().reply().reply()
    assert {talk.refused_by_hand(action) for action in ("compensate", "cancel")} == {"past-pivot"}
    talk.reply().fail()
    assert talk.refused_by_hand("compensate") == "past-pivot"


def test_a_pivot_that_came_to_nothing_is_compensated_but_not_cancelled() -> None:
    """A dead pivot did nothing; to call that a cancellation would hide why."""
    talk = Talk().reply().reply().fail()
    assert talk.refused_by_hand("cancel") == "past-pivot"
    assert talk.by_hand("compensate").reply().reply().progress.status == "COMPENSATED"


def test_a_compensation_is_not_begun_twice() -> None:
    """One undo a step."""
    talk = Talk().reply().by_hand("cancel")
    assert {talk.refused_by_hand(action) for action in ("compensate", "cancel")} == {"compensating"}


@pytest.mark.parametrize(
    ("talk", "action", "words"),
    [
        (Talk().reply().reply().reply().reply(), "cancel", ["COMPLETED"]),
        (Talk(), "resume", ["RUNNING", "`resume`"]),
        (Talk().fail(), "resume", ["s.flight", "failed", "`retry-step` issues", "`dead-letters replay` tries"]),
        (Talk().reply().reply().let_time_pass(), "retry-step", ["s.pay", "`resume`"]),
        (Talk().reply().refuse().refuse(), "resume", ["s.undo-flight", "refused", "`retry-step` issues"]),
        (Talk().reply().refuse(), "cancel", ["COMPENSATING"]),
        (Talk().reply().reply(), "cancel", ["RUNNING", "s.pay", "issued"]),
    ],
    ids=["ended", "not-suspended", "failed", "not-answered", "refused", "compensating", "past-pivot"],
)
def test_a_wish_that_cannot_be_had_is_answered_with_what_stands_in_the_way(
    talk: Talk, action: str, words: list[str]
) -> None:
    """At 3 a.m. the answer must name where the saga stands, and the command that helps."""
    detail = talk.told_no(action).detail
    assert [word for word in words if word not in detail] == []
    assert ("dead-letters" in detail) == ("failed" in words), "only a dead letter can be replayed"


@pytest.mark.parametrize("action", ["resume", "retry-step"])
def test_what_is_not_suspended_needs_no_hand(action: str) -> None:
    """It moves by itself."""
    assert Talk().refused_by_hand(action) == "not-suspended"


@pytest.mark.parametrize("action", ["resume", "retry-step", "compensate", "cancel"])
def test_a_saga_that_has_ended_is_moved_by_nobody(action: str) -> None:
    """An end is an end."""
    assert Talk().reply().reply().reply().reply().refused_by_hand(action) == "ended"
    assert Talk().refuse().refused_by_hand(action) == "ended"


def test_the_log_says_who_acted_and_why_before_what_followed() -> None:
    """Years later somebody asks."""
    (entry, *rest) = Talk().reply().by_hand("cancel").log[-1]
    assert (entry.kind, entry.path, entry.code, entry.detail) == ("operator", "", "cancel", "ada: because")
    assert [entry.kind for entry in rest] == ["compensating", "undo-issued"]
    (resumed, *_), (retried, *_) = (
        Talk().reply().reply().let_time_pass().by_hand("resume").log[-1],
        Talk().reply().fail().by_hand("retry-step").log[-1],
    )
    assert (resumed.code, resumed.path, retried.code, retried.path) == ("resume", "2", "retry-step", "1")


# --- at random


@st.composite
def sagas(draw: st.DrawFn) -> Saga:
    """Up to four steps, conditions and rests, nested at will; from the pivot on nothing has a compensation."""
    number = draw(st.integers(1, 4))
    pivot = draw(st.integers(0, number))
    names = (f"s{i}" for i in count())
    return saga_of("any", [_outermost(draw, names, i, pivot) for i in range(number)])


def _outermost(draw: st.DrawFn, names: Iterator[str], number: int, pivot: int) -> Any:
    if number == pivot:
        return step(next(names), undo=False, pivot=True)
    return _node(draw, names, draw(st.integers(0, 2)), undoable=number < pivot)


def _node(draw: st.DrawFn, names: Iterator[str], depth: int, *, undoable: bool) -> Any:
    """Make one node with others inside, up to a depth."""
    leaves = ["step", "step", "sleep", "await"]
    kinds = [*leaves, "when", "parallel", "each"] if depth else leaves
    kind = draw(st.sampled_from(kinds))
    if kind == "sleep":
        return Sleep(draw(st.sampled_from([1, 60])))
    if kind == "await":
        return Await(Go, deadline=60, early=draw(st.booleans()), late=draw(st.sampled_from(["ignore", "park"])))
    if kind == "step":
        undo, late = undoable and draw(st.booleans()), draw(st.sampled_from(["ignore", "park"]))
        return step(next(names), undo=undo, late=late, retryable=draw(st.sampled_from([(), ("no",)])), tries=2)

    def several(least: int) -> list[Any]:
        return [_node(draw, names, depth - 1, undoable=undoable) for _ in range(draw(st.integers(least, 2)))]

    fail = draw(st.sampled_from(["fast", "wait"]))
    if kind == "when":
        holds = draw(st.booleans())
        return When(lambda _data: holds, several(1), otherwise=several(0))
    if kind == "parallel":
        return Parallel(*(several(1) for _ in range(draw(st.integers(2, 3)))), fail=fail)
    items = draw(st.lists(st.sampled_from(["ada", "b/c", "then", "0"]), max_size=3, unique=True))
    return ForEach(listing(items), str, several(1), at_most=draw(st.integers(1, 3)), fail=fail)


def listing(items: list[str]) -> Callable[[Any], list[str]]:
    def listed(_data: Any) -> list[str]:
        return items

    listed.__annotations__["return"] = list[str]
    return listed


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
    """Let one thing happen: a command or reply arrives (again), a deadline, silence, an operator who may be refused."""
    choice = draw.draw(st.sampled_from(["command", "command", "reply", "reply", "due", "silent", "signal", "by hand"]))
    if choice == "command" and talk.sent:
        replies.append(world.receive(draw.draw(st.sampled_from(talk.sent))))
    elif choice == "reply" and replies:
        talk.hear(draw.draw(st.sampled_from(replies)))
    elif choice == "due":
        talk.let_time_pass()
    elif choice == "silent":
        talk.hear(Silent(draw.draw(st.sampled_from(["", *talk.progress.branches]))))
    elif choice == "signal":
        with suppress(DomainError):
            talk.hear(Signalled(Go()))
    elif choice == "by hand":
        with suppress(DomainError):
            talk.by_hand(draw.draw(st.sampled_from(["resume", "retry-step", "compensate", "cancel"])))


def deliver_the_rest(talk: Talk, world: World) -> None:
    """Everything that was sent arrives, and every reply, until nothing moves any more."""
    seen = -1
    while seen != len(talk.log):
        seen = len(talk.log)
        assert seen < 200, "the log grows for ever"
        for outgoing in list(talk.sent):
            talk.hear(world.receive(outgoing))
        if any(branch.resting for branch in talk.branches.values()):
            talk.let_time_pass()


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
    if progress.status == "COMPLETED":
        assert {state.status for state in progress.all_steps.values()} <= {"done", "then", "else", "joined"}
    if progress.status == "COMPENSATED":
        undoable = [step for path, step in progress.all_steps.items() if step.command and saga.step(path).undo]
        kept = [identifier for step in undoable for identifier in (step.command_id, *step.former)]
        assert not any(world.done.get(identifier) for identifier in kept)


def is_in_hand(progress: Progress, branch: Branch) -> bool:
    return branch.state == ("going-back" if progress.compensating else "open")


def check(saga: Saga, talk: Talk) -> None:
    """What holds after every move."""
    progress = talk.progress
    assert folded(saga, talk.log) == progress
    for path, branch in talk.branches.items():
        waits = branch.outstanding(compensating=progress.compensating) or branch.resting
        assert (branch.wake_at is not None) <= (bool(waits) and not branch.stuck), path
    if progress.status in ACTIVE:
        assert any(branch.wake_at is not None for branch in talk.branches.values())
    assert (progress.status == "SUSPENDED") == any(branch.stuck for branch in talk.branches.values())
    for path in {fork_of(path) for path in progress.branches if path}:
        in_hand = [one for at, one in progress.branches.items() if fork_of(at) == path and is_in_hand(progress, one)]
        assert len(in_hand) <= getattr(saga.at(path), "at_most", 3)
    undos = {(outgoing.command_id, outgoing.body.undoes) for outgoing in talk.sent if outgoing.body.undoes}
    anew = [entry.code for entries in talk.log for entry in entries if entry.kind == "operator"].count("retry-step")
    assert len(undos) <= len({undoes for _, undoes in undos}) + anew
    ends = [kind for kind in talk.kinds if kind == "ended"]
    assert len(ends) <= 1
