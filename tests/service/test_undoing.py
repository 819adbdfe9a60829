"""Let compensations come before, after and long after the commands that they undo: the inbox decides what they meet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Desk, arrived, deliver, make_desk
from tests.service.stage import BOTH, Gate, log_of, pass_time, settings_on, start_sagas

from generador.messages import GeneratePassword, NothingToRevoke, PasswordRevoked, RevokePassword
from generador.service import GENERADOR
from generador.tables import password
from pulsaga.broker import Delivery
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import MEMORY_S, AnyMessage, contract_of, first_id
from pulsaga.delivery.tables import dead_letter, failure, inbox, incident
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.steps import minutes
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import wake_due_sagas
from pulsaga.settings import Settings

SCHEMAS = CommittedSchemas()
WITHDRAWN = GENERADOR.withdrawn
assert WITHDRAWN is not None
ANSWERS = (GENERADOR.failed, GENERADOR.refused, WITHDRAWN, NothingToRevoke, PasswordRevoked)


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


@pytest.fixture
def generador(settings: Settings) -> Iterator[Desk]:
    desk = make_desk(settings, "generador")
    yield desk
    desk.runtime.write.dispose()


@pytest.fixture
def coordinator(settings: Settings) -> Iterator[Desk]:
    desk = make_desk(settings, "protools_saga")
    yield desk
    desk.runtime.write.dispose()


def id_of(delivery: Delivery) -> str:
    return delivery.wire.properties["ce_id"]


def do(username: str = "ada") -> Delivery:
    return deliver(GeneratePassword(username))


def undo_of(command: Delivery | str, username: str = "ada", **named: Any) -> Delivery:
    undoes = command if isinstance(command, str) else id_of(command)
    return deliver(RevokePassword(username, undoes), **named)


def answer_to(desk: Desk, command: Delivery) -> Any:
    """The one answer that a command was given, read by its schema."""
    wires = {
        w.properties["ce_id"]: w for w in desk.broker.published if w.properties.get("ce_commandid") == id_of(command)
    }
    (wire,) = wires.values()
    cls = next(cls for cls in ANSWERS if contract_of(cls).name == wire.topic)
    return CODEC.decode(cls, wire.body, SCHEMAS[contract_of(cls).dataschema])


def statuses(desk: Desk) -> list[str]:
    return [row["status"] for row in desk.rows(password)]


def tombstones(desk: Desk) -> list[str]:
    return [row["id"] for row in desk.rows(inbox) if row["hash"] is None]


def let_the_inbox_forget(desk: Desk) -> None:
    """Go on to after the time for which ids are known."""
    with desk.runtime.write.begin() as tx:
        tx.execute(delete(inbox))
    pass_time(desk, MEMORY_S + 60)


def id_of_then() -> str:
    """An id that is made when that time has passed."""
    return first_id(time.time() + MEMORY_S + 60)


# --- in every order


def test_an_undo_that_comes_first_is_answered_as_withdrawn_and_refuses_its_command(generador: Desk) -> None:
    """They travel on two topics; what was undone must not be done afterwards."""
    command = do()
    undo, again = undo_of(command), undo_of(command)
    for delivery in (undo, again, command, command):
        generador.worker.settle([delivery])
    for asked in (undo, again):
        assert answer_to(generador, asked) == WITHDRAWN(contract_of(RevokePassword).name, id_of(command))
    assert (answer_to(generador, command).code, statuses(generador)) == ("withdrawn", [])
    assert tombstones(generador) == [id_of(command)]
    assert generador.count(failure) == generador.count(incident) == 0


def test_an_undo_that_comes_after_its_command_is_handled(generador: Desk) -> None:
    """The ordinary case."""
    command = do()
    undo = undo_of(command)
    generador.worker.settle([command])
    generador.worker.settle([undo])
    assert isinstance(answer_to(generador, undo), PasswordRevoked)
    assert (statuses(generador), tombstones(generador)) == (["revoked"], [])


def test_an_undo_of_what_was_undone_already_is_handled(generador: Desk) -> None:
    """Whether there is anything left is for the service to say."""
    command = do()
    for delivery in (command, undo_of(command), again := undo_of(command)):
        generador.worker.settle([delivery])
    assert answer_to(generador, again) == NothingToRevoke("ada", id_of(command))


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["do-undo", "undo-do"])
def test_both_in_one_batch_have_one_outcome(generador: Desk, order: slice) -> None:
    """The first decides."""
    command = do()
    undo = undo_of(command)
    generador.worker.settle([command, undo][order])
    was_done = order.step is None
    assert statuses(generador) == (["revoked"] if was_done else [])
    assert isinstance(answer_to(generador, undo), PasswordRevoked if was_done else WITHDRAWN)


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_an_undo_of_a_refused_command_is_not_handled(generador: Desk, is_one_batch: bool) -> None:
    """A handler may rely on it that there was something: the refused command left nothing behind."""
    generador.worker.settle([do()])
    refused = do()
    undo = undo_of(refused)
    for batch in [[refused, undo]] if is_one_batch else [[refused], [undo]]:
        generador.worker.settle(batch)
    assert answer_to(generador, refused).code == "password-exists"
    assert isinstance(answer_to(generador, undo), WITHDRAWN)
    assert (statuses(generador), tombstones(generador)) == (["issued"], [])


def test_an_undo_of_a_dead_command_is_not_handled(settings: Settings) -> None:
    """Of a dead letter nothing was done; replayed later, it belongs to an operator."""

    def break_off(_message: AnyMessage, _uow: UnitOfWork) -> None:
        raise RuntimeError("no")

    desk = make_desk(
        settings, "generador", {**GENERADOR.handling, GeneratePassword: Handler(GeneratePassword, break_off)}
    )
    command = do()
    desk.worker.settle([command])
    desk.retry_until_buried()
    assert desk.count(dead_letter) == 1
    undo = undo_of(command)
    desk.worker.settle([undo])
    assert isinstance(answer_to(desk, undo), WITHDRAWN)
    desk.runtime.write.dispose()


def test_a_command_that_waits_to_be_tried_again_is_refused_once_it_was_undone(settings: Settings) -> None:
    """It was received, and not handled: its retry comes after the undo."""
    broken = [True]

    def generate(message: AnyMessage, uow: UnitOfWork) -> None:
        if broken[0]:
            raise RuntimeError("not yet")
        GENERADOR.handling[GeneratePassword].function(message, uow)

    handlers = {
        **GENERADOR.handling,
        GeneratePassword: replace(GENERADOR.handling[GeneratePassword], function=generate),
    }
    desk = make_desk(settings, "generador", handlers)
    command = do()
    desk.worker.settle([command])
    desk.worker.settle([undo_of(command)])
    broken[0] = False
    desk.make_due()
    desk.worker.retry_failures()
    assert (answer_to(desk, command).code, statuses(desk), desk.count(failure)) == ("withdrawn", [], 0)
    desk.runtime.write.dispose()


def test_an_undo_of_what_is_handled_and_not_answered_yet_is_handled(settings: Settings) -> None:
    """A mail that waits to be sent is no mail that was never asked for."""
    undone: list[str] = []
    handlers = {
        GeneratePassword: Handler(GeneratePassword, lambda message, uow: None),
        RevokePassword: Handler(RevokePassword, lambda message, uow: undone.append(message.body.undoes)),
    }
    desk = make_desk(settings, "generador", handlers)
    one, other = do(), do()
    desk.worker.settle([one, undo_of(one)])
    desk.worker.settle([other])
    desk.worker.settle([undo_of(other)])
    assert undone == [id_of(one), id_of(other)]
    desk.runtime.write.dispose()


@pytest.mark.parametrize("first", ["do", "undo"])
def test_two_replicas_that_take_one_each_agree(settings: Settings, generador: Desk, first: str) -> None:
    """Neither sees the other's rows; the inbox's key lets one of them wait and look again."""
    rival = make_desk(settings, "generador")
    command = do()
    undo = undo_of(command)
    pair = (command, undo) if first == "do" else (undo, command)
    gate = Gate(generador)
    threads = [
        threading.Thread(target=desk.worker.settle, args=([one],))
        for desk, one in zip((generador, rival), pair, strict=True)
    ]
    threads[0].start()
    assert gate.reached.wait(PATIENCE_S)
    threads[1].start()
    gate.open.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert statuses(generador) == (["revoked"] if first == "do" else [])
    assert generador.count(failure) == 0
    rival.runtime.write.dispose()


def test_an_undo_of_what_is_no_id_is_a_dead_letter_and_leaves_no_tombstone(generador: Desk) -> None:
    """No command can have such an id, and an inbox with strange ids would not be forgotten by age."""
    generador.worker.settle([undo_of("whatever it was"), do("bob")])
    generador.retry_until_buried()
    assert (generador.count(dead_letter), tombstones(generador), statuses(generador)) == (1, [], ["issued"])


# --- long after


def test_an_undo_is_handled_when_only_the_event_still_tells_that_its_command_was(generador: Desk) -> None:
    """A saga may stand suspended for a month; the inbox forgets after a week."""
    command = do()
    generador.worker.settle([command])
    let_the_inbox_forget(generador)
    undo = undo_of(command, identifier=id_of_then())
    generador.worker.settle([undo])
    assert isinstance(answer_to(generador, undo), PasswordRevoked)
    assert statuses(generador) == ["revoked"]


def test_an_undo_of_a_refusal_that_only_the_event_still_tells_of_is_not_handled(generador: Desk) -> None:
    """The event says that nothing was done."""
    refused = do()
    for command in (do(), refused):
        generador.worker.settle([command])
    let_the_inbox_forget(generador)
    undo = undo_of(refused, identifier=id_of_then())
    generador.worker.settle([undo])
    assert isinstance(answer_to(generador, undo), WITHDRAWN)
    assert tombstones(generador) == []


def test_where_nobody_can_tell_the_undo_fails_with_an_incident(generador: Desk) -> None:
    """To answer that it is undone would be a claim; a command of that age is refused, so no tombstone is needed."""
    undo = undo_of(unknown := first_id(time.time() - MEMORY_S - 60))
    generador.worker.settle([undo])
    failed = answer_to(generador, undo)
    assert (type(failed), failed.command, failed.code) == (GENERADOR.failed, undo.wire.topic, "outcome-unknown")
    assert unknown in failed.detail
    (told,) = generador.rows(incident)
    assert (told["kind"], told["subject"], told["code"]) == ("outcome-unknown", id_of(undo), "outcome-unknown")
    assert tombstones(generador) == []
    assert generador.count(dead_letter) == 0


def test_what_is_just_young_enough_to_be_known_is_withdrawn(generador: Desk) -> None:
    """The inbox would know it: it has not come."""
    undo = undo_of(unknown := first_id(time.time() - MEMORY_S + 60))
    generador.worker.settle([undo])
    assert isinstance(answer_to(generador, undo), WITHDRAWN)
    assert tombstones(generador) == [unknown]


# --- its saga


def given_up(coordinator: Desk) -> tuple[Delivery, Delivery]:
    """One saga whose first deadline passed: its command, and the undo."""
    (generate,) = start_sagas(coordinator, 1)
    pass_time(coordinator, minutes(15) + 1)
    wake_due_sagas(coordinator.runtime).work()
    return arrived(generate), arrived(coordinator.said(contract_of(RevokePassword).name)[-1])


def only_status(coordinator: Desk) -> str:
    (row,) = coordinator.rows(saga)
    return str(row["status"])


def test_a_withdrawn_command_is_undone_for_its_saga(coordinator: Desk, generador: Desk) -> None:
    """It ends as after any other undo."""
    _, undo = given_up(coordinator)
    generador.worker.settle([undo])
    coordinator.worker.settle([arrived(generador.said(contract_of(WITHDRAWN).name)[0])])
    assert only_status(coordinator) == "COMPENSATED"


def test_a_saga_is_suspended_where_nobody_can_tell(coordinator: Desk, generador: Desk) -> None:
    """An operator can look at the service itself."""
    _, undo = given_up(coordinator)
    long_ago = RevokePassword("u0", first_id(time.time() - MEMORY_S - 60))
    undo = undo._replace(wire=undo.wire._replace(body=CODEC.encode(long_ago)))
    generador.worker.settle([undo])
    coordinator.worker.settle([arrived(generador.said(contract_of(GENERADOR.failed).name)[0])])
    assert only_status(coordinator) == "SUSPENDED"
    (row,) = coordinator.rows(saga)
    assert log_of(coordinator, row["id"])[-1].code == "outcome-unknown"
