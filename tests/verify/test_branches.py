"""Sagas with branches on real databases: answered in the same moment, silent, late, and a thousand of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text
from tests.service.desk import Desk, arrived, sit_down
from tests.service.stage import POSTGRESQL, pass_time, settings_on
from tests.verify.flows import begin, child, fate_of, flow, for_each, lab_of, progress_of, step
from tests.verify.lab import SILENCE_S, Lab, defects

from pulsaga.broker import Delivery
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import dead_letter, failure, incident
from pulsaga.delivery.tables import event as events
from pulsaga.saga.steps import Await, Every, Parallel, When
from pulsaga.saga.tables import saga, saga_branch
from pulsaga.saga.timers import PROBE_EVERY_S, resend_to_silent, wake_due_sagas
from pulsaga.settings import Settings

COORDINATORS = 3


# --- too large


def ended(lab: Lab) -> dict[str, tuple[str, str]]:
    """Return how each saga ended, and why, by its workflow."""
    rows = lab.coordinator.rows(saga)
    return {row["workflow"]: (row["status"], progress_of(lab, row["id"]).reason[0]) for row in rows}


def refusals(lab: Lab) -> list[Any]:
    return [row for row in lab.coordinator.rows(events) if row["type"] == "lab.command-refused"]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("plan", ["do " * 100_000, "do " * 2000], ids=["data", "items"])
def test_what_is_too_large_to_be_kept_does_not_start(pool: ModuleType, settings: Settings, plan: str) -> None:
    """Whoever asks is refused at once; nothing was sent, stored or left waiting."""
    lab = lab_of(pool, settings, for_each(pool))
    begin(lab, pool, plan)
    assert len(refusals(lab)) == 1
    assert lab.coordinator.rows(saga) == lab.coordinator.rows(saga_branch) == []
    assert lab.coordinator.said("alfa.do") == []
    lab.come_to_rest()
    assert [lab.coordinator.count(table) for table in (failure, dead_letter)] == [0, 0]
    assert defects(lab.report()) == {}
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_child_that_is_too_large_tells_its_parent(pool: ModuleType, settings: Settings) -> None:
    """That does not wait for its deadline, and undoes what it did."""
    parent = flow(pool, step(pool, 0, lambda _: "do"), child(pool, 1, "do " * 2000))
    lab = lab_of(pool, settings, parent, replace(for_each(pool), name="flow-1", starts=pool.STARTS[1]))
    begin(lab, pool, "do")
    assert ended(lab) == {"flow-0@1": ("COMPENSATED", "items")}
    lab.come_to_rest()
    assert defects(lab.report()) == {}
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_an_answer_that_makes_a_saga_too_large_is_in_front_of_an_operator(pool: ModuleType, settings: Settings) -> None:
    """It is kept as a letter: nothing that was answered is lost."""

    def swell(order: Any, _done: Any) -> Any:
        return replace(order, plan="x" * 5_000_000)

    lab = lab_of(pool, settings, flow(pool, step(pool, 0, fate_of, learn=swell), step(pool, 1, fate_of)))
    begin(lab, pool, "do do")
    lab.come_to_rest()
    assert ended(lab) == {"flow-0@1": ("SUSPENDED", "reply-failed")}
    (letter,) = lab.coordinator.rows(dead_letter)
    assert "the limit is 4194304" in letter["error"]
    assert defects(lab.report()) == {}
    lab.close()


# --- in the same moment


def answers(lab: Lab, number: int) -> list[Delivery]:
    """Have the services do what was asked, and hand over their answers instead of delivering them."""
    lab.gather()
    asked, lab.on_the_way = lab.on_the_way, []
    for to, wire in asked:
        if to != lab.system.name:
            lab.desks[to].worker.settle([arrived(wire)])
    lab.gather()
    told = [arrived(wire) for to, wire in lab.on_the_way if to == lab.system.name]
    lab.on_the_way = []
    assert len(told) == number
    return told


@pytest.mark.parametrize("database", [POSTGRESQL])
def test_branches_that_are_answered_in_the_same_moment_lose_nothing_and_lock_nobody(
    request: pytest.FixtureRequest, tmp_path: Path, pool: ModuleType, database: str
) -> None:
    """Three coordinators each have some of the answers of every saga, and take them at once."""
    request.param = database
    settings = settings_on(request, tmp_path)
    both = flow(
        pool, Parallel(step(pool, 0, lambda _: "do"), step(pool, 1, lambda _: "do"), step(pool, 2, lambda _: "do"))
    )
    lab = lab_of(pool, settings, both)
    begun = [lab.accept(pool.STARTS[0]("it", "do"), "it") for _ in range(20)]
    lab.gather()
    lab.desks["lab"].worker.settle([arrived(wire) for to, wire in lab.on_the_way if to == "lab"])
    lab.on_the_way = []
    told = answers(lab, 3 * len(begun))
    shares = [told[number::COORDINATORS] for number in range(COORDINATORS)]
    desks = [sit_down(settings, "lab", None, lab.system) for _ in shares]
    together = Barrier(COORDINATORS)

    def settle(desk: Desk, share: list[Delivery]) -> None:
        for number in range(0, len(share), 4):
            together.wait(60)
            desk.worker.settle(share[number : number + 4])

    with ThreadPoolExecutor(COORDINATORS) as threads:
        list(threads.map(settle, desks, shares))
    assert {row["status"] for row in lab.coordinator.rows(saga)} == {"COMPLETED"}
    assert lab.coordinator.count(failure) == lab.coordinator.count(dead_letter) == 0
    with lab.coordinator.runtime.write.connect() as connection:
        found = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert connection.execute(found).scalar_one() == 0
    for desk in desks:
        desk.runtime.write.dispose()
    lab.close()


# --- silence and deadlines


def test_each_branch_is_asked_again_by_what_its_own_receiver_answers(pool: ModuleType, settings: Settings) -> None:
    """One service is down: its commands are probed, those of the other go again as they are due."""
    quick = {"retry": Every(5)}
    lab = lab_of(
        pool, settings, flow(pool, Parallel(*(step(pool, kind, lambda _: "do", **quick) for kind in (0, 0, 1))))
    )
    coordinator = lab.coordinator
    for _ in range(4):
        begin_in_silence(lab, pool, "do")
    assert {row["target"] for row in coordinator.rows(saga_branch)} == {"alfa", "beta"}
    assert {(row["target"], row["resend_at"]) for row in coordinator.rows(saga)} == {(None, None)}
    oldest = min(coordinator.rows(saga_branch), key=lambda row: row["resend_at"])["saga_id"]
    sent = len(coordinator.broker.published)
    pass_time(coordinator, 6.0)
    resend_to_silent(coordinator.runtime).work()
    again = [wire.topic for wire in coordinator.broker.published[sent:] if not wire.topic.startswith("lab.")]
    assert sorted(again) == ["alfa.do", "beta.do"]
    assert {wire.key for wire in coordinator.broker.published[sent:]} == {oldest}
    pass_time(coordinator, PROBE_EVERY_S + 1)
    lab.deliver_all()
    lab.come_to_rest()
    assert {row["status"] for row in coordinator.rows(saga)} == {"COMPLETED"}
    assert defects(lab.report()) == {}
    lab.close()


def begin_in_silence(lab: Lab, pool: ModuleType, plan: str) -> str:
    """Start a saga, and lose what it sends."""
    begun = lab.accept(pool.STARTS[0]("it", plan), "it")
    lab.gather()
    lab.desks["lab"].worker.settle([arrived(wire) for to, wire in lab.on_the_way if to == "lab"])
    lab.gather()
    lab.on_the_way = []
    return begun


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_branch_wakes_its_saga_when_its_own_time_has_come(pool: ModuleType, settings: Settings) -> None:
    """The deadline that comes first may have been met by then: nobody is given up, and the next one is waited for."""
    hasty, patient = step(pool, 0, lambda _: "do", deadline=60.0), step(pool, 1, lambda _: "do", deadline=200.0)
    lab = lab_of(pool, settings, flow(pool, Parallel(hasty, patient)))
    begun = begin_in_silence(lab, pool, "do")
    coordinator = lab.coordinator
    wake = wake_due_sagas(coordinator.runtime)

    def wakes_in() -> float:
        (row,) = coordinator.rows(saga)
        return float(row["wake_at"] - coordinator.runtime.transactions.run(lambda uow: uow.now))

    assert wakes_in() == pytest.approx(60, abs=15)
    (command,) = coordinator.said("alfa.do")
    lab.desks["alfa"].worker.settle([arrived(command)])
    coordinator.worker.settle([arrived(wire) for wire in lab.desks["alfa"].said("alfa.done")])
    assert wakes_in() == pytest.approx(60, abs=15), "who is answered does not look at the others"
    pass_time(coordinator, 61.0)
    wake.work()
    assert wakes_in() == pytest.approx(139, abs=15)
    moves = coordinator.rows(saga)[0]["seq"]
    wake.work()
    assert coordinator.rows(saga)[0]["seq"] == moves == 2, "to look is no move"
    pass_time(coordinator, 140.0)
    wake.work()
    assert progress_of(lab, begun).reason[0] == "timed-out"
    lab.passed_s = 201.0
    lab.come_to_rest()
    assert {row["status"] for row in coordinator.rows(saga)} == {"COMPENSATED"}
    assert defects(lab.report()) == {}
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_saga_that_is_suspended_in_one_branch_goes_on_in_the_others_and_wakes_once_it_is_helped(
    pool: ModuleType, settings: Settings
) -> None:
    """What waits for an operator has no deadline; the others' deadlines are taken up again with it."""
    lab = lab_of(
        pool, settings, flow(pool, Parallel(step(pool, 0, lambda _: "break"), step(pool, 1, lambda _: "later")))
    )
    begun = begin(lab, pool, "do")
    lab.desks["alfa"].retry_until_buried()
    lab.deliver_all()
    (row,) = lab.coordinator.rows(saga)
    assert (row["status"], row["wake_at"]) == ("SUSPENDED", None)
    assert defects(lab.report(live_s=0)) == {}
    lab.operate(begun, "compensate")
    (row,) = lab.coordinator.rows(saga)
    assert (row["status"], row["wake_at"] is None) == ("COMPENSATING", False)
    lab.come_to_rest()
    assert {row["status"] for row in lab.coordinator.rows(saga)} == {"COMPENSATED"}
    assert defects(lab.report()) == {}
    lab.close()


