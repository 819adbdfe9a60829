"""Hold the token buckets to their arithmetic, and to a bounded memory."""

from __future__ import annotations

import pytest

from pulsaga.web.access import limits
from pulsaga.web.access.limits import Buckets, Rate, rate_of


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50/s burst 100", Rate(0.02, 100)), ("30/m", Rate(2.0, 30)), ("1/s", Rate(1.0, 1))],
)
def test_a_rate_is_read_as_people_say_it(text: str, rate: Rate) -> None:
    """It is a setting."""
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "many", "0/s", "5/s burst 0", "5/h", "-1/s", "5 / s", "1e3/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    """A limit that was misread would protect nobody."""
    with pytest.raises(ValueError, match="burst"):
        rate_of(text)


def test_a_burst_gets_through_and_then_the_rate() -> None:
    """What a caller may rely on: `burst` at once, `rate` for ever, and the truth about when to come back."""
    buckets = Buckets(Rate(0.5, 4))
    assert [buckets.take("a", 100.0).wait_s for _ in range(6)] == [0, 0, 0, 0, 0.5, 0.5]
    assert buckets.take("b", 100.0).wait_s == 0
    through = sum(not buckets.take("a", 100.0 + tick / 10).wait_s for tick in range(101))
    assert through == 20


def test_what_is_left_is_told() -> None:
    """Callers pace themselves by it."""
    buckets = Buckets(Rate(0.5, 4))
    assert [buckets.take("a", 0.0).left for _ in range(5)] == [3, 2, 1, 0, 0]
    assert buckets.take("a", 1.0).left == 1


def test_a_refused_request_costs_nothing() -> None:
    """Whoever hammers on is let in again as soon as one who waited."""
    buckets = Buckets(Rate(1.0, 1))
    assert buckets.take("a", 0.0).wait_s == 0
    assert all(buckets.take("a", 0.5).wait_s == 0.5 for _ in range(100))
    assert buckets.take("a", 1.0).wait_s == 0


def test_a_crowd_of_names_is_forgotten_but_for_who_has_spent_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are free for an attacker, memory is not; and inventing names must not empty one's own slate."""
    monkeypatch.setattr(limits, "LARGEST", 100)
    buckets = Buckets(Rate(1.0, 3))
    for _ in range(3):
        buckets.take("greedy", 0.0)
    for number in range(1000):
        buckets.take(f"n{number}", 0.001 * number)
        assert len(buckets._full_at) <= 101
    assert buckets.take("greedy", 1.0).wait_s > 0 or buckets.take("greedy", 1.0).left <= 1
