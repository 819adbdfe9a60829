"""Do all that operators and callers can do, in every state: a command is ended, moving, or in front of an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import select, text
from tests.service.desk import KEYS, arrived
from tests.service.passwords import SYSTEM
from tests.service.scene import Scene, project
from tests.service.stage import BOTH, settings_on
from tests.service.test_operators import ADA, BOB, Company, hire, refusal

from correo.messages import SendPasswordMail
from generador.messages import GeneratePassword, PasswordGenerated, RevokePassword
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.tables import dead_letter, inbox, incident, outbox, unpack
from pulsaga.errors import DomainError
from pulsaga.operate import incidents, replaying, sagas
from pulsaga.operate.retention import SHORTEST_S, archive
from pulsaga.operate.verify.report import verify
from pulsaga.operate.verify.scope import Scope
from pulsaga.saga.tables import (
    saga,
    saga_archive,
    saga_branch,
    saga_branch_archive,
    saga_child,
    schedule,
    slot,
    slot_limit,
)
from pulsaga.settings import Settings
from pulsaga.web.front_door.commands.queries import find_ended
from pulsaga.web.front_door.forgetting import forget_keys
from pulsaga.web.front_door.tables import acceptance, cancellation, command
from pulsaga_program.databases import prepare_databases


@dataclass
class Town:
    """The company with its front door, and one command that was accepted there."""

    company: Company
    scene: Scene
    command_id: str

    def carry(self) -> None:
        self.company.carry()
        project(self.scene)

    def cancel(self) -> None:
        """Ask for a cancel as the front door does when the read model permits it."""
        project(self.scene)
        shown = self.shown()
        if shown is None or shown["cancellable"]:
            self.scene.cancel(self.command_id)

    def letters(self) -> list[tuple[str, str]]:
        found = ((name, row) for name, desk in self.company.desks.items() for row in desk.rows(dead_letter))
        return [(name, str(row["id"])) for name, row in found if row["outcome"] is None]

    def shown(self) -> Any:
        engine = open_database(self.company.settings, "bff", "read", "reader")
        with engine.connect() as connection:
            row = connection.execute(select(command).where(command.c.id == self.command_id)).mappings().first()
        engine.dispose()
        return row

    def begin(self) -> Delivery:
        return self.scene.said("bff", contract_of(IssuePassword).name, self.command_id)

    def settle(self, service: str, *deliveries: Delivery) -> None:
        self.company[service].worker.settle(deliveries)
        self.company[service].retry_until_buried()

    def check(self) -> None:
        """Nothing is reported, and what waits at the front door is told where it stands."""
        project(self.scene)
        report = verify(SYSTEM, self.company.settings, Scope())
        assert [line for line in report.lines() if report.defects] == []
        shown = self.shown()
        if shown is not None and shown["status"] == "suspended":
            told = {row["subject"] for row in incidents.incidents(self.company.runtimes, SYSTEM.names)}
            assert self.command_id in told


@pytest.fixture(params=BOTH)
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    yield from _settled(settings_on(request, tmp_path))


@pytest.fixture
def small_town(tmp_path: Path) -> Iterator[Town]:
    """On SQLite alone: there are many ways to go."""
    yield from _settled(Settings.read({"PROTOOLS_HOME": str(tmp_path), "FAILURE_ATTEMPTS": "3", **KEYS}))


def _settled(settings: Settings) -> Iterator[Town]:
    company = hire(settings, set())
    scene = Scene(settings, company.desks)
    yield Town(company, scene, scene.accept("it", "ada", key="once", callback="https://example.test/hook"))
    for desk in company.desks.values():
        desk.runtime.write.dispose()


# --- states


def garbled(delivery: Delivery) -> Delivery:
    return delivery._replace(wire=delivery.wire._replace(body=b"\xff\xff\xff"))


def dead_at_its_beginning(town: Town) -> None:
    town.company.broken.add(IssuePassword)
    town.settle("protools_saga", town.begin())


def unreadable_at_its_beginning(town: Town) -> None:
    begin = town.begin()
    town.settle("protools_saga", garbled(begin))
    town.company["bff"].broker.published.remove(begin.wire)  # it never comes whole


def begun_beside_an_unreadable_copy(town: Town) -> None:
    town.settle("protools_saga", garbled(town.begin()))
    town.settle("protools_saga", town.begin())


def dead_in(*broken: type) -> Callable[[Town], None]:
    def state(town: Town) -> None:
        town.company.broken.update(broken)
        town.carry()

    state.__name__ = "dead_in_" + "_".join(cls.__name__ for cls in broken)
    return state


def unreadable_at_its_receiver(town: Town) -> None:
    town.settle("protools_saga", town.begin())
    asked = arrived(town.company["protools_saga"].said(contract_of(GeneratePassword).name)[-1])
    town.settle("generador", garbled(asked))


def dead_in_its_cancel(town: Town) -> None:
    town.settle("protools_saga", town.begin())
    town.company.broken.add(SYSTEM.sagas.cancel)
    town.scene.cancel(town.command_id)
    town.settle("protools_saga", town.scene.said("bff", contract_of(SYSTEM.sagas.cancel).name, town.command_id))


def unreadable_in_its_cancel(town: Town) -> None:
    town.settle("protools_saga", town.begin())
    town.scene.cancel(town.command_id)
    cancel = town.scene.said("bff", contract_of(SYSTEM.sagas.cancel).name, town.command_id)
    town.settle("protools_saga", garbled(cancel))
    town.company["bff"].broker.published.remove(cancel.wire)  # it never comes whole


def dead_in_its_undo(town: Town) -> None:
    town.company.broken.add(RevokePassword)
    town.settle("protools_saga", town.begin())
    town.scene.cancel(town.command_id)
    town.carry()


def running(town: Town) -> None:
    town.settle("protools_saga", town.begin())


def completed(town: Town) -> None:
    town.carry()


def cancelled(town: Town) -> None:
    town.settle("protools_saga", town.begin())
    town.scene.cancel(town.command_id)
    town.carry()


STATES = [
    dead_at_its_beginning,
    unreadable_at_its_beginning,
    begun_beside_an_unreadable_copy,
    dead_in(GeneratePassword),
    dead_in(SendPasswordMail),
    dead_in(PasswordGenerated),
    unreadable_at_its_receiver,
    dead_in_its_cancel,
    unreadable_in_its_cancel,
    dead_in_its_undo,
    running,
    completed,
    cancelled,
]

# --- actions


def discard(town: Town) -> None:
    for service, identifier in town.letters():
        replaying.discard(town.company.runtimes, identifier, service, ADA)


def replay(town: Town) -> None:
    for service, identifier in town.letters():
        replaying.replay(town.company.runtimes, identifier, service, ADA)


def edit_and_replay(town: Town) -> None:
    bodies = {
        "issue-password": {"username": "ada", "email": "a@example.test"},
        "generate-password": {"username": "ada"},
    }
    for service, identifier in town.letters():
        (row,) = (row for row in town.company[service].rows(dead_letter) if row["id"] == identifier)
        body = bodies.get(row["topic"].partition(".")[2], {})
        with suppress(click.UsageError):
            replaying.edit(town.company.runtimes, identifier, service, ADA, body, whole=False)
        replaying.replay(town.company.runtimes, identifier, service, ADA)


def act(action: Any) -> Callable[[Town], None]:
    def do(town: Town) -> None:
        sagas.act(town.company.runtimes, town.command_id, action, ADA)

    do.__name__ = action
    return do


def cancel_as_its_caller(town: Town) -> None:
    town.cancel()


def archive_what_ended(town: Town) -> None:
    archive(SYSTEM, town.company.later(2 * SHORTEST_S).settings, SHORTEST_S)


ACTIONS = [
    discard,
    replay,
    edit_and_replay,
    act("resume"),
    act("retry-step"),
    act("compensate"),
    act("cancel"),
    cancel_as_its_caller,
    archive_what_ended,
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_after_every_action_in_every_state_the_command_is_ended_moving_or_in_front_of_an_operator(
    small_town: Town, state: Callable[[Town], None], action: Callable[[Town], None]
) -> None:
    """Whoever accepted it promised an end: before what is broken is mended, and afterwards."""
    state(small_town)
    with suppress(DomainError, click.UsageError):  # a refusal changes nothing
        action(small_town)
    small_town.carry()
    small_town.check()
    small_town.company.mend()
    small_town.carry()
    small_town.check()


# --- a command that died before its saga began


BEGINNINGS = [dead_at_its_beginning, unreadable_at_its_beginning]


@pytest.mark.parametrize("state", BEGINNINGS, ids=lambda state: state.__name__)
def test_to_discard_what_begins_a_saga_ends_the_command_as_refused(town: Town, state: Callable[[Town], None]) -> None:
    """No saga will ever speak for it: its callback, its key and whoever waits would wait for ever."""
    state(town)
    project(town.scene)
    assert replaying.discard(town.company.runtimes, town.command_id, None, ADA)
    project(town.scene)
    shown = town.shown()
    assert (shown["status"], shown["reason_code"], shown["actor"]) == ("refused", "discarded", "nobody")
    assert ADA.why not in shown["reason_detail"]
    assert town.company.open_incidents() == set()
    read = open_database(town.company.settings, "bff", "read", "reader")
    assert set(find_ended(read, [town.command_id])) == {town.command_id}, "its callback is called"
    forget_keys(town.company["bff"].runtime.write, read, -60)
    read.dispose()
    assert [row["idempotency_key"] for row in town.company["bff"].rows(acceptance)] == [None]
    town.check()


@pytest.mark.parametrize("state", BEGINNINGS, ids=lambda state: state.__name__)
def test_what_was_discarded_stays_refused_however_it_comes_again(town: Town, state: Callable[[Town], None]) -> None:
    """A redelivery hears the same answer; nobody replays or edits what its caller was told is over."""
    begin = town.begin()
    state(town)
    replaying.discard(town.company.runtimes, town.command_id, None, ADA)
    town.company.mend()
    for again in (begin, garbled(begin), begin):
        town.settle("protools_saga", again)
    assert town.company["protools_saga"].rows(saga) == []
    told = town.company["protools_saga"].said(contract_of(SYSTEM.coordinator.refused).name)
    assert {wire.properties["ce_id"] for wire in told} == {told[0].properties["ce_id"]}
    for action in (replaying.replay, replaying.discard):
        no = refusal(lambda action=action: action(town.company.runtimes, town.command_id, None, BOB))
        assert no.code in ("discarded", "unreadable")


def test_a_discard_is_told_by_the_sweep_when_the_broker_is_down(town: Town) -> None:
    """Letter, answer and outbox are one transaction; no worker and no broker has to be up for it."""
    dead_at_its_beginning(town)
    coordinator = town.company["protools_saga"]
    coordinator.broker.is_up = False
    assert replaying.discard(town.company.runtimes, town.command_id, None, ADA)
    waiting = [unpack(row["wire"]).topic for row in coordinator.rows(outbox)]
    assert contract_of(SYSTEM.coordinator.refused).name in waiting
    assert coordinator.said(contract_of(SYSTEM.coordinator.refused).name) == []


def test_a_discard_that_another_operator_has_to_agree_to_tells_nothing_yet(town: Town) -> None:
    """A wish is no end."""
    dead_at_its_beginning(town)
    assert not replaying.discard(town.company.needing(2), town.command_id, None, ADA)
    assert town.company["protools_saga"].said(contract_of(SYSTEM.coordinator.refused).name) == []
    assert replaying.discard(town.company.needing(2), town.command_id, None, BOB)
    assert len(town.company["protools_saga"].said(contract_of(SYSTEM.coordinator.refused).name)) == 1


def test_to_discard_an_unreadable_copy_of_what_has_begun_refuses_nothing(town: Town) -> None:
    """The command came whole as well: its saga speaks for it."""
    begun_beside_an_unreadable_copy(town)
    assert replaying.discard(town.company.runtimes, town.command_id, None, ADA)
    assert town.company["protools_saga"].said(contract_of(SYSTEM.coordinator.refused).name) == []
    town.carry()
    assert town.shown()["status"] == "completed"


def test_an_unreadable_copy_of_a_saga_in_the_archive_refuses_nothing_either(town: Town) -> None:
    """The inbox has long forgotten that it came whole."""
    begun_beside_an_unreadable_copy(town)
    town.carry()
    write = town.company["protools_saga"].runtime.write
    with write.begin() as tx:
        tx.execute(saga_archive.insert().from_select(saga.columns.keys(), select(saga)))
        tx.execute(saga.delete())
        tx.execute(inbox.delete())
    assert replaying.discard(town.company.runtimes, town.command_id, None, ADA)
    assert town.company["protools_saga"].said(contract_of(SYSTEM.coordinator.refused).name) == []


def test_what_an_operator_replays_is_refused_in_the_end_all_the_same(town: Town) -> None:
    """A cancel that came between replay and retry: the refusal must take the place of the failure shown before."""
    dead_at_its_beginning(town)
    project(town.scene)
    assert town.shown()["status"] == "suspended"
    replaying.replay(town.company.runtimes, town.command_id, None, ADA)
    town.scene.cancel(town.command_id)
    town.settle("protools_saga", town.scene.said("bff", contract_of(SYSTEM.sagas.cancel).name, town.command_id))
    town.check()
    assert (town.shown()["status"], town.shown()["reason_code"]) == ("refused", "cancelled")


# --- a cancel that came to nothing


def cancels(town: Town) -> list[str]:
    return [wire.properties["ce_id"] for wire in town.company["bff"].said(contract_of(SYSTEM.sagas.cancel).name)]


def test_a_cancel_that_was_refused_may_be_said_again_and_has_its_effect(town: Town) -> None:
    """The command had not begun, and did when an operator replayed it: `202` must not be an empty word."""
    dead_at_its_beginning(town)
    town.scene.cancel(town.command_id)
    town.settle("protools_saga", town.scene.said("bff", contract_of(SYSTEM.sagas.cancel).name, town.command_id))
    town.scene.cancel(town.command_id)
    assert len(cancels(town)) == 1, "that it was refused is not known at the front door yet"
    town.company.mend()
    replaying.replay(town.company.runtimes, town.command_id, None, ADA)
    town.company["protools_saga"].make_due()
    town.company["protools_saga"].worker.retry_failures()
    town.cancel()
    assert len(set(cancels(town))) == 2
    town.carry()
    assert (town.shown()["status"], town.shown()["reason_code"]) == ("refused", "cancelled")
    (noted,) = town.company["bff"].rows(cancellation)
    assert noted["command_id"] == cancels(town)[-1]
    town.check()


@pytest.mark.parametrize("state", [dead_in_its_cancel, unreadable_in_its_cancel], ids=lambda state: state.__name__)
def test_a_cancel_that_was_given_up_may_be_said_again(town: Town, state: Callable[[Town], None]) -> None:
    """Discarding it must not take the caller's right to cancel away."""
    state(town)
    assert replaying.discard(town.company.runtimes, town.letters()[0][1], None, ADA)
    town.company.mend()
    town.cancel()
    town.carry()
    assert town.shown()["reason_code"] == "cancelled"
    town.check()


