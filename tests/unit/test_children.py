"""Start other workflows: their ends as answers, on the way forward and back, and what cannot be started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.unit.test_branches import Known, Start, Walk, saga, step

from pulsaga import Child, DefinitionError, Parallel, Saga, Step, command
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.happenings import Cancelled, Refused, Replied
from pulsaga.saga.messages import CancelSaga


@command("s.pay")
@dataclass(frozen=True)
class Pay:
    what: str = "it"


@command("s.pay-back")
@dataclass(frozen=True)
class PayBack:
    payment: str = ""


@dataclass(frozen=True)
class Paid(Pay):
    sum: int = 0


def child(what: str = "c", *, undo: bool = False, **rest: Any) -> Child[Known]:
    undoing = (lambda _known, paid: PayBack(paid)) if undo else None
    return Child(
        lambda _known: Pay(what),
        undo=undoing,
        learn=lambda known, paid: replace(known, sum=paid.sum),
        deadline=100.0,
        **rest,
    )


PAYMENT = Saga("payment", starts=Pay, data=Paid, subject=lambda pay: pay.what, steps=[step("x")])
REFUND = Saga("refund", starts=PayBack, data=PayBack, subject=lambda pay: pay.payment, steps=[step("y", undo=False)])


def completes(walk: Walk, what: str = "c", total: int = 0) -> Walk:
    return walk.hear(Replied(walk.id_of(what), Paid(what, total)))


def gives_up(walk: Walk, what: str = "c", code: str = "no") -> Walk:
    return walk.hear(Refused(walk.id_of(what), code, "because"))


def last(walk: Walk) -> Any:
    return walk.sent[-1].body


def test_the_end_of_a_child_is_the_answer_and_its_data_what_is_learnt() -> None:
    """As if a service had done it."""
    walk = Walk(saga(child(), step("z")))
    assert last(walk) == Pay("c")
    assert completes(walk, total=7).waits_for == {"z"}
    assert walk.known.sum == 7


def test_a_child_that_was_given_up_refuses_with_its_reason() -> None:
    """It has undone itself, so there is nothing of it to undo."""
    walk = gives_up(Walk(saga(step("a"), child())).done("a"), code="broke")
    assert (walk.status, walk.progress.reason[0], walk.waits_for) == ("COMPENSATING", "broke", {"-a"})
    assert walk.done("-a").status == "COMPENSATED"


@pytest.mark.parametrize("how", ["cancel", "deadline", "neighbour"])
def test_a_child_that_still_runs_is_cancelled_and_its_end_is_waited_for(how: str) -> None:
    """Whatever made the saga give up; what came before is undone once the child is."""
    walk = Walk(saga(step("a"), Parallel(child(), step("b")))).done("a")
    started = walk.id_of("c")
    if how == "cancel":
        walk.hear(Cancelled("ada")).done("-b")
    elif how == "deadline":
        walk.done("b").passes(101).done("-b")
    else:
        walk.refused("b")
    assert CancelSaga(started) in [sent.body for sent in walk.sent]
    assert walk.status == "COMPENSATING"
    assert gives_up(walk, code="cancelled").waits_for == {"-a"}
    assert walk.done("-a").status == "COMPENSATED"


def test_a_child_that_runs_beside_what_cannot_be_undone_is_cancelled_all_the_same() -> None:
    """Nothing else in its branches has a way back, and they were passed over with it in them."""
    walk = Walk(saga(step("a"), Parallel(child(), step("b", undo=False)))).done("a").refused("b")
    assert CancelSaga(walk.id_of("c")) in [sent.body for sent in walk.sent]
    assert gives_up(walk, code="cancelled").waits_for == {"-a"}


def test_a_child_that_completes_though_it_was_to_be_cancelled_is_undone() -> None:
    """It was past its pivot, or its end crossed the cancel: the workflow that is declared for that undoes it."""
    walk = Walk(saga(step("a"), child(undo=True))).done("a").hear(Cancelled("ada"))
    cancel = walk.sent[-1].command_id
    walk.hear(Refused(cancel, "past-pivot", "too late"))
    assert walk.status == "COMPENSATING"
    started = walk.id_of("c")
    assert last(completes(walk)) == PayBack(started)
    assert walk.hear(Replied(walk.sent[-1].command_id, PayBack(started))).waits_for == {"-a"}
    assert walk.done("-a").status == "COMPENSATED"


@pytest.mark.parametrize(("late", "kind"), [("park", "parked"), ("ignore", "late")])
def test_without_a_way_back_a_completed_child_follows_its_policy(late: Any, kind: str) -> None:
    """Parked, an operator is told that it stands."""
    walk = Walk(saga(step("a"), child(late=late))).done("a").hear(Cancelled("ada"))
    assert completes(walk).waits_for == {"-a"}
    assert walk.kinds.count(kind) == 1
    assert walk.done("-a").status == "COMPENSATED"


def test_a_child_that_had_completed_is_undone_by_a_saga_of_its_own() -> None:
    """Terminal stays terminal: nothing of the first one moves."""
    walk = completes(Walk(saga(step("a"), child(undo=True), step("z"))).done("a")).refused("z")
    assert isinstance(last(walk), PayBack)
    refund = walk.sent[-1].command_id
    assert walk.hear(Refused(refund, "no", "closed")).status == "SUSPENDED"
    assert walk.by_hand("retry-step").status == "COMPENSATING"
    assert walk.sent[-1].command_id != refund
    assert walk.hear(Replied(walk.sent[-1].command_id, None)).waits_for == {"-a"}


def test_a_completed_child_without_a_way_back_is_passed_over() -> None:
    """As a step without a compensation is."""
    walk = completes(Walk(saga(step("a"), child(), step("z"))).done("a")).refused("z")
    assert walk.waits_for == {"-a"}


def test_a_child_that_does_not_end_while_it_is_cancelled_asks_an_operator() -> None:
    """It may itself be in front of one."""
    walk = Walk(saga(child())).hear(Cancelled("ada")).passes(101)
    assert (walk.status, walk.progress.reason[0]) == ("SUSPENDED", "timed-out")
    assert gives_up(walk).status == "COMPENSATED"


def test_a_child_is_asked_for_again_more_rarely_than_a_service() -> None:
    """It may run for days, and its coordinator has it."""
    assert child().retry.after(1, "") >= 60
    assert child().retry.longest <= 3600


# --- what cannot be declared


def check(*workflows: Saga[Any]) -> None:
    Coordinator("s", workflows, __name__).check()


def test_a_child_is_a_workflow_of_the_system() -> None:
    """So are those that undo one."""
    check(saga(child(undo=True)), PAYMENT, REFUND)
    with pytest.raises(DefinitionError, match="any@1, step 1 starts s.pay, by which no workflow starts"):
        check(saga(child()))
    with pytest.raises(DefinitionError, match="any@1, step 1 starts s.pay-back, by which no workflow starts"):
        check(saga(child(undo=True)), PAYMENT)


def test_a_workflow_that_would_start_itself_is_refused() -> None:
    """At once, or by way of its children or of what undoes them: it would never end."""
    itself = Saga("loop", starts=Pay, data=Paid, subject=lambda pay: pay.what, steps=[child()])
    with pytest.raises(DefinitionError, match="loop@1, step 1 starts loop, which would start itself"):
        check(itself)
    onward: Child[Any] = Child(lambda _known: Start(), deadline=60.0)
    back = Saga("back", starts=PayBack, data=PayBack, subject=lambda pay: pay.payment, steps=[onward])
    with pytest.raises(DefinitionError, match="which would start itself"):
        check(saga(child(undo=True)), PAYMENT, back)


def test_a_workflow_is_started_by_a_child_and_by_no_step() -> None:
    """Nobody would wait for its end."""
    with pytest.raises(DefinitionError, match="sends s.pay, which declares no replies"):
        check(saga(Step(lambda _known: Pay(), deadline=60.0)), PAYMENT)
