"""Hold the rule of admission to what it promises: a system of known speed, seconds that cost nothing."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from pulsaga.web.front_door.overload.load import DEPTH, FEW, Count, Load

TICK_S = 0.05
WITHIN_S = 30.0


@dataclass
class Model:
    """Play a system that ends `speed(now)` commands a second, first come, first served; `doors` share the load."""

    speed: Callable[[float], float]
    doors: int = 1
    obeying: float = 0.0
    """Share of the refused callers who come back when they were told to, once."""
    now: float = 0.0
    loads: list[Load] = field(default_factory=list)
    queue: deque[float] = field(default_factory=deque)
    waits: list[float] = field(default_factory=list)
    ended_at: list[float] = field(default_factory=list)
    refused: int = 0
    second: list[bool] = field(default_factory=list)
    """Whether each second try was admitted."""

    def __post_init__(self) -> None:
        self.loads = [Load(WITHIN_S) for _ in range(self.doors)]
        self._chance = random.Random(7)
        self._returning: list[float] = []
        self._budget = self._next_count = 0.0
        self._accepted = self._ended = 0

    def run(self, seconds: float, offered: float) -> Model:
        due = 0.0
        until = self.now + seconds
        while self.now < until:
            self.now += TICK_S
            due += offered * TICK_S
            for _ in range(int(due)):
                self._ask()
            due -= int(due)
            while self._returning and self._returning[0] <= self.now:
                heapq.heappop(self._returning)
                self.second.append(self._ask(returning=True))
            self._work()
        return self

    def _ask(self, *, returning: bool = False) -> bool:
        load = self._chance.choice(self.loads)
        if load.admit(self.now, returning=returning):
            load.settle(is_stored=True)
            self.queue.append(self.now)
            self._accepted += 1
            return True
        self.refused += 1
        wait_s = load.turn(self.now, self._chance.random())
        if not returning and self._chance.random() < self.obeying:
            heapq.heappush(self._returning, self.now + wait_s)
        return False

    def _work(self) -> None:
        self._budget = min(self._budget + self.speed(self.now) * TICK_S, len(self.queue))
        while self._budget >= 1 and self.queue:
            self._budget -= 1
            self.waits.append(self.now - self.queue.popleft())
            self.ended_at.append(self.now)
            self._ended += 1
        if self.now >= self._next_count:
            self._next_count = self.now + 1
            for load in self.loads:
                load.count(self.now, Count(backlog=len(self.queue), ended=self._ended, accepted=self._accepted))
            self._accepted = self._ended = 0

    def worst_s(self) -> float:
        return max(self.waits)

    def per_second(self) -> Iterator[int]:
        for second in range(int(self.now)):
            yield sum(second <= at < second + 1 for at in self.ended_at)


def steady(per_second: float) -> Callable[[float], float]:
    return lambda _now: per_second


# --- what must never be refused


@pytest.mark.parametrize("speed", [5, 50, 500])
@pytest.mark.parametrize("load", [0.02, 0.5, 0.9])
def test_what_can_be_done_is_never_refused(speed: float, load: float) -> None:
    """A door that refuses while the house is empty is out of order."""
    assert Model(steady(speed)).run(120, speed * load).refused == 0


def test_an_idle_system_takes_a_burst() -> None:
    """The rate seen while little was asked for says nothing of what can be done."""
    model = Model(steady(300)).run(60, 0.5)
    model.run(1, 3000)
    assert model.refused == 0


def test_nothing_known_is_no_reason_to_refuse() -> None:
    """Before the first look, and with a measured rate of 0 and nothing waiting."""
    load = Load(WITHIN_S)
    assert load.admit(0.0, returning=False)
    load.count(1.0, Count(backlog=0, ended=0, accepted=1))
    assert load.rate is None
    assert load.admit(1.1, returning=False)


def test_a_service_that_is_away_for_a_minute_refuses_nobody() -> None:
    """Sagas wait for it; that is what they are for. No end, no rate: only the depth is a bound."""
    model = Model(lambda now: 100 if now < 20 else 0).run(80, 50)
    assert model.refused == 0


# --- what must be refused


def test_three_times_the_capacity_ends_in_time_and_at_full_speed() -> None:
    """What was accepted keeps its promise, and refusing does not leave anybody idle."""
    model = Model(steady(200)).run(60, 600)
    assert model.refused > 0.6 * 60 * 600
    assert model.worst_s() < WITHIN_S / 2
    assert min(list(model.per_second())[3:]) >= 180


def test_the_calm_comes_back_within_ten_seconds() -> None:
    """A long queue of the accepted would let everybody behind it wait after the rush is over."""
    model = Model(steady(200)).run(60, 600).run(10, 20)
    seen = len(model.waits)
    model.run(10, 20)
    assert max(model.waits[seen:]) < 0.1


def test_a_system_that_becomes_slow_is_noticed() -> None:
    """A fifth of the speed is a fifth of the backlog."""
    model = Model(lambda now: 200 if now < 30 else 40).run(120, 400)
    assert model.worst_s() < 1.5 * WITHIN_S
    assert max(model.waits[-1000:]) < WITHIN_S / 2


def test_several_doors_admit_no_more_than_one() -> None:
    """Each process sees the whole backlog and its own share of what comes."""
    model = Model(steady(200), doors=4).run(60, 600)
    assert model.worst_s() < WITHIN_S / 2
    assert min(list(model.per_second())[3:]) >= 180


def test_a_door_that_opens_in_the_rush_knows_what_waits() -> None:
    """The first look counts what others accepted; a second later the rate is known."""
    load = Load(WITHIN_S)
    load.count(0.0, Count(backlog=2 * DEPTH, ended=0, accepted=0))
    assert not load.admit(0.0, returning=False)
    load = Load(WITHIN_S)
    load.count(0.0, Count(backlog=3000, ended=0, accepted=0))
    load.count(1.0, Count(backlog=3000, ended=100, accepted=300))
    assert load.rate == pytest.approx(100)
    assert not load.admit(1.0, returning=False)


def test_without_the_broker_the_outbox_is_bounded() -> None:
    """Nothing ends, so nothing can be predicted; accepting goes on up to a depth."""
    load = Load(WITHIN_S)
    load.forget_rate()
    load.count(0.0, Count(backlog=DEPTH - 2, ended=0, accepted=0))
    assert [load.admit(0.0, returning=False) for _ in range(4)] == [True, True, False, False]


def test_what_is_admitted_counts_until_it_is_settled_and_is_settled_once() -> None:
    """A look in between must not make who is given back late be taken off those who came later."""
    load = Load(WITHIN_S)
    for _ in range(3):
        load.admit(0.0, returning=False)
    load.settle(is_stored=True)
    load.count(1.0, Count(backlog=1, ended=0, accepted=1))
    assert load.backlog(1.0) == 3
    load.admit(1.0, returning=False)
    for is_stored in (False, False, True):
        load.settle(is_stored=is_stored)
    assert load.backlog(1.0) == 2
    load.count(2.0, Count(backlog=2, ended=0, accepted=1))
    assert load.backlog(2.0) == 2


# --- when to come back


@pytest.mark.parametrize("doors", [1, 3])
def test_who_comes_back_when_told_is_let_in_though_the_rush_goes_on(doors: int) -> None:
    """A Retry-After that ends in the next 503 is a lie; here everybody obeys, and the rush lasts two minutes."""
    model = Model(steady(100), doors=doors, obeying=1.0).run(120, 300)
    assert len(model.second) > 1000
    assert sum(model.second) >= 0.9 * len(model.second)
    assert model.worst_s() < WITHIN_S


@pytest.mark.parametrize("doors", [1, 3])
def test_after_a_burst_everybody_is_let_in_at_the_second_try(doors: int) -> None:
    """Turns are one behind the other, as fast as the work is done."""
    model = Model(steady(100), doors=doors, obeying=1.0).run(10, 90)
    model.run(3, 3000).run(200, 1)
    assert len(model.second) == model.refused - model.second.count(False) > 1000
    assert sum(model.second) >= 0.9 * len(model.second)


def test_a_door_keeps_its_share_while_nobody_is_let_in() -> None:
    """Four doors that each promised all that can be done would promise it four times."""
    model = Model(steady(20), doors=4, obeying=1.0).run(30, 18).run(6, 200)
    model.run(12, 60).run(90, 0)
    assert len(model.second) > 1000
    assert sum(model.second) >= 0.95 * len(model.second)


def test_who_does_not_come_back_leaves_nobody_idle() -> None:
    """Turns that nobody takes go to whoever asks."""
    model = Model(steady(100), obeying=0.0).run(120, 300)
    assert min(list(model.per_second())[3:]) >= 90


def test_turns_are_spread() -> None:
    """All at once would be the next rush."""
    load, chance = Load(WITHIN_S), random.Random(1)
    load.count(0.0, Count(backlog=4000, ended=0, accepted=0))
    load.count(1.0, Count(backlog=4000, ended=100, accepted=0))
    turns = [load.turn(1.0, chance.random()) for _ in range(1000)]
    assert turns[0] >= (4000 - load.limit()) / 100
    assert max(turns) - min(turns) >= 9
    assert max(turns.count(turn) for turn in turns) <= 150


def test_few_are_never_too_many() -> None:
    """One slow mail server with three mails in hand is no overload."""
    load = Load(WITHIN_S)
    load.count(0.0, Count(backlog=FEW - 1, ended=0, accepted=0))
    load.count(10.0, Count(backlog=FEW - 1, ended=1, accepted=0))
    assert load.admit(10.0, returning=False)


def test_a_slow_beginning_tells_nobody_to_come_back_tomorrow() -> None:
    """A cold system ends a few in its first seconds; who is refused later is told by what it does then."""
    load = Load(WITHIN_S)
    load.count(0.0, Count(backlog=1000, ended=0, accepted=0))
    load.count(5.0, Count(backlog=1000, ended=5, accepted=0))
    assert load.rate == pytest.approx(1)
    assert max(load.turn(5.0, 0.0) for _ in range(1000)) == 120
    for second in range(6, 20):
        load.count(second, Count(backlog=2000, ended=500, accepted=0))
    assert load.turn(20.0, 0.0) < 10


def test_few_ends_are_measured_over_some_seconds() -> None:
    """One end in a second is no rate of one."""
    load = Load(WITHIN_S)
    load.count(0.0, Count(backlog=1000, ended=0, accepted=0))
    rates = []
    for second in range(1, 6):
        load.count(second, Count(backlog=1000, ended=4, accepted=0))
        rates.append(load.rate)
    assert rates == [None, None, None, None, pytest.approx(4)]
