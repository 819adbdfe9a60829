"""Wait for a turn under a limit: what is sent when, what time is used up, and what ends the wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.test_branches import Walk, saga, step

from pulsaga import DefinitionError, Limit, Step
from pulsaga.saga.coordinator import Coordinator
from pulsaga.saga.happenings import Cancelled, Granted

SCARCE = Limit("scarce", at_most=1, wait=100.0)


def limited(what: str, **rest: Any) -> Step[Any]:
    return step(what, limit=SCARCE, **rest)


def test_nothing_is_sent_before_its_turn() -> None:
    """And its deadline counts from then on."""
    walk = Walk(saga(limited("a"), step("z")))
    assert (walk.sent, walk.waits_for, walk.progress.wake_at) == ([], set(), 1100.0)
    walk.now += 90
    assert walk.hear(Granted("0")).waits_for == {"a"}
    assert walk.progress.wake_at == walk.now + 60
    assert walk.done("a").waits_for == {"z"}


def test_a_turn_is_taken_once() -> None:
    """A second one sends nothing, before the answer and after it."""
    walk = Walk(saga(limited("a"), step("z"))).hear(Granted("0"))
    for _ in range(2):
        moves = walk.progress.seq
        walk.hear(Granted("0"))
        assert walk.progress.seq == moves
        walk.done("a")


def test_who_waits_too_long_is_given_up_with_what_came_before() -> None:
    """As at a deadline; nothing of the step itself has to be undone."""
    walk = Walk(saga(step("a"), limited("b"))).done("a").passes(101)
    assert (walk.progress.reason[0], walk.waits_for) == ("timed-out", {"-a"})
    assert "no turn under the limit scarce" in walk.progress.reason[1]
    walk.hear(Granted("1"))
    assert walk.waits_for == {"-a"}


def test_behind_the_pivot_who_waits_too_long_asks_an_operator() -> None:
    """`resume` has it wait again; no turn is given meanwhile."""
    walk = Walk(saga(step("a", undo=False, pivot=True), limited("b", undo=False))).done("a").passes(101)
    assert walk.status == "SUSPENDED"
    assert walk.hear(Granted("1")).status == "SUSPENDED"
    assert walk.by_hand("resume").status == "RUNNING"
    assert walk.progress.wake_at == walk.now + 100
    assert walk.hear(Granted("1")).waits_for == {"b"}


@pytest.mark.parametrize("pivot", [False, True])
def test_a_cancel_reaches_who_waits_for_its_turn(pivot: bool) -> None:
    """Also at the pivot: nothing of it was sent."""
    walk = Walk(saga(step("a"), limited("b", undo=not pivot, pivot=pivot))).done("a").hear(Cancelled("ada"))
    assert walk.waits_for == {"-a"}
    assert walk.done("-a").status == "COMPENSATED"


def test_another_try_waits_for_another_turn() -> None:
    """Its slot was free while it rested."""
    walk = Walk(saga(limited("a", retryable=("busy",), tries=3))).hear(Granted("0")).refused("a", "busy")
    assert walk.passes(5).progress.steps["0"].status == "queued"
    first = walk.id_of("a")
    assert walk.hear(Granted("0")).waits_for == {"a"}
    assert walk.id_of("a") != first
    assert walk.done("a").status == "COMPLETED"


def test_a_limit_is_one() -> None:
    """Two numbers under one key would each hold for nobody."""
    other = limited("b")
    other = replace(other, limit=Limit("scarce", at_most=2))
    with pytest.raises(DefinitionError, match="the limit scarce is another one elsewhere"):
        Coordinator("s", [saga(limited("a"), other)], __name__).check()
    for wrong in ({"key": ""}, {"at_most": 0}, {"wait": 0.0}, {"wait": float("inf")}):
        with pytest.raises(ValueError, match="a key, at_most of 1 or more"):
            Limit(**{"key": "k", "at_most": 1, **wrong})  # type: ignore[arg-type]
