"""Tick by cron expressions: in time zones, over the hours of a change of clocks, and those that never come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest
from tests.unit.test_branches import step

from pulsaga import DefinitionError, Saga, Schedule, System, command


@command("s.tidy")
@dataclass(frozen=True)
class Tidy:
    at: str = ""


def tidy(at: datetime) -> Tidy:
    return Tidy(at.isoformat())


def schedule(cron: str = "0 3 * * *", **rest: Any) -> Schedule:
    return Schedule("nightly", cron, **{"command": tidy, **rest})


def ticks(one: Schedule, after: str, number: int) -> list[str]:
    began = datetime.fromisoformat(after).replace(tzinfo=one.zone).timestamp()
    return [one.local(tick).isoformat() for tick in islice(one.ticks(began), number)]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 3 * * *", "UTC", "2026-01-31T02:59", ["2026-01-31T03:00:00+00:00", "2026-02-01T03:00:00+00:00"]),
        ("0 3 * * *", "UTC", "2026-01-31T03:00", ["2026-02-01T03:00:00+00:00"]),
        ("*/15 * * * *", "UTC", "2026-01-31T23:50", ["2026-02-01T00:00:00+00:00", "2026-02-01T00:15:00+00:00"]),
        ("0 9 * * mon", "America/Bogota", "2026-01-31T00:00", ["2026-02-02T09:00:00-05:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00:00+00:00"]),
    ],
)
def test_a_schedule_ticks_in_its_own_time_zone(cron: str, zone: str, after: str, expected: list[str]) -> None:
    """As crontab(5) has it."""
    assert ticks(schedule(cron, timezone=zone), after, len(expected)) == expected


BERLIN_FORWARD, BERLIN_BACK = "2026-03-28T12:00", "2026-10-24T12:00"
"""Clocks go from 02:00 to 03:00 on 29 March, and from 03:00 back to 02:00 on 25 October."""


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("30 2 * * *", BERLIN_FORWARD, ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        ("30 2 * * *", BERLIN_BACK, ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("0 3 * * *", BERLIN_FORWARD, ["2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"]),
        ("0 3 * * *", BERLIN_BACK, ["2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"]),
    ],
    ids=["left-out", "twice", "behind-the-gap", "behind-the-repeat"],
)
def test_what_has_a_fixed_hour_starts_once_a_day_also_when_clocks_change(
    cron: str, after: str, expected: list[str]
) -> None:
    """Neither not at all, where the hour is left out, nor twice, where it is repeated."""
    assert ticks(schedule(cron, timezone="Europe/Berlin"), after, 2) == expected


@pytest.mark.parametrize(("after", "hours"), [("2026-03-29T00:30", 4), ("2026-10-25T00:30", 6)])
def test_what_starts_every_hour_starts_every_hour(after: str, hours: int) -> None:
    """By the time that really passes."""
    one = schedule("0 * * * *", timezone="Europe/Berlin")
    began = datetime.fromisoformat(after).replace(tzinfo=one.zone).timestamp()
    found = list(islice(one.ticks(began), hours))
    assert {later - earlier for earlier, later in zip(found, found[1:], strict=False)} == {3600.0}
    assert found[0] == began + 1800


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: schedule("nightly"), "'nightly'"),
        (lambda: schedule("61 * * * *"), "'61 "),
        (lambda: schedule("0 0 30 2 *"), "Bad day-of-month"),
        (lambda: schedule(""), "''"),
        (lambda: schedule(timezone="Mars/Olympus"), "'Mars/Olympus' is no time zone"),
        (lambda: schedule(timezone="../etc"), "'../etc' is no time zone"),
        (lambda: schedule(catch_up=0), "catch_up 0 s"),
    ],
    ids=["word", "minute", "never", "empty", "zone", "path", "catch-up"],
)
def test_a_schedule_that_cannot_tick_is_refused_where_it_is_written(make: Callable[[], Schedule], why: str) -> None:
    """A slip in a cron expression would be noticed by the absence of something, a year later."""
    with pytest.raises(DefinitionError, match=f"schedule nightly: .*{why}"):
        make()


def test_a_schedule_starts_a_workflow_of_the_system_and_has_a_name_of_its_own() -> None:
    """Else it would start nothing, or two things under one name."""
    flow = Saga("tidy", starts=Tidy, data=Tidy, subject=lambda tidy: tidy.at, steps=[step("a")])
    with pytest.raises(DefinitionError, match="schedule nightly starts s.tidy, by which no workflow starts"):
        System("s", schedules=[schedule()])
    assert flow.starts is schedule().starts


def test_a_tick_is_told_in_the_schedules_zone() -> None:
    """What the command is made of."""
    one = schedule(timezone="Europe/Berlin")
    tick = one.after(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
    assert one.command(one.local(tick)) == Tidy("2026-06-01T03:00:00+02:00")