# --- signals


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_another_service_tells_is_a_signal_to_the_saga_that_it_is_about(
    pool: ModuleType, settings: Settings
) -> None:
    """And nothing to a saga that does not wait for it, or to none: it was told to others, too."""
    waiting = flow(pool, Parallel(Await(pool.Happened, deadline=300.0), step(pool, 0, lambda _: "later")))
    lab = lab_of(pool, settings, waiting)
    begun = begin(lab, pool, "do")
    for saga_id in (new_id(), begun, begun):
        lab.signal(saga_id, pool.Happened())
    lab.deliver_all()
    assert [step.status for step in progress_of(lab, begun).all_steps.values()] == ["forked", "done", "issued"]
    assert lab.coordinator.count(failure) == lab.coordinator.count(dead_letter) == 0
    lab.come_to_rest()
    assert {row["status"] for row in lab.coordinator.rows(saga)} == {"COMPLETED"}
    lab.signal(begun, pool.Happened())
    lab.deliver_all()
    assert lab.coordinator.count(dead_letter) == 0
    assert defects(lab.report()) == {}
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_command_that_no_saga_waits_for_is_refused(pool: ModuleType, settings: Settings) -> None:
    """Whoever sent it is told why."""
    lab = lab_of(pool, settings, flow(pool, step(pool, 0, lambda _: "later"), Await(pool.Confirm, deadline=300.0)))
    begun = begin(lab, pool, "do")
    for saga_id in (new_id(), begun):
        lab.signal(saga_id, pool.Confirm("ada"))
    lab.deliver_all()
    refusals = [event for event in lab.coordinator.rows(events) if event["type"] == "lab.command-refused"]
    assert len(refusals) == 2
    assert {row["status"] for row in lab.coordinator.rows(saga)} == {"RUNNING"}
    assert lab.coordinator.count(dead_letter) == 0
    lab.close()


