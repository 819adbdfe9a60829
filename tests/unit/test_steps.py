"""Talk with workflows of every kind of step: as the guide shows them, at their edges, and as they are refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pulsaga import DefinitionError, DomainError, Every, Saga, Sleep, Step, When, command, event
from pulsaga.saga.happenings import Due, Refused, Silent
from pulsaga.testing import given

GUIDE = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)


@event("s.done")
@dataclass(frozen=True)
class Done:
    n: int = 0


@command("s.do", replies=(Done,))
@dataclass(frozen=True)
class Do:
    what: str


@command("s.undo", replies=(Done,))
@dataclass(frozen=True)
class Undo:
    undoes: str


@command("s.start")
@dataclass(frozen=True)
class Start:
    n: int


def step(what: str, **rest: Any) -> Step[Any]:
    def do(_data: Any) -> Do:
        return Do(what)

    return Step(do, undo=lambda _data, undoes: Undo(undoes), deadline=60, **rest)


def saga(*steps: Any) -> Saga[Any]:
    return Saga("any", starts=Start, data=Start, subject=lambda start: str(start.n), steps=steps)


@pytest.fixture(scope="module")
def guide() -> Iterator[ModuleType]:
    """The guide's code as a module: what it declares knows where it was declared."""
    module = sys.modules["workflows_guide"] = ModuleType("workflows_guide")
    yield module
    del sys.modules["workflows_guide"]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_guide_tells_what_happens(guide: ModuleType, number: int) -> None:
    """An example that no longer works costs its reader an afternoon; they stand in the order in which they are read."""
    exec(compile(BLOCKS[number], f"docs/workflows.md, block {number + 1}", "exec"), vars(guide))  # noqa: S102 - the guide is ours


# --- conditions


@pytest.mark.parametrize(("n", "taken"), [(1, ["a", "b", "z"]), (0, ["z"])])
def test_a_condition_without_another_way_is_passed_over(n: int, taken: list[str]) -> None:
    """Nothing is sent, nothing is waited for."""
    within = When(lambda _start: True, [step("b")])
    talk = given(saga(When(lambda start: start.n > 0, [step("a"), within]), step("z")), Start(n))
    for what in taken:
        talk.sends(Do(what)).replies(Done())
    talk.ends("COMPLETED")


def test_what_was_taken_is_undone_in_reverse() -> None:
    """Nested or not, the last done is the first undone."""
    talk = given(saga(step("a"), When(lambda _start: True, [step("b"), step("c")]), step("d")), Start(1))
    done = [talk.sends(Do(what)).replies(Done()) for what in "abc"]
    talk.sends(Do("d")).refuses("no")
    for sent in reversed(done):
        talk.sends(Undo(sent.command_id)).replies(Done())
    talk.ends("COMPENSATED", reason="no")


def test_a_condition_is_decided_once() -> None:
    """A release that decides otherwise must not lead a saga off the way that it has taken."""
    wish = {"holds": True}
    talk = given(saga(When(lambda _start: wish["holds"], [step("a"), step("b")], otherwise=[step("c")])), Start(1))
    asked = talk.sends(Do("a"))
    wish["holds"] = False
    asked.replies(Done())
    talk.sends(Do("b")).replies(Done())
    talk.ends("COMPLETED")


# --- rests


def test_a_rest_is_over_when_its_time_has_come_and_not_before() -> None:
    """Nobody's answer, silence or early look ends it."""
    talk = given(saga(step("a"), Sleep(100), step("b")), Start(1))
    first = talk.sends(Do("a")).replies(Done())
    first.replies(Done())
    talk.hears(Silent())
    talk.passes(99).stands("RUNNING")
    talk.passes(1).sends(Do("b")).replies(Done())
    talk.ends("COMPLETED")


@pytest.mark.parametrize("until", [-5.0, 0.0, 50.0])
def test_a_time_that_has_passed_is_now(until: float) -> None:
    """The saga goes on at the next look."""
    talk = given(saga(Sleep(until=lambda _start: until), step("b")), Start(1), now=50.0)
    talk.hears(Due()).sends(Do("b"))


def test_nothing_rests_for_ever() -> None:
    """A time from somebody's form may be any."""
    talk = given(saga(Sleep(until=lambda _start: 1e12, at_most=10), step("b")), Start(1))
    talk.passes(10).sends(Do("b"))


def test_a_rest_that_a_wrong_clock_wrote_is_written_anew() -> None:
    """The clock was a day ahead and is put right: the saga must not sleep a day longer."""
    talk = given(saga(Sleep(10), step("b")), Start(1), now=86_400.0)
    talk.passes(-86_400)
    talk.passes(10).sends(Do("b"))


def test_a_saga_that_rests_at_its_end_ends_awake() -> None:
    """The last thing may be to wait."""
    talk = given(saga(step("a"), Sleep(10)), Start(1))
    talk.sends(Do("a")).replies(Done())
    talk.stands("RUNNING").passes(10).ends("COMPLETED")


