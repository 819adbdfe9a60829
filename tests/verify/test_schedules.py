"""Schedules on real databases: once a tick with many coordinators, after an outage, beside what still runs, by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest
from tests.service.desk import Desk, sit_down
from tests.service.stage import pass_time
from tests.verify.flows import fate_of, flow, lab_of, step
from tests.verify.lab import defects

from pulsaga.delivery.tables import audit, incident
from pulsaga.operate import schedules as operating
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.saga.calendar import Schedule
from pulsaga.saga.schedules import LOOK_S, OTHERS_S, start_by_schedule
from pulsaga.saga.tables import saga, schedule
from pulsaga.settings import Settings

HOUR_S = 3600.0
ADA = Signature("ada", "to see")


def hourly(pool: ModuleType, plan: str = "do", name: str = "hourly", cron: str = "0 * * * *", **rest: Any) -> Schedule:
    def start(at: datetime) -> Any:
        return pool.STARTS[0](at.isoformat(), plan)

    start.__annotations__["return"] = pool.STARTS[0]
    return Schedule(name, cron, command=start, **rest)


class Clockwork:
    """A system whose clock stands at a quarter past, with its schedules known."""

    def __init__(self, pool: ModuleType, settings: Settings, *schedules: Schedule) -> None:
        self.lab = lab_of(pool, settings, flow(pool, step(pool, 0, fate_of)), schedules=schedules)
        self.coordinator = self.lab.coordinator
        self.duty = start_by_schedule(self.coordinator.runtime)
        now = self.coordinator.runtime.transactions.run(lambda uow: uow.now)
        self.passes(HOUR_S - now % HOUR_S + 900)

    def passes(self, seconds: float) -> int:
        """Let time pass, and the duty have its turn; return how many sagas were started."""
        before = self.started
        self.lab.passed_s += seconds
        pass_time(self.coordinator, seconds)
        self.duty.work()
        return self.started - before

    @property
    def started(self) -> int:
        return len(self.coordinator.said("lab.start-0"))

    @property
    def runtimes(self) -> Runtimes:
        return Runtimes(self.lab.system, self.lab.settings, lambda name: self.lab.desks[name].runtime)

    def close(self) -> None:
        assert defects(self.lab.report()) == {}
        self.lab.close()


def test_a_tick_starts_one_saga(pool: ModuleType, settings: Settings) -> None:
    """And no other look does: the saga is for the time of its tick."""
    clock = Clockwork(pool, settings, hourly(pool))
    assert [clock.passes(seconds) for seconds in (60, 44 * 60 - 10, 20, 60, HOUR_S)] == [0, 0, 1, 0, 1]
    clock.lab.come_to_rest()
    subjects = sorted(row["subject"] for row in clock.coordinator.rows(saga))
    assert [subject[14:] for subject in subjects] == ["00:00+00:00"] * 2
    clock.close()


def test_three_coordinators_start_a_tick_once(pool: ModuleType, settings: Settings) -> None:
    """They look in the same moment."""
    clock = Clockwork(pool, settings, hourly(pool), hourly(pool, name="other"))
    desks = [sit_down(settings, "lab", None, clock.lab.system) for _ in range(3)]
    together = Barrier(len(desks))

    def look(desk: Desk) -> int:
        pass_time(desk, clock.lab.passed_s + HOUR_S)
        duty = start_by_schedule(desk.runtime)
        together.wait(60)
        duty.work()
        return len(desk.said("lab.start-0"))

    with ThreadPoolExecutor(len(desks)) as threads:
        assert sum(threads.map(look, desks)) == 2
    for desk in desks:
        desk.runtime.write.dispose()
    clock.lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("overlap", "catch_up", "away_s", "started"),
    [
        ("allow", HOUR_S, 5 * HOUR_S, 1),
        ("allow", 3 * HOUR_S, 5 * HOUR_S, 3),
        ("allow", 100 * HOUR_S, 5 * HOUR_S, 5),
        ("skip", 100 * HOUR_S, 5 * HOUR_S, 1),
        ("queue", 100 * HOUR_S, 5 * HOUR_S, 1),
        ("allow", 600.0, 5 * HOUR_S, 0),
        ("allow", 2 * HOUR_S, 10_000 * HOUR_S, 2),
    ],
)
def test_after_an_outage_what_is_not_too_old_is_caught_up_with(
    pool: ModuleType, settings: Settings, overlap: Any, catch_up: float, away_s: float, started: int
) -> None:
    """One saga for each tick at most, also after a year; what comes next comes at its time."""
    clock = Clockwork(pool, settings, hourly(pool, overlap=overlap, catch_up=catch_up))
    assert clock.passes(away_s) == started
    assert clock.passes(60) == 0
    clock.lab.come_to_rest()
    clock.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("overlap", "meanwhile", "then"), [("skip", 0, 0), ("queue", 0, 1), ("allow", 1, 0)])
def test_a_tick_while_the_last_saga_still_runs(
    pool: ModuleType, settings: Settings, overlap: Any, meanwhile: int, then: int
) -> None:
    """It does nothing, waits for its turn, or starts another beside it."""
    clock = Clockwork(pool, settings, hourly(pool, "later", overlap=overlap, catch_up=HOUR_S))
    assert clock.passes(HOUR_S) == 1
    clock.lab.deliver_all()
    clock.lab.tidy()
    assert clock.passes(HOUR_S) == meanwhile
    assert clock.passes(LOOK_S + 1) == 0
    clock.lab.come_to_rest()
    assert clock.passes(LOOK_S + 1) == then
    clock.lab.come_to_rest()
    assert {row["status"] for row in clock.coordinator.rows(saga)} == {"COMPLETED"}
    clock.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_schedule_that_goes_wrong_holds_up_no_other(pool: ModuleType, settings: Settings) -> None:
    """An operator is told, once, until it goes right again."""
    broken = [True]
    good, bad = hourly(pool), hourly(pool, name="bad")

    def fail(at: datetime) -> Any:
        if broken[0]:
            raise RuntimeError("no such day")
        return good.command(at)

    fail.__annotations__["return"] = pool.STARTS[0]
    clock = Clockwork(pool, settings, replace(bad, command=fail), good)
    assert [clock.passes(HOUR_S), clock.passes(HOUR_S)] == [1, 1]
    (told,) = clock.coordinator.rows(incident)
    assert (told["kind"], told["subject"], told["closed_at"]) == ("schedule", "bad", None)
    broken[0] = False
    assert clock.passes(HOUR_S) == 2
    assert clock.coordinator.rows(incident)[0]["closed_at"] is not None
    clock.lab.come_to_rest()
    clock.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_other_times_count_from_the_release_that_declares_them(pool: ModuleType, settings: Settings) -> None:
    """The one of before leaves them alone meanwhile, and what was due by the old times is due no more."""
    clock = Clockwork(pool, settings, hourly(pool))
    later = sit_down(settings, "lab", None, replace(clock.lab.system, schedules=[hourly(pool, cron="30 * * * *")]))
    pass_time(later, clock.lab.passed_s)
    start_by_schedule(later.runtime).work()
    assert clock.passes(1800) == 0
    (row,) = clock.coordinator.rows(schedule)
    assert row["next_at"] - clock.coordinator.runtime.transactions.run(lambda uow: uow.now) == pytest.approx(
        OTHERS_S, abs=5
    )
    pass_time(later, 1800 + OTHERS_S + 1)
    start_by_schedule(later.runtime).work()
    assert len(later.said("lab.start-0")) == 1
    later.runtime.write.dispose()
    clock.lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_schedule_is_paused_resumed_and_run_by_hand(pool: ModuleType, settings: Settings) -> None:
    """Each is written down with who and why; what would have started meanwhile is passed over."""
    clock = Clockwork(pool, settings, hourly(pool, catch_up=100 * HOUR_S))
    assert operating.act(clock.runtimes, "hourly", "pause", ADA) == ""
    assert operating.schedules(clock.runtimes)[0]["is_paused"]
    assert clock.passes(3 * HOUR_S) == 0
    started = operating.act(clock.runtimes, "hourly", "run", ADA)
    assert clock.started == 1
    clock.lab.come_to_rest()
    (shown,) = operating.schedules(clock.runtimes)
    assert (shown["last_id"], shown["last_status"], shown["next_at"]) == (started, "COMPLETED", None)
    assert operating.act(clock.runtimes, "hourly", "resume", ADA) == ""
    assert clock.passes(1) == 0
    assert clock.passes(HOUR_S) == 1
    assert [row["action"] for row in clock.coordinator.rows(audit)] == ["pause", "run", "resume"]
    with pytest.raises(Exception, match="there is no schedule nightly: hourly"):
        operating.act(clock.runtimes, "nightly", "run", ADA)
    assert operating.next_times(clock.runtimes, "hourly", 2, 0.0) == [
        "1970-01-01T01:00:00+00:00",
        "1970-01-01T02:00:00+00:00",
    ]
    clock.lab.come_to_rest()
    clock.close()
