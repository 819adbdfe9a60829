"""Cancel commands at every moment: whatever it races with, there is one outcome and nothing is left over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, deliver, make_desk
from tests.service.rooms import Room
from tests.service.stage import BOTH, Gate, answer, kinds_of, log_of, settings_on, start_sagas

from correo.messages import SendPasswordMail
from generador.messages import GeneratePassword, NothingToRevoke, RevokePassword
from generador.service import GENERADOR
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.messages import Context, Message, contract_of, new_id
from pulsaga.delivery.tables import failure, inbox, incident, outbox, unpack
from pulsaga.saga.tables import saga
from pulsaga.web.front_door.commands import projections as commands
from pulsaga.web.front_door.tables import cancellation, command
from system import SYSTEM

ADA = {"username": "ada"}


# --- at the coordinator


@pytest.fixture(params=BOTH)
def desks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Desk, Desk]]:
    """Two coordinators on one database."""
    settings = settings_on(request, tmp_path)
    made = make_desk(settings, "protools_saga"), make_desk(settings, "protools_saga")
    made[1].broker.published = made[0].broker.published
    yield made
    for desk in made:
        desk.runtime.write.dispose()


@pytest.fixture
def coordinator(desks: tuple[Desk, Desk]) -> Desk:
    return desks[0]


def cancel(saga_id: str) -> Delivery:
    return deliver(SYSTEM.sagas.cancel(saga_id), saga_id=saga_id)


def begin(identifier: str) -> Delivery:
    return deliver(IssuePassword("ada", "ada@example.test"), identifier=identifier)


def status_of(desk: Desk, saga_id: str) -> str | None:
    return next((row["status"] for row in desk.rows(saga) if row["id"] == saga_id), None)


def refusals(desk: Desk) -> list[str]:
    return [wire.properties["ce_commandid"] for wire in desk.said(contract_of(SYSTEM.coordinator.refused).name)]


def race(desks: tuple[Desk, Desk], *deliveries: Delivery) -> None:
    """Have each coordinator take one; the second begins while the first stands before its commit."""
    gate = Gate(desks[0])
    first, second = (
        threading.Thread(target=desk.worker.settle, args=([one],)) for desk, one in zip(desks, deliveries, strict=True)
    )
    first.start()
    assert gate.reached.wait(PATIENCE_S)
    second.start()
    gate.open.set()
    for thread in (first, second):
        thread.join(PATIENCE_S)


def test_what_is_suspended_and_cancelled_in_one_batch_is_in_front_of_no_operator(coordinator: Desk) -> None:
    """The incident is written at the end of the batch, and would stay open for a saga that is going back."""
    saga_id = new_id()
    coordinator.worker.settle([begin(saga_id)])
    (command,) = coordinator.said(contract_of(GeneratePassword).name)
    failed = GENERADOR.failed(command=command.topic, code="dead-letter", detail="")
    coordinator.worker.settle([answer(command, failed), cancel(saga_id)])
    assert status_of(coordinator, saga_id) == "COMPENSATING"
    (told,) = coordinator.rows(incident)
    assert told["closed_at"] is not None


def test_before_the_pivot_everything_is_undone(coordinator: Desk) -> None:
    """The caller is told `cancelled`, and nothing of it is left: the undo names the command that it undoes."""
    (generate,) = start_sagas(coordinator, 1)
    coordinator.worker.settle([cancel(generate.key)])
    assert status_of(coordinator, generate.key) == "COMPENSATING"
    (undo,) = coordinator.said(contract_of(RevokePassword).name)
    coordinator.worker.settle([answer(undo, NothingToRevoke("u0", generate.properties["ce_id"]))])
    assert status_of(coordinator, generate.key) == "COMPENSATED"
    ended = log_of(coordinator, generate.key)
    assert [entry.code for entry in ended if entry.kind in ("compensating", "ended")] == ["cancelled", "COMPENSATED"]
    assert refusals(coordinator) == []


def test_from_the_pivot_on_it_is_refused_and_nothing_changes(coordinator: Desk) -> None:
    """The mail may be on its way: who asked for it too late hears a no, and the saga goes on."""
    (generate,) = start_sagas(coordinator, 1)
    coordinator.worker.settle([answer(generate)])
    before = kinds_of(coordinator, generate.key)
    late = cancel(generate.key)
    coordinator.worker.settle([late])
    assert kinds_of(coordinator, generate.key) == before
    assert refusals(coordinator) == [late.wire.properties["ce_id"]]
    assert coordinator.count(failure) == 0


def test_a_cancel_that_overtakes_its_command_is_not_lost(coordinator: Desk) -> None:
    """They travel on two topics; a tombstone waits for the command and refuses it, however often it comes."""
    identifier = new_id()
    coordinator.worker.settle([cancel(identifier)])
    coordinator.worker.settle([begin(identifier)])
    coordinator.worker.settle([begin(identifier), cancel(identifier)])
    assert coordinator.count(saga) == 0
    assert coordinator.said(contract_of(GeneratePassword).name) == []
    assert refusals(coordinator)[0] == identifier


@pytest.mark.parametrize("order", [(begin, cancel), (cancel, begin)])
def test_both_in_one_batch_have_one_outcome(coordinator: Desk, order: tuple[Callable[[str], Delivery], ...]) -> None:
    """Under load a batch holds both; the first decides."""
    identifier = new_id()
    coordinator.worker.settle([make(identifier) for make in order])
    expected = "COMPENSATING" if order[0] is begin else None
    assert status_of(coordinator, identifier) == expected
    assert len(coordinator.said(contract_of(RevokePassword).name)) == (expected is not None)


@pytest.mark.parametrize("first", [begin, cancel])
def test_two_coordinators_that_take_one_each_agree(desks: tuple[Desk, Desk], first: Callable[[str], Delivery]) -> None:
    """Neither sees the other's rows; the inbox's key lets one of them wait and look again."""
    identifier = new_id()
    second = cancel if first is begin else begin
    race(desks, first(identifier), second(identifier))
    assert status_of(desks[0], identifier) == ("COMPENSATING" if first is begin else None)
    assert refusals(desks[0]) == ([] if first is begin else [identifier])
    assert desks[0].count(failure) == 0


@pytest.mark.parametrize("first", ["reply", "cancel"])
def test_a_cancel_that_races_the_step_before_the_pivot_has_one_outcome(desks: tuple[Desk, Desk], first: str) -> None:
    """Either the mail is sent, or the password destroyed; never both, never neither."""
    (generate,) = start_sagas(desks[0], 1)
    deliveries = [answer(generate), cancel(generate.key)]
    race(desks, *(deliveries if first == "reply" else deliveries[::-1]))
    mailed, undone = (len(desks[0].said(contract_of(body).name)) for body in (SendPasswordMail, RevokePassword))
    assert (mailed, undone, len(refusals(desks[0]))) == ((1, 0, 1) if first == "reply" else (0, 1, 0))


def test_what_is_suspended_before_its_pivot_is_undone_and_its_incident_closed(coordinator: Desk) -> None:
    """The caller need not wait for an operator to be rid of it."""
    (generate,) = start_sagas(coordinator, 1)
    dead = GENERADOR.failed(contract_of(GeneratePassword).name, "dead-letter", "boom")
    coordinator.worker.settle([answer(generate, dead)])
    assert status_of(coordinator, generate.key) == "SUSPENDED"
    coordinator.worker.settle([cancel(generate.key)])
    assert status_of(coordinator, generate.key) == "COMPENSATING"
    assert [row["closed_at"] is not None for row in coordinator.rows(incident)] == [True]


def test_a_saga_that_outlived_the_memory_of_its_beginning_is_cancelled_all_the_same(coordinator: Desk) -> None:
    """The inbox forgets after a week; a suspended saga may stand there for a month."""
    (generate,) = start_sagas(coordinator, 1)
    with coordinator.runtime.write.begin() as tx:
        tx.execute(delete(inbox))
    coordinator.worker.settle([cancel(generate.key)])
    assert status_of(coordinator, generate.key) == "COMPENSATING"


def test_what_was_refused_before_it_began_cannot_be_cancelled(coordinator: Desk) -> None:
    """There is nothing to undo, and a tombstone over an answer would change history."""
    expired = begin(new_id())
    properties = expired.wire.properties | {"ce_expirytime": "2026-01-02T00:00:00.000Z"}
    coordinator.worker.settle([expired._replace(wire=expired.wire._replace(properties=properties))])
    late = cancel(expired.wire.key)
    coordinator.worker.settle([late])
    assert refusals(coordinator) == [expired.wire.key, late.wire.properties["ce_id"]]


def test_a_saga_stays_whose_it_was(coordinator: Desk) -> None:
    """An operator may cancel another's command; its owner must still see it."""
    identifier = new_id()
    began = Context(identifier, actor="ada")
    message = Message(IssuePassword("ada", "a@x.test"), identifier, "/test", "ada", "", began)
    coordinator.worker.settle([deliver_as(message)])
    by_operator = Message(SYSTEM.sagas.cancel(identifier), new_id(), "/test", "ada", "", began._replace(actor="olga"))
    coordinator.worker.settle([deliver_as(by_operator)])
    (undo,) = coordinator.said(contract_of(RevokePassword).name)
    assert undo.properties["ce_actor"] == "ada"
    assert undo.properties["ce_causationid"] == by_operator.id
    assert log_of(coordinator, identifier)[-2].detail == "cancelled by olga"