def test_a_dead_cancel_is_replayed_while_its_saga_runs(town: Town) -> None:
    """No saga waits for it, and it is not superseded by the saga that it is to end."""
    dead_in_its_cancel(town)
    town.company.mend()
    assert replaying.replay(town.company.runtimes, town.letters()[0][1], None, ADA)
    town.carry()
    assert town.shown()["reason_code"] == "cancelled"


def test_a_saga_that_is_resumed_keeps_its_dead_cancel_in_front_of_operators(town: Town) -> None:
    """Only a lost reply comes again by itself."""
    town.company.broken.add(GeneratePassword)
    dead_in_its_cancel(town)
    town.carry()
    town.company.broken.discard(GeneratePassword)
    runtimes, transactions = town.company.runtimes, town.company["protools_saga"].runtime.transactions
    transactions.run(lambda uow: sagas._let_go_of_lost_replies(runtimes, uow, town.command_id))
    assert ("protools_saga", "dead-letter") in town.company.open_incidents()


@pytest.mark.parametrize("rivals", [2, 5])
def test_a_cancel_is_said_again_by_one_of_those_who_ask_at_the_same_moment(town: Town, rivals: int) -> None:
    """They all see that the one before was refused; the row that notes it decides."""
    dead_at_its_beginning(town)
    town.scene.cancel(town.command_id)
    town.settle("protools_saga", town.scene.said("bff", contract_of(SYSTEM.sagas.cancel).name, town.command_id))
    project(town.scene)
    with ThreadPoolExecutor(rivals) as threads:
        list(threads.map(lambda _: town.scene.cancel(town.command_id), range(rivals)))
    assert len(set(cancels(town))) == 2


