"""Wait for signals: in time, early, twice, late, from nobody; forward, back and in front of an operator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.unit.test_branches import Done, Known, Start, Walk, each, saga, step

from pulsaga import (
    BEARER,
    Await,
    Child,
    DefinitionError,
    DomainError,
    ForEach,
    Parallel,
    Sleep,
    Step,
    command,
    event,
)
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.happenings import Cancelled, Signalled


@command("s.confirm")
@dataclass(frozen=True)
class Confirm:
    n: int = 0


@command("s.deny")
@dataclass(frozen=True)
class Deny:
    why: str = ""


@event("other.happened")
@dataclass(frozen=True)
class Happened:
    n: int = 0


def wait(signal: type = Confirm, **rest: Any) -> Await[Known]:
    return Await(signal, **{"deadline": 100.0, **rest})


def refusal(walk: Walk, signal: Any) -> str:
    """Send a signal that is refused; return the code. Nothing has changed."""
    before = walk.progress
    with pytest.raises(DomainError) as no:
        walk.hear(Signalled(signal))
    assert walk.progress is before
    return no.value.code


def test_a_saga_goes_on_with_what_the_signal_says() -> None:
    """Until then nothing is outstanding, and nobody is asked again."""
    walk = Walk(saga(step("a"), wait(learn=lambda known, signal: replace(known, sum=signal.n)), step("z"))).done("a")
    assert (walk.waits_for, walk.progress.wake_at, walk.progress.sent_at) == (set(), 1100.0, None)
    assert walk.hear(Signalled(Confirm(7))).waits_for == {"z"}
    assert walk.known.sum == 7


def test_twice_counts_once() -> None:
    """Whoever clicks again, while the saga goes on or after its end, is no trouble to anybody."""
    walk = Walk(saga(wait(), step("z"))).hear(Signalled(Confirm(1)))
    for _ in range(2):
        moves = walk.progress.seq
        walk.hear(Signalled(Confirm(2)))
        assert walk.progress.seq == moves
        walk.done("z")
    assert walk.status == "COMPLETED"


def test_an_early_signal_is_refused_or_kept_where_that_is_declared() -> None:
    """Kept, it counts when the saga gets there; the first of them."""
    assert refusal(Walk(saga(step("a"), wait())), Confirm()) == "not-awaited-yet"
    learning = wait(early=True, learn=lambda known, signal: replace(known, sum=signal.n))
    walk = Walk(saga(step("a"), learning, step("z"))).hear(Signalled(Confirm(1))).hear(Signalled(Confirm(2)))
    assert walk.kinds.count("kept") == 1
    assert walk.done("a").waits_for == {"z"}
    assert (walk.known.sum, walk.progress.early) == (1, {})


def test_a_kept_signal_is_taken_once() -> None:
    """Where a workflow waits for two of one kind, it needs two."""
    walk = Walk(saga(step("a"), wait(early=True), wait(early=True), step("z"))).hear(Signalled(Confirm()))
    assert walk.done("a").waits_for == set()
    assert walk.hear(Signalled(Confirm())).waits_for == {"z"}


def test_a_signal_that_the_workflow_never_waits_for_is_refused() -> None:
    """Whoever sends it hears so, and the saga goes on as if nothing had been."""
    assert refusal(Walk(saga(wait())), Deny()) == "not-awaited"


def test_a_deadline_gives_the_saga_up_and_what_comes_then_follows_its_policy() -> None:
    """Parked, it is in front of an operator, once."""
    for late, kind in (("park", "parked"), ("ignore", "late")):
        walk = Walk(saga(step("a"), wait(late=late))).done("a").passes(101)
        assert (walk.status, walk.waits_for, walk.progress.reason[0]) == ("COMPENSATING", {"-a"}, "timed-out")
        assert "no s.confirm within its deadline" in walk.progress.reason[1]
        walk.hear(Signalled(Confirm())).hear(Signalled(Confirm()))
        assert walk.kinds.count(kind) == 1
        assert walk.done("-a").status == "COMPENSATED"
        walk.hear(Signalled(Confirm()))
        assert walk.kinds.count(kind) == 1


def test_after_its_end_a_saga_that_never_waited_refuses() -> None:
    """Early or late: nobody will ever take it."""
    for early in (False, True):
        walk = Walk(saga(step("a"), wait(early=early))).refused("a")
        assert (walk.status, refusal(walk, Confirm())) == ("COMPENSATED", "not-awaited")


def test_behind_the_pivot_an_operator_is_asked_and_may_wait_again() -> None:
    """The signal may still come, before that and after."""
    late = Walk(saga(step("a", undo=False, pivot=True), wait(), step("z", undo=False))).done("a").passes(101)
    assert (late.status, late.progress.reason[0]) == ("SUSPENDED", "timed-out")
    with pytest.raises(DomainError, match="s.confirm may still be answered"):
        late.by_hand("retry-step")
    assert late.by_hand("resume").status == "RUNNING"
    assert late.progress.wake_at == late.now + 100
    assert late.passes(101).status == "SUSPENDED"
    assert late.hear(Signalled(Confirm())).waits_for == {"z"}
    assert late.status == "RUNNING"


def test_a_cancel_reaches_a_saga_that_waits() -> None:
    """Nobody has to sit the deadline out."""
    walk = Walk(saga(step("a"), wait())).done("a").hear(Cancelled("ada"))
    assert walk.waits_for == {"-a"}


def test_branches_wait_each_for_their_own_and_two_for_one_in_turn() -> None:
    """What is waited for in a branch that was given up on is late."""
    walk = Walk(saga(Parallel([wait(), step("a")], [wait(Deny), step("b")], [wait(), step("c")])))
    assert walk.hear(Signalled(Deny())).waits_for == {"b"}
    assert walk.hear(Signalled(Confirm())).waits_for == {"a", "b"}
    assert walk.hear(Signalled(Confirm())).waits_for == {"a", "b", "c"}
    failed = Walk(saga(Parallel(wait(deadline=10.0), [Sleep(50), step("b")], fail="wait"))).passes(11)
    assert failed.hear(Signalled(Confirm())).kinds[-1] == "parked"
    assert failed.status == "RUNNING"


# --- what cannot be declared


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([wait(Start)], "which answers a step or starts a workflow"),
        ([step("a"), wait(Done)], "step 2 waits for s.done: a command of s is needed, or an event of a service"),
        ([each(), Parallel(step("a"), [wait(Happened, learn=lambda known, _: known)])], ""),
        ([wait(learn=lambda known, _: known)], ""),
    ],
    ids=["start", "own-event", "event", "command"],
)
def test_a_signal_is_a_command_of_the_system_or_an_event_of_a_service(steps: list[Any], why: str) -> None:
    """Anything else would be waited for in vain."""
    coordinator = Coordinator("s", [saga(*steps)], __name__)
    if not why:
        coordinator.check()
        return
    with pytest.raises(DefinitionError, match=why):
        coordinator.check()


def test_a_signal_in_an_item_says_of_which_it_is() -> None:
    """A thousand items would wait for one signal, and the first would take it."""
    with pytest.raises(DefinitionError, match="step 1, each, step 1 waits for s.confirm, which says not of which item"):
        Coordinator("s", [saga(ForEach(lambda known: known.items, lambda item: item.name, [wait()]))], __name__).check()


def test_a_signal_is_learnt_by_what_takes_it() -> None:
    """The slip would show years later, at the first signal."""

    def takes_another(known: Known, _signal: Deny) -> Known:
        return known

    with pytest.raises(DefinitionError, match="the `learn` of s.confirm takes another message"):
        Coordinator("s", [saga(wait(learn=takes_another))], __name__).check()


@command("other.bring", replies=(Done,))
@dataclass(frozen=True)
class Bring:
    sealed_token: str = ""


def brings(signal: type = Confirm, **rest: Any) -> Step[Known]:
    return Step(lambda _known: Bring(), token_for=signal, deadline=60.0, **rest)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([brings(), wait(by=BEARER)], ""),
        ([brings(), brings(), wait(by=BEARER, early=True)], ""),
        ([wait(by=BEARER)], "step 1 waits for s.confirm, for which no step brings a token"),
        ([brings(Deny), wait(Deny), brings(), wait(by=BEARER)], "step 1 brings a token for s.deny, which nobody who"),
        ([step("a", token_for=Confirm), wait(by=BEARER)], "step 1 brings a token: s.do has no text field sealed_token"),
        ([brings(), wait(by=BEARER), wait(by=BEARER)], "step 2 waits for s.confirm, as another step does: a token"),
        ([wait(by="admin"), brings(), wait(by=BEARER)], "step 1 waits for s.confirm, which whoever bears a token may"),
        ([wait(Happened, by="admin")], "step 1 waits for other.happened, an event: a service tells it, and no caller"),
        (
            [Child(lambda _known: Start(), token_for=Confirm, deadline=60.0), wait(by=BEARER)],
            "step 1 starts a workflow, which brings nobody a token for s.confirm",
        ),
    ],
)
def test_a_token_is_for_one_signal_that_a_step_brings(steps: list[Any], why: str) -> None:
    """Or whoever bears it would open nothing, or too much."""
    coordinator = Coordinator("s", [saga(*steps)], __name__)
    if not why:
        coordinator.check()
        return
    with pytest.raises(DefinitionError, match=why):
        coordinator.check()


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("inf")])
def test_nothing_is_waited_for_for_ever(deadline: float) -> None:
    """Whoever means years says so."""
    with pytest.raises(ValueError, match="an Await of"):
        wait(deadline=deadline)