def deliver_as(message: Message) -> Delivery:
    made = deliver(message.body, identifier=message.id, saga_id=message.saga_id)
    properties = made.wire.properties | {"ce_actor": message.context.actor or ""}
    return made._replace(wire=made.wire._replace(properties=properties))


# --- at the front door


def accept(bff: Room) -> str:
    return str(bff.http.post("/passwords", json=ADA).json["id"])


def moved(bff: Room, identifier: str, status: str, *, cancellable: bool, code: str = "") -> None:
    """Project the newest move of a saga as the projector does."""
    body = SYSTEM.sagas.moved(
        identifier, "issue-password@1", "ada", status, code, "", 1.0, 2.0, cancellable, "[]", "[]"
    )
    message = Message(body, new_id(), "/test", "ada", "", Context(identifier, actor="nobody"), version=1)
    _write(bff, message)


def _write(bff: Room, message: Message) -> None:
    for table, row in SYSTEM["bff"].projecting[type(message.body)].function(message):
        with bff.projector.begin() as tx:
            tx.execute(table.delete().where(table.c.id == row["id"]))
            tx.execute(table.insert().values(row))


def commands_sent(bff: Room) -> list[str]:
    return [row["id"] for row in bff.rows(outbox) if unpack(row["wire"]).topic == contract_of(SYSTEM.sagas.cancel).name]