# --- a saga in the archive


def test_a_saga_is_shown_from_the_archive_with_its_log_and_moved_by_nobody(town: Town) -> None:
    """`GET /sagas/{id}` shows it for ever; an operator who is asked about it must find it, too."""
    completed(town)
    before = sagas.log_of(town.company.runtimes, town.command_id)
    assert archive(SYSTEM, town.company.later(2 * SHORTEST_S).settings, SHORTEST_S) == 1
    assert town.company["protools_saga"].rows(saga) == []
    shown = sagas.log_of(town.company.runtimes, town.command_id)
    assert shown == before
    assert shown is not None
    assert [entry["kind"] for entry in shown["log"]][-1] == "ended"
    no = refusal(lambda: sagas.act(town.company.runtimes, town.command_id, "cancel", ADA))
    assert (no.code, "COMPLETED" in no.detail) == ("ended", True)


MADE_LATER = (saga_branch, saga_branch_archive, saga_child, schedule, slot, slot_limit)
"""Tables of migrations behind the one that is run again."""


def test_beginnings_that_an_older_release_discarded_are_put_in_front_of_operators_again(town: Town) -> None:
    """It told nobody: these commands are suspended for ever, and the new check would report them for ever."""
    dead_at_its_beginning(town)
    write = town.company["protools_saga"].runtime.write
    with write.begin() as tx:
        tx.execute(dead_letter.update().values(outcome="discarded", ended_at=1.0))
        tx.execute(incident.update().values(closed_at=1.0))
        for table in MADE_LATER:
            table.drop(tx)
        tx.execute(text("DROP INDEX saga_suspended"))
        tx.execute(text("UPDATE coordinator_version SET version_num = '0001'"))
    assert town.company.open_incidents() == set()
    prepare_databases(SYSTEM, town.company.settings, town.company["protools_saga"].service)
    assert town.company.open_incidents() == {("protools_saga", "dead-letter")}
    assert replaying.discard(town.company.runtimes, town.command_id, None, ADA)
    town.check()
