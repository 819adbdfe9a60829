"""Limits on real databases: held with many coordinators at once, oldest first, and free again whatever ends a step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Select
from tests.service.desk import Desk, arrived, sit_down
from tests.verify.flows import fate_of, flow, lab_of, step
from tests.verify.lab import Lab, defects

from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.slots import give_turns
from pulsaga.saga.steps import Limit
from pulsaga.saga.tables import saga, slot
from pulsaga.settings import Settings

LIMIT = Limit("alfa", at_most=3, wait=600.0)
COORDINATORS, SAGAS = 3, 20


def begin(lab: Lab, pool: ModuleType, *plans: str) -> list[str]:
    """Start a saga for each plan, one after the other; no turn is given yet."""
    begun = [lab.accept(pool.STARTS[0]("it", plan), "it") for plan in plans]
    lab.gather()
    for wire in [wire for to, wire in lab.on_the_way if to == "lab"]:
        lab.coordinator.worker.settle([arrived(wire)])
    lab.on_the_way = []
    return begun


def states(lab: Lab) -> list[str]:
    return sorted(row["state"] for row in lab.coordinator.rows(slot))


def test_a_limit_holds_with_coordinators_that_give_turns_in_the_same_moment(
    pool: ModuleType, settings: Settings
) -> None:
    """Those go first that have waited longest, and an answer lets the next one go."""
    lab = lab_of(pool, settings, flow(pool, step(pool, 0, fate_of, limit=LIMIT)))
    begin(lab, pool, *["do"] * SAGAS)
    queue = [row["saga_id"] for row in sorted(lab.coordinator.rows(slot), key=lambda row: (row["at"], row["id"]))]
    desks = [sit_down(settings, "lab", None, lab.system) for _ in range(COORDINATORS)]
    together = Barrier(COORDINATORS)

    def give(desk: Desk) -> None:
        duty = give_turns(desk.runtime)
        for _ in range(4):
            together.wait(60)
            duty.work()

    with ThreadPoolExecutor(COORDINATORS) as threads:
        list(threads.map(give, desks))
    sent = [wire for desk in desks for wire in desk.said("alfa.do")]
    assert {wire.key for wire in sent} == set(queue[:3])
    assert states(lab) == ["held"] * 3 + ["waiting"] * (SAGAS - 3)
    lab.desks["alfa"].worker.settle([arrived(wire) for wire in sent[:2]])
    desks[1].worker.settle([arrived(wire) for wire in lab.desks["alfa"].said("alfa.done")])
    give_turns(desks[2].runtime).work()
    assert {wire.key for desk in desks for wire in desk.said("alfa.do")} == set(queue[:5])
    lab.come_to_rest()
    assert {row["status"] for row in lab.coordinator.rows(saga)} == {"COMPLETED"}
    assert states(lab) == []
    for desk in desks:
        desk.runtime.write.dispose()
    lab.close()


def test_nobody_gives_turns_between_what_another_counts_and_chooses(
    pool: ModuleType, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second coordinator comes exactly then: it has to wait, and sees what the first one has given."""
    lab = lab_of(pool, settings, flow(pool, step(pool, 0, fate_of, limit=LIMIT)))
    begin(lab, pool, *["do"] * SAGAS)
    other = sit_down(settings, "lab", None, lab.system)
    threads, given = ThreadPoolExecutor(1), list[Future[None]]()
    values = UnitOfWork.values

    def values_then_another(uow: UnitOfWork, query: Select[Any]) -> Any:
        found = values(uow, query)
        if "count" in str(query) and not given:
            given.append(threads.submit(give_turns(other.runtime).work))
            wait(given, 1.0)
        return found

    monkeypatch.setattr(UnitOfWork, "values", values_then_another)
    lab.give_turns()
    given[0].result(60)
    assert states(lab).count("held") == LIMIT.at_most
    other.runtime.write.dispose()
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_whatever_ends_a_step_lets_go_of_its_slot(pool: ModuleType, settings: Settings) -> None:
    """Done, refused, a dead letter, too late, given up: the next one has its turn."""
    lab = lab_of(pool, settings, flow(pool, step(pool, 0, fate_of, limit=Limit("alfa", at_most=1, wait=1e5))))
    begin(lab, pool, "do", "refuse", "break", "later", "do")
    lab.come_to_rest()
    ends = [row["status"] for row in lab.coordinator.rows(saga)]
    assert sorted(ends) == ["COMPENSATED", "COMPLETED", "COMPLETED", "COMPLETED", "SUSPENDED"]
    assert states(lab) == []
    assert defects(lab.report()) == {}
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_one_that_was_cancelled_or_waits_too_long_gives_its_place_up(pool: ModuleType, settings: Settings) -> None:
    """It is sent to nobody."""
    lab = lab_of(pool, settings, flow(pool, step(pool, 0, fate_of, limit=Limit("alfa", at_most=1, wait=100.0))))
    first, cancelled, late = begin(lab, pool, "later", "do", "do")
    lab.give_turns()
    lab.cancel(cancelled)
    lab.deliver_all()
    lab.pass_time(101.0)
    found = {row["id"]: row["status"] for row in lab.coordinator.rows(saga)}
    assert (found[cancelled], found[late]) == ("COMPENSATED", "COMPENSATED")
    lab.give_turns()
    assert states(lab) == ["held"]
    lab.tidy()
    assert defects(lab.report(live_s=0)) == {}
    with lab.coordinator.runtime.write.begin() as tx:
        tx.execute(slot.delete())
    assert list(defects(lab.report(live_s=0))) == ["diverged/slot"], "a limit that nobody counts holds nobody up"
    assert {wire.key for wire in lab.coordinator.said("alfa.do")} == {first}
    lab.close()