# --- children


@pytest.mark.parametrize(
    ("plan", "ends"),
    [("do", ["COMPLETED", "COMPLETED"]), ("refuse", ["COMPENSATED", "COMPENSATED"]), ("later", ["COMPLETED"] * 2)],
)
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_child_ends_and_its_parent_goes_on(pool: ModuleType, settings: Settings, plan: str, ends: list[str]) -> None:
    """Whether that was at once or much later; a repeated start is answered by the end."""
    parent = flow(pool, step(pool, 0, lambda _: "do"), child(pool, 1))
    lab = lab_of(pool, settings, parent, flow(pool, step(pool, 1, fate_of), number=1))
    begin(lab, pool, plan)
    (start,) = lab.coordinator.said("lab.start-1")
    lab.come_to_rest()
    assert [row["status"] for row in lab.coordinator.rows(saga)] == ends
    told = len(lab.coordinator.said("lab.child-ended"))
    lab.coordinator.worker.settle([arrived(start)])
    assert len(lab.coordinator.said("lab.child-ended")) == told + 1
    lab.come_to_rest()
    assert lab.coordinator.count(dead_letter) == lab.coordinator.count(failure) == 0
    assert defects(lab.report()) == defects(lab.report(live_s=0)) == {}
    lab.close()


@pytest.mark.parametrize("when", ["before", "running", "past-pivot"])
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_cancel_reaches_the_child_whenever_it_comes(pool: ModuleType, settings: Settings, when: str) -> None:
    """Before it began, while it runs, and when it is too late: then its end is undone by a saga of its own."""

    def give_back(_order: Any, undoes: str) -> Any:
        return pool.STARTS[2](undoes, "do")

    give_back.__annotations__["return"] = pool.STARTS[2]
    parent = flow(pool, child(pool, 1, plan="later", undo=give_back))
    sure = replace(step(pool, 1, fate_of), undo=None, pivot=when == "past-pivot")
    lab = lab_of(pool, settings, parent, flow(pool, sure, number=1), flow(pool, step(pool, 2, fate_of), number=2))
    begun = begin_in_silence(lab, pool, "do") if when == "before" else begin(lab, pool, "do")
    starts = lab.coordinator.said("lab.start-1")
    lab.cancel(begun)
    lab.deliver_all()
    lab.on_the_way += [("lab", wire) for wire in starts]
    lab.come_to_rest()
    ended = sorted((row["workflow"], row["status"]) for row in lab.coordinator.rows(saga))
    expected = {
        "before": [("flow-0@1", "COMPENSATED")],
        "running": [("flow-0@1", "COMPENSATED"), ("flow-1@1", "COMPENSATED")],
        "past-pivot": [("flow-0@1", "COMPENSATED"), ("flow-1@1", "COMPLETED"), ("flow-2@1", "COMPLETED")],
    }
    assert ended == expected[when]
    assert lab.coordinator.count(dead_letter) == lab.coordinator.count(failure) == 0
    assert defects(lab.report()) == defects(lab.report(live_s=0)) == {}
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_child_that_became_a_dead_letter_before_it_began_keeps_nobody_for_ever(
    pool: ModuleType, settings: Settings
) -> None:
    """Its parent gives up at its deadline, and hears that there is nothing to cancel."""

    def broken(_order: Any) -> bool:
        raise RuntimeError("no such order")

    parent = flow(pool, step(pool, 0, lambda _: "do"), Parallel(child(pool, 1), step(pool, 2, lambda _: "do")))
    lab = lab_of(pool, settings, parent, flow(pool, When(broken, [step(pool, 1, fate_of)]), number=1))
    begin(lab, pool, "do")
    lab.coordinator.retry_until_buried()
    assert lab.coordinator.count(dead_letter) == 1
    lab.pass_time(301.0)
    lab.come_to_rest()
    assert [row["status"] for row in lab.coordinator.rows(saga)] == ["COMPENSATED"]
    assert lab.coordinator.count(dead_letter) == 1
    assert defects(lab.report()) == {}
    lab.close()


