"""Verify a system that the framework was never told of: each workflow ends in every way, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.service.stage import BOTH, settings_on
from tests.verify.lab import Lab, defects
from tests.verify.loading import commit, load

from pulsaga import Service
from pulsaga.saga.tables import saga
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.databases import prepare_databases


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file of declarations, with what its author would commit."""
    module = load("shop", tmp_path_factory.mktemp("shop"))
    module.SYSTEM = module.shop(Service("door", module=module.__name__))
    commit(module.SYSTEM)
    return module


@pytest.fixture(params=BOTH)
def lab(request: pytest.FixtureRequest, tmp_path: Path, declared: Any) -> Iterator[Lab]:
    """The shop after a day: orders that ended well and not so well, notices that nobody accepted at a front door."""
    system: System = declared.SYSTEM
    settings = settings_on(request, tmp_path, FAILURE_ATTEMPTS="1")
    for service in system.all:
        prepare_databases(system, settings, service)
    made = Lab(system, settings)
    for number, (quantity, note) in enumerate([(2, "hello"), (9, "hello"), (1, "rude")]):
        made.accept(declared.PlaceOrder(f"o-{number}", quantity, note), f"o-{number}")
    for words in ("good morning", "rude"):
        made.publish(declared.Announce(words))
    made.come_to_rest()
    yield made
    made.close()


def test_sagas_that_ended_rightly_are_not_reported_however_they_began(lab: Lab) -> None:
    """An operator who was called for nothing twice does not come the third time."""
    rows = {(row["workflow"], row["subject"]): row["status"] for row in lab.coordinator.rows(saga)}
    assert rows == {
        ("place-order@1", "o-0"): "COMPLETED",
        ("place-order@1", "o-1"): "COMPENSATED",
        ("place-order@1", "o-2"): "COMPENSATED",
        ("post-notice@1", "good morning"): "COMPLETED",
        ("post-notice@1", "rude"): "COMPENSATED",
    }
    for scope in ({}, {"live_s": 0}, {"since": 1}):
        report = lab.report(**scope)
        assert (defects(report), report.sagas) == ({}, 5)


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_sagas_whose_version_is_not_declared_any_more_are_not_reported(lab: Lab, declared: Any) -> None:
    """When its last saga has ended, a version is taken out of the list."""
    newer = [replace(flow, version=2) for flow in lab.system.workflows]
    door = Service("door", module=declared.__name__)
    lab.system = System(lab.system.name, services=lab.system.services, workflows=newer, front_door=door)
    assert (defects(lab.report()), lab.report().sagas) == ({}, 5)


def test_a_system_needs_no_front_door(tmp_path: Path, declared: Any) -> None:
    """Its workflows may be begun by other services alone."""
    system, settings = declared.shop(), Settings.read({"PROTOOLS_HOME": str(tmp_path)})
    for service in system.all:
        prepare_databases(system, settings, service)
    lab = Lab(system, settings)
    lab.publish(declared.Announce("good morning"), actor="shop")
    lab.come_to_rest()
    assert (defects(lab.report()), lab.report().sagas) == ({}, 1)
    with lab.engine("shop", "write") as engine, engine.begin() as tx:
        tx.execute(text("DELETE FROM inbox"))
    assert set(defects(lab.report())) == {"orphaned/saga", "lost/reply"}
    lab.close()


SPOILS = [
    ("lost/handled-command", "stock", "write", "DELETE FROM inbox"),
    ("lost/reply", "shop", "write", "DELETE FROM inbox"),
    ("orphaned/saga", "door", "write", "DELETE FROM acceptance"),
    ("orphaned/known-answer", "board", "write", "DELETE FROM event"),
    ("diverged/snapshot", "shop", "write", "DELETE FROM saga"),
    ("diverged/saga-view", "shop", "read", "DELETE FROM saga_view"),
    ("diverged/command-view", "door", "read", "DELETE FROM command"),
    ("orphaned/reservation", "stock", "write", "UPDATE reservation SET quantity = 1"),
]


def spoil(lab: Lab, service: str, side: str, statement: str) -> None:
    with lab.engine(service, side) as engine, engine.begin() as tx:
        assert tx.execute(text(statement)).rowcount > 0


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("check", "service", "side", "statement"), SPOILS)
def test_a_defect_of_a_system_of_others_is_reported(
    lab: Lab, check: str, service: str, side: str, statement: str
) -> None:
    """The framework's promises are checked in any system, and its own effects by what a service declares."""
    spoil(lab, service, side, statement)
    assert check in defects(lab.report())


def test_no_defect_hides_another(lab: Lab) -> None:
    """An operator who mends one must have seen the others."""
    for _, service, side, statement in SPOILS:
        spoil(lab, service, side, statement)
    assert {check for check, *_ in SPOILS} <= set(defects(lab.report()))
