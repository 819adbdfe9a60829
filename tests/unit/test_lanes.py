"""Bound the calls in flight: what is slow holds up its own caller and receiver."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pulsaga.delivery.transaction.rows import Row
from pulsaga.web.front_door.callbacks.lanes import (
    FIRST_WIDTH,
    IN_FLIGHT,
    PER_ACTOR,
    PER_RECEIVER,
    REMEMBERED,
    WIDEST,
    Lanes,
)


def to(actor: str, receiver: str) -> Row:
    return {"actor": actor, "receiver": receiver}


def begin(lanes: Lanes, *rows: Row) -> Sequence[Row]:
    """Begin the calls that may begin, as the sender does."""
    begun = list(lanes.fitting(rows))
    for row in begun:
        lanes.enter(row)
    return begun


def test_a_receiver_of_a_caller_takes_a_few_at_first_and_the_others_wait_for_nothing() -> None:
    """It may hang; nobody knows yet."""
    lanes = Lanes()
    assert len(begin(lanes, *[to("ada", "slow:443")] * 100, to("ada", "other:443"))) == FIRST_WIDTH + 1
    assert len(begin(lanes, *[to("ada", "slow:443")] * 100)) == 0


def test_a_lane_becomes_wider_by_what_is_taken_and_half_as_wide_by_what_is_not() -> None:
    """A healthy receiver is called as fast as it takes, one that hangs by one thread."""
    lanes, row = Lanes(), to("ada", "caller:443")
    for _ in range(100):
        lanes.learn(row, taken=True)
    assert len(list(lanes.fitting([row] * 100))) == WIDEST
    lanes.learn(row, taken=False)
    assert len(list(lanes.fitting([row] * 100))) == WIDEST // 2
    for _ in range(100):
        lanes.learn(row, taken=False)
    assert len(list(lanes.fitting([row] * 100))) == 1


def test_a_caller_with_many_receivers_is_bounded() -> None:
    """Names cost nothing."""
    lanes = Lanes()
    begun = begin(lanes, *[to("eve", f"host-{number}:443") for number in range(1000)], to("ada", "caller:443"))
    assert len(begun) == PER_ACTOR + 1


@pytest.mark.parametrize("callers", [2, 4, 6, 20])
def test_callers_that_take_all_they_can_leave_room_for_another(callers: int) -> None:
    """Four together held all there was, for as long as their receivers hung; nobody else was called."""
    lanes = Lanes()
    for _ in range(3):
        begin(lanes, *[to(f"eve-{n % callers}", f"host-{n}:443") for n in range(2000)])
    assert begin(lanes, to("ada", "caller:443"))
    assert "false" not in str(lanes.open())


def test_a_receiver_of_many_callers_is_bounded() -> None:
    """A service that all of them use may be away; whoever uses another must not notice."""
    lanes = Lanes()
    begun = begin(lanes, *[to(f"caller-{number}", "shared:443") for number in range(1000)], to("ada", "caller:443"))
    assert len(begun) == PER_RECEIVER + 1


def test_all_calls_together_are_bounded() -> None:
    """Each holds a thread and a socket."""
    lanes = Lanes()
    assert len(begin(lanes, *[to(f"caller-{n}", f"host-{n}:443") for n in range(1000)])) == IN_FLIGHT
    assert str(lanes.open()) == "false"


def test_a_call_that_ended_makes_room() -> None:
    """Also in a lane that became narrower while it was full."""
    lanes, row = Lanes(), to("ada", "caller:443")
    for call in begin(lanes, *[row] * FIRST_WIDTH):
        lanes.leave(call)
        lanes.learn(call, taken=False)
    assert len(begin(lanes, *[row] * 100)) == 1


def test_what_is_remembered_of_receivers_is_bounded() -> None:
    """Whoever names a new one each time must not fill the memory."""
    lanes = Lanes()
    for number in range(2 * REMEMBERED):
        lanes.learn(to("eve", f"host-{number}:443"), taken=False)
    assert len(lanes._widths) <= REMEMBERED + 1