# --- many


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("items", [10, 200])
def test_an_answer_writes_two_items_however_many_there_are(pool: ModuleType, settings: Settings, items: int) -> None:
    """The one that was answered, and the one that begins: a thousand of them are no square."""
    lab = lab_of(pool, settings, for_each(pool, at_most=5))
    begin_in_silence(lab, pool, " ".join(["do"] * items))
    lab.desks["alfa"].worker.settle([arrived(lab.coordinator.said("alfa.do")[0])])
    before = {row["id"]: row["revision"] for row in lab.coordinator.rows(saga_branch)}
    lab.coordinator.worker.settle([arrived(wire) for wire in lab.desks["alfa"].said("alfa.done")])
    after = {row["id"]: row["revision"] for row in lab.coordinator.rows(saga_branch)}
    assert (len(before), sum(after.values()) - sum(before.values())) == (items, 2)
    lab.close()


@pytest.mark.parametrize(
    ("settings", "last"),
    [("sqlite", "do"), ("sqlite", "refuse"), pytest.param("postgresql", "refuse", marks=pytest.mark.postgres)],
    indirect=["settings"],
)
def test_hundreds_of_items_go_all_the_way(pool: ModuleType, settings: Settings, last: str) -> None:
    """In one saga, and every one of them is shown."""
    lab = lab_of(pool, settings, for_each(pool, at_most=50))
    begun = begin(lab, pool, " ".join([*["do"] * 299, last]))
    lab.come_to_rest()
    (row,) = lab.coordinator.rows(saga)
    assert row["status"] == ("COMPLETED" if last == "do" else "COMPENSATED")
    states = {branch.state for branch in progress_of(lab, begun).branches.values()}
    assert states == ({"ended"} if last == "do" else {"undone"})
    assert defects(lab.report()) == {}
    lab.close()