def test_a_cancel_is_durable_and_said_once_however_often_it_is_asked_for(bff: Room) -> None:
    """The caller that lost the answer asks again."""
    identifier = accept(bff)
    for _ in range(3):
        answered = bff.http.delete(f"/commands/{identifier}")
        assert (answered.status_code, answered.json["id"]) == (202, identifier)
        assert answered.headers["Location"] == f"/commands/{identifier}"
    (row,) = bff.rows(cancellation)
    assert commands_sent(bff) == [row["command_id"]]
    assert unpack(bff.rows(outbox)[-1]["wire"]).key == identifier


@pytest.mark.parametrize(
    ("status", "code"),
    [("COMPLETED", "already-ended"), ("COMPENSATED", "already-ended"), ("RUNNING", "not-cancellable")],
)
def test_what_is_known_to_be_past_it_is_a_conflict(bff: Room, status: str, code: str) -> None:
    """Saying 202 to what cannot be would have the caller wait for it."""
    identifier = accept(bff)
    moved(bff, identifier, status, cancellable=False)
    answered = bff.http.delete(f"/commands/{identifier}")
    assert (answered.status_code, answered.json["code"]) == (409, code)
    assert commands_sent(bff) == []


@pytest.mark.parametrize("status", ["COMPENSATING", "COMPENSATED"])
def test_to_cancel_what_is_cancelled_is_no_conflict(bff: Room, status: str) -> None:
    """DELETE is idempotent (RFC 9110 §9.2.2)."""
    identifier = accept(bff)
    moved(bff, identifier, status, cancellable=False, code="cancelled")
    assert bff.http.delete(f"/commands/{identifier}").status_code == 202


@pytest.mark.parametrize("identifier", ["nonsense", new_id()])
def test_nobody_cancels_what_nobody_accepted(bff: Room, identifier: str) -> None:
    """404, and nothing is said to anybody."""
    assert bff.http.delete(f"/commands/{identifier}").status_code == 404
    assert bff.rows(outbox) == []


def test_a_cancelled_command_is_shown_as_refused_with_its_reason(bff: Room) -> None:
    """Whether a saga had begun or not."""
    begun, unbegun = accept(bff), accept(bff)
    moved(bff, begun, "COMPENSATED", cancellable=False, code="cancelled")
    body = SYSTEM.coordinator.refused(
        command=contract_of(IssuePassword).name, code="withdrawn", detail="undone before it arrived"
    )
    at = "2026-01-01T00:00:00.000Z"
    _write(bff, Message(body, new_id(), "/test", "ada", at, Context(unbegun, actor="nobody"), command_id=unbegun))
    for identifier in (begun, unbegun):
        shown = bff.http.get(f"/commands/{identifier}").json
        assert (shown["status"], shown["reason"]["code"]) == ("refused", "cancelled")


@pytest.mark.parametrize("body", [SYSTEM.coordinator.refused, SYSTEM.coordinator.failed])
def test_a_cancel_that_came_too_late_is_no_end_of_its_command(bff: Room, body: type) -> None:
    """It is answered under an id of its own; as a command it would be one that nobody accepted."""
    identifier = accept(bff)
    no = body(command=contract_of(SYSTEM.sagas.cancel).name, code="past-pivot", detail="")
    message = Message(no, new_id(), "/test", "ada", "", Context(identifier), command_id=new_id())
    assert [table.name for table, _ in SYSTEM["bff"].projecting[body].function(message)] == ["refused_cancel"]
    assert not commands._is_end(message)
    with bff.projector.connect() as connection:
        assert connection.execute(command.select()).all() == []