# --- refusals that are tried again


def test_a_refusal_that_may_pass_is_tried_again_as_a_new_command() -> None:
    """A receiver repeats its answer to an id that it knows."""
    talk = given(saga(step("a", retryable=("busy",), retry=Every(5))), Start(1))
    first = talk.sends(Do("a")).refuses("busy")
    talk.passes(4).stands("RUNNING")
    second = talk.passes(1).sends(Do("a"))
    assert second.command_id != first.command_id
    second.replies(Done())
    talk.ends("COMPLETED")


def test_another_code_is_final_at_once() -> None:
    """Only what is listed may pass."""
    talk = given(saga(step("a", retryable=("busy",))), Start(1))
    talk.sends(Do("a")).refuses("sold-out")
    talk.ends("COMPENSATED", reason="sold-out")


def test_tries_are_counted_and_each_waits_longer() -> None:
    """Nothing is tried for ever."""
    talk = given(saga(step("a", retryable=("busy",), retry=Every(1, growth=3, at_most=5), tries=4)), Start(1))
    talk.sends(Do("a")).refuses("busy")
    for rest_s in (1, 3, 5):
        talk.passes(rest_s - 0.5).stands("RUNNING")
        talk.passes(0.5).sends(Do("a")).refuses("busy")
    talk.ends("COMPENSATED", reason="busy")


def test_the_answer_that_led_to_a_rest_counts_once() -> None:
    """Redelivery is normal, and so is an answer to what has been replaced."""
    talk = given(saga(step("a", retryable=("busy",), tries=2, retry=Every(5))), Start(1))
    first = talk.sends(Do("a")).refuses("busy").refuses("busy")
    second = talk.passes(5).sends(Do("a"))
    talk.hears(Refused(first.command_id, "busy", "")).stands("RUNNING")
    second.replies(Done())
    talk.ends("COMPLETED")


def test_a_saga_that_rests_before_another_try_is_cancelled_with_nothing_to_undo_there() -> None:
    """The refused command did nothing."""
    talk = given(saga(step("z"), step("a", retryable=("busy",))), Start(1))
    done = talk.sends(Do("z")).replies(Done())
    talk.sends(Do("a")).refuses("busy")
    talk.cancel().sends(Undo(done.command_id)).replies(Done())
    talk.ends("COMPENSATED", reason="cancelled")


# --- refused at the start


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([], "no steps"),
        ([When(lambda _start: True, [])], "step 1: a When without steps"),
        ([step("a"), When(lambda _start: True, [step("b", pivot=True)])], "step 2, then, step 1: every saga"),
        (
            [step("a"), When(lambda _start: True, [step("b")], otherwise=[step("c", pivot=True)])],
            "step 2, else, step 1",
        ),
        ([step("a", pivot=True), When(lambda _start: True, [step("b", pivot=True)])], "two pivots"),
    ],
)
def test_a_definition_that_cannot_work_is_refused_with_its_place(steps: list[Any], named: str) -> None:
    """Found in the night by the first saga that gets there, it would be found too late."""
    with pytest.raises(DefinitionError, match=named):
        saga(*steps)


@pytest.mark.parametrize(
    "make",
    [
        Sleep,
        lambda: Sleep(0),
        lambda: Sleep(5, until=lambda _data: 1.0),
        lambda: Sleep(float("inf")),
        lambda: Sleep(until=lambda _data: 1.0, at_most=float("inf")),
        lambda: Every(0),
        lambda: Every(5, growth=2),
        lambda: Every(5, growth=0.5),
        lambda: Every(5, jitter=1),
        lambda: Every(5, at_most=4),
        lambda: step("a", retryable="busy"),
        lambda: step("a", tries=0),
    ],
)
def test_what_would_never_end_or_never_begin_is_refused(make: Any) -> None:
    """A number that is wrong is wrong where it is written."""
    with pytest.raises(ValueError, match=r"\d|seconds"):
        make()


def test_jitter_strays_within_its_bounds_and_in_the_same_way_for_the_same_command() -> None:
    """The engine is pure: what it decides twice, it decides alike."""
    retry = Every(10, jitter=0.2)
    strayed = {retry.after(1, f"command-{number}") for number in range(1000)}
    assert 8 <= min(strayed) < 8.2
    assert 11.8 < max(strayed) <= 12 == retry.longest
    assert retry.after(1, "command-1") == retry.after(1, "command-1") != retry.after(2, "command-1")


def test_growth_ends_at_its_bound_after_any_number_of_attempts() -> None:
    """An attempt of a saga that has asked for a week."""
    assert Every(1, growth=10, at_most=60).after(10**9, "c") == 60


def test_a_cancelled_rest_past_the_pivot_is_refused() -> None:
    """What cannot be called back cannot be called back because it rests."""
    talk = given(saga(step("a", pivot=True), Sleep(10), step("b")), Start(1))
    talk.sends(Do("a")).replies(Done())
    with pytest.raises(DomainError, match="past-pivot"):
        talk.cancel()