# --- paused


def test_a_paused_saga_leaves_everybody_else_alone_and_loses_nothing(pool: ModuleType, settings: Settings) -> None:
    """Its answers and signals wait, uncounted; its time stands still, in branches too; then it goes on."""
    both = [step(pool, 0, lambda order: order.plan), Await(pool.Confirm, deadline=60.0)]
    lab = lab_of(
        pool, settings, flow(pool, Parallel(both, step(pool, 1, lambda _: "do")), step(pool, 2, lambda _: "do"))
    )
    paused, other = begin(lab, pool, "later"), begin(lab, pool, "later")
    lab.operate(paused, "pause")
    lab.finish()
    lab.deliver_all()
    for saga_id in (paused, other):
        lab.signal(saga_id, pool.Confirm("ada"))
    lab.deliver_all()
    for _ in range(12):
        lab.pass_time(SILENCE_S)
        lab.retry()
    lab.come_to_rest()
    rows = {row["id"]: row for row in lab.coordinator.rows(saga)}
    assert (rows[paused]["status"], rows[other]["status"]) == ("SUSPENDED", "COMPLETED")
    assert (rows[paused]["wake_at"], rows[paused]["resend_at"]) == (None, None)
    assert {row["resend_at"] for row in lab.coordinator.rows(saga_branch) if row["saga_id"] == paused} == {None}
    assert [(row["kind"], row["code"]) for row in lab.coordinator.rows(incident)] == [("suspended", "paused")]
    assert [row["attempts"] for row in lab.coordinator.rows(failure)] == [0, 0]
    assert defects(lab.report()) == defects(lab.report(live_s=0)) == {}
    lab.operate(paused, "resume")
    lab.come_to_rest()
    assert [row["status"] for row in lab.coordinator.rows(saga)] == ["COMPLETED"] * 2
    assert lab.coordinator.count(failure) == lab.coordinator.count(dead_letter) == 0
    assert all(row["closed_at"] for row in lab.coordinator.rows(incident))
    assert defects(lab.report(live_s=0)) == {}
    lab.close()
