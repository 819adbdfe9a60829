"""Put systems together at random, run them over a bad network, and see that what is planted is found, and alone."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from tests.service.desk import KEYS
from tests.verify.flows import progress_of
from tests.verify.lab import DEADLINE_S, SILENCE_S, Lab, defects
from tests.verify.loading import commit, load
from tests.verify.planting import PLANTS, Plant

from pulsaga.saga.tables import saga, slot
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.databases import prepare_databases

MOST_STEPS = 4
FATES = ("do", "do", "do", "skip", "refuse", "later", "wait", "break")
ACTIONS = ("resume", "retry-step", "compensate", "cancel", "pause", "resume")
AROUND = ("", "", "when", "sleep", "retry", "parallel", "wait", "each", "await", "child", "limit", "token")
TEMPLATE = "template"


@dataclass(frozen=True)
class Pool:
    """The services that systems are made of, and databases for all of them."""

    module: ModuleType
    folder: Path
    door: Service

    def system(self, services: int, flows: list[Any]) -> System:
        kinds = self.module.KINDS[:services]
        return System("lab", services=[k.service for k in kinds], workflows=flows, front_door=self.door)

    @contextmanager
    def run(self, system: System) -> Iterator[Lab]:
        """Set a system up with empty databases."""
        home = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / TEMPLATE, home, dirs_exist_ok=True)
        finishing = {kind.service.name: kind.finish for kind in self.module.KINDS}
        lab = Lab(system, settings_of(home), finishing)
        yield lab
        lab.close()
        shutil.rmtree(home)


def settings_of(home: Path) -> Settings:
    return Settings.read({"PROTOOLS_HOME": str(home), "FAILURE_ATTEMPTS": "1", **KEYS})


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """The pool, with what its author would commit; each system works on a copy of its databases."""
    folder = tmp_path_factory.mktemp("pool")
    module = load("pool", folder)
    made = Pool(module, folder, Service("door", module=module.__name__))
    around = ["await", "child", "token"]
    flows = [module.workflow(n, [module.Piece(n, undoable=True, around=around[n])], None, 3) for n in range(3)]
    whole = made.system(len(made.module.KINDS), flows)
    commit(whole)
    for service in whole.all:
        prepare_databases(whole, settings_of(folder / TEMPLATE), service)
    return made


@dataclass(frozen=True)
class Shape:
    """A system to be: how many services, and of each workflow the steps and the pivot."""

    services: int
    flows: list[tuple[list[tuple[int, bool, str, str]], int | None]]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    services = draw(st.integers(1, 3))
    around = st.sampled_from(
        ["", "", "when", "sleep", "retry", "parallel", "wait", "each", "await", "child", "limit", "token"]
    )
    step = st.tuples(st.integers(0, services - 1), st.booleans(), st.sampled_from(["park", "ignore"]), around)
    flows = []
    for _ in range(draw(st.integers(1, 3))):
        steps = draw(st.lists(step, min_size=1, max_size=MOST_STEPS))
        flows.append((steps, draw(st.none() | st.integers(0, len(steps) - 1))))
    return Shape(services, flows)


fates = st.lists(st.sampled_from(FATES), min_size=MOST_STEPS, max_size=MOST_STEPS)
requests = st.lists(st.tuples(st.integers(0, 2), fates, st.booleans()), min_size=1, max_size=4)
"""Which workflow, what becomes of its steps, whether the front door is asked."""


def build(pool: Pool, shape: Shape) -> System:
    module = pool.module
    flows = [
        module.workflow(number, [module.Piece(*step) for step in steps], pivot, len(shape.flows))
        for number, (steps, pivot) in enumerate(shape.flows)
    ]
    return pool.system(shape.services, flows)


def ask(lab: Lab, pool: Pool, wanted: list[Any]) -> list[str]:
    """Start workflows, some past the front door; return the ids of the sagas to be."""
    begun = []
    for number, fates, at_the_door in wanted:
        body = pool.module.STARTS[number % len(lab.system.workflows)](f"subject-{number}", " ".join(fates))
        begun.append(lab.accept(body, body.subject) if at_the_door else lab.publish(body))
    return begun


def held(lab: Lab) -> int:
    """Count the slots that are held, which are the steps under a limit that wait for an answer."""
    return sum(row["state"] == "held" for row in lab.coordinator.rows(slot))


def stir(lab: Lab, pool: Pool, begun: list[str], chance: Random, turns: int) -> None:
    """Let messages arrive, get lost, come twice or too early; let time pass, operators act and callers cancel."""
    for _ in range(turns):
        assert held(lab) <= pool.module.LIMIT.at_most
        lot = chance.random()
        if lot < 0.8:
            lab.deliver_some(chance)
        elif lot < 0.86:
            lab.pass_time(chance.choice((SILENCE_S, DEADLINE_S)), chance.choice(("", "", "flushed", "committed")))
        elif lot < 0.92:
            lab.finish()
        elif lot < 0.94 and lab.system.sagas.signals:
            lab.signal(chance.choice(begun), pool.module.Confirm("ada"))
        elif lot < 0.95 and lab.system.sagas.borne and (tokens := lab.tokens()):
            lab.signal(chance.choice(begun), pool.module.Permit(), bears=chance.choice(tokens))
        elif lot < 0.97:
            lab.operate(chance.choice(begun), chance.choice(ACTIONS))
        else:
            lab.cancel(chance.choice(begun))


def was_permitted(lab: Lab, saga_id: str) -> bool:
    """Tell whether a saga has taken the signal that needs a token."""
    steps = progress_of(lab, saga_id).all_steps.values()
    return any((step.signal, step.status) == ("lab.permit", "done") for step in steps)


RICH = Shape(
    3,
    [
        ([(0, True, "park", "retry"), (1, True, "park", "sleep"), (2, False, "ignore", "")], 2),
        ([(1, True, "park", "when"), (0, False, "park", "each")], None),
        ([(2, False, "park", "")], 0),
    ],
)
STORY = [
    (0, ("do", "later", "wait", "do"), True),
    (1, ("do", "do", "do", "do"), False),
    (0, ("do", "refuse", "do", "do"), True),
    (1, ("break", "do", "do", "do"), True),
    (2, ("break", "do", "do", "do"), False),
]
"""Requests that end in every way there is, at the front door and past it."""


@pytest.fixture(scope="module")
def told(pool: Pool) -> Iterator[Lab]:
    """One story for all plants; each spoils a copy."""
    with pool.run(build(pool, RICH)) as lab:
        ask(lab, pool, STORY)
        lab.come_to_rest()
        lab.leave_unsent(pool.module.STARTS[0]("unsent", "do do do do"))
        yield lab


def test_the_story_has_every_ending_and_no_defect(told: Lab) -> None:
    """What ended rightly, or waits for an operator who knows, is never reported."""
    ends = sorted(row["status"] for row in told.coordinator.rows(saga))
    assert ends == ["COMPENSATED", "COMPLETED", "COMPLETED", "RUNNING", "SUSPENDED", "SUSPENDED"]
    for scope in ({}, {"live_s": 0}, {"since": time.time() - 3600}, {"since": time.time() - 3600, "live_s": 0}):
        assert defects(told.report(**scope)) == {}


def test_a_saga_that_rests_is_no_defect_and_goes_on_when_its_time_has_come(pool: Pool) -> None:
    """It waits for no answer, and nobody must be woken for it in the night."""
    shape = Shape(1, [([(0, True, "park", "sleep")], None), ([(0, True, "park", "retry")], None)])
    with pool.run(build(pool, shape)) as lab:
        ask(lab, pool, [(0, ("do",), True), (1, ("refuse",), True)])
        lab.deliver_all()
        lab.tidy()
        sleeping, waiting = sorted(lab.coordinator.rows(saga), key=lambda row: row["workflow"])
        assert [(row["status"], row["target"], row["resend_at"]) for row in (sleeping, waiting)] == [
            ("RUNNING", None, None)
        ] * 2
        assert defects(lab.report(live_s=0)) == {}
        lab.come_to_rest()
        assert sorted(row["status"] for row in lab.coordinator.rows(saga)) == ["COMPENSATED", "COMPLETED"]
        assert defects(lab.report(live_s=0)) == {}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_each_plant_is_found_in_a_system_that_the_verifier_was_never_told_of(
    told: Lab, plant: Plant, tmp_path: Path
) -> None:
    """An oracle that misses a defect of somebody else's workflow is worse than none."""
    shutil.copytree(told.settings.home, tmp_path, dirs_exist_ok=True)
    spoilt = replace(told, settings=replace(told.settings, home=tmp_path))
    expected = plant(spoilt, Random(plant.__name__))
    assert expected & set(defects(spoilt.report()))
    spoilt.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.reuse, Phase.generate))
