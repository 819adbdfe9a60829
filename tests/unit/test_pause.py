"""Pause a saga wherever it stands: nothing happens to it until it is resumed, cancelled or given up."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.test_branches import Walk, each, saga, step
from tests.unit.test_signals import Confirm, wait

from pulsaga import DomainError, Limit, Parallel, Sleep, Unavailable
from pulsaga.saga.happenings import Cancelled, Due, Granted, Happening, Replied, Signalled, Silent

LIMITED = step("a", limit=Limit("few", at_most=1, wait=30.0))
HAPPENINGS: list[Happening] = [Replied("c1", None), Due(), Silent(), Granted("0"), Signalled(Confirm())]


def paused(*steps: Any, done: tuple[str, ...] = ()) -> Walk:
    return Walk(saga(*steps), "p", "q").done(*done).by_hand("pause")


@pytest.mark.parametrize(
    "steps", [[step("a")], [Sleep(5)], [wait()], [LIMITED], [Parallel(step("a"), wait())], [each()]]
)
def test_nothing_happens_to_a_paused_saga(steps: list[Any]) -> None:
    """What comes waits outside, its answers too; an operator sees why."""
    walk = paused(*steps)
    assert (walk.status, walk.progress.reason) == ("SUSPENDED", ("paused", "paused by ada: because"))
    before = walk.progress
    for happening in HAPPENINGS:
        with pytest.raises(Unavailable):
            walk.hear(happening)
    assert walk.progress is before
    for action in ("pause", "retry-step"):
        with pytest.raises(DomainError, match="the saga is"):
            walk.by_hand(action)  # type: ignore[arg-type]


def test_a_resumed_saga_asks_again_and_has_its_whole_time() -> None:
    """Its answer may have come in between, and is given again; the deadline counts from now."""
    walk = paused(step("a"), step("b"))
    walk.now += 1000
    assert walk.by_hand("resume").status == "RUNNING"
    assert [sent.body.what for sent in walk.sent] == ["a", "a"]
    assert walk.sent[0] == walk.sent[1]
    assert walk.progress.wake_at == walk.now + 60
    assert walk.done("a").waits_for == {"b"}


def test_what_sleeps_wakes_when_it_would_have_and_what_is_waited_for_has_its_time_again() -> None:
    """A pause is no reason to sleep longer, and none to be too late."""
    asleep = paused(Sleep(50), step("z"))
    asleep.now += 60
    assert asleep.by_hand("resume").hear(Due()).waits_for == {"z"}
    waiting = paused(wait(), step("z"))
    waiting.now += 1000
    assert waiting.by_hand("resume").progress.wake_at == waiting.now + 100
    assert waiting.hear(Signalled(Confirm())).waits_for == {"z"}
    queued = paused(LIMITED)
    queued.now += 1000
    assert queued.by_hand("resume").progress.wake_at == queued.now + 30
    assert queued.hear(Granted("0")).waits_for == {"a"}


def test_branches_go_on_each_where_it_stood() -> None:
    """Items too, and those whose turn had not come."""
    walk = Walk(saga(Parallel([step("a"), step("b")], [Sleep(5), step("c")], each(at_most=1))), "p", "q").done("a")
    walk.by_hand("pause")
    walk.now += 500
    walk.by_hand("resume")
    assert walk.waits_for == {"b", "p"}
    assert walk.passes(0).waits_for == {"b", "p", "c"}
    assert walk.done("b", "c", "p", "q").status == "COMPLETED"


def test_the_way_back_can_be_paused_too() -> None:
    """Also in branches."""
    walk = Walk(saga(Parallel(step("a"), step("b")), step("c"))).done("a", "b").refused("c")
    walk.by_hand("pause")
    with pytest.raises(DomainError, match="being compensated already"):
        walk.hear(Cancelled("ada"))
    assert walk.by_hand("resume").status == "COMPENSATING"
    assert walk.done("-a", "-b").status == "COMPENSATED"
    assert walk.progress.reason[0] == "no"


@pytest.mark.parametrize("way", ["cancel", "compensate", "caller"])
def test_a_paused_saga_can_be_given_up(way: Any) -> None:
    """Nobody has to let it go on first."""
    walk = paused(step("a"), step("b"), done=("a",))
    if way == "caller":
        walk.hear(Cancelled("ada"))
    else:
        walk.by_hand(way)
    assert (walk.status, walk.progress.paused) == ("COMPENSATING", False)
    assert walk.done("-b", "-a").status == "COMPENSATED"


def test_what_is_stuck_or_has_ended_is_not_paused() -> None:
    """It is in front of an operator already, or in nobody's hands."""
    stuck = Walk(saga(step("a", undo=False, pivot=True))).passes(61)
    ended = Walk(saga(step("a"))).done("a")
    for walk in (stuck, ended):
        with pytest.raises(DomainError, match="the saga"):
            walk.by_hand("pause")