@given(
    shape=shapes(),
    wanted=requests,
    chance=st.randoms(use_true_random=False),
    turns=st.integers(0, 40),
    plant=st.sampled_from(PLANTS),
)
def test_whatever_a_system_is_made_of_its_defect_is_found_and_nothing_else(
    pool: Pool, shape: Shape, wanted: list[Any], chance: Random, turns: int, plant: Plant
) -> None:
    """Nobody who declares a service or a workflow may have to teach the verifier, or be called for nothing."""
    with pool.run(build(pool, shape)) as lab:
        stir(lab, pool, ask(lab, pool, wanted), chance, turns)
        lab.come_to_rest()
        status = {row["id"]: row["status"] for row in lab.coordinator.rows(saga)}
        holders = [row["saga_id"] for row in lab.coordinator.rows(slot) if row["state"] == "held"]
        assert {status[holder] for holder in holders} <= {"SUSPENDED"}, "it may still be done, and an operator knows"
        assert {saga_id for saga_id in status if was_permitted(lab, saga_id)} <= {saga_id for saga_id, _ in lab.borne}
        lab.leave_unsent(pool.module.STARTS[0]("unsent", "do do do do"))
        assert defects(lab.report()) == {}
        assert defects(lab.report(live_s=0)) == {}
        expected = plant(lab, chance)
        event(f"{plant.__name__}: {'planted' if expected else 'no place'}")
        if expected:
            assert expected & set(defects(lab.report())), plant.__name__
