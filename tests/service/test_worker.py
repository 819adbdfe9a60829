"""Take batches through the real worker on a real database: SQLite always, PostgreSQL too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError
from tests.service.desk import CODEC, KEYS, Desk, deliver, make_desk

from generador.handlers import generate_password
from generador.messages import GeneratePassword, RevokePassword
from generador.service import GENERADOR
from generador.tables import password, password_view
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import Message, contract_of, new_id
from pulsaga.delivery.tables import dead_letter, event, failure, inbox, incident, outbox, unpack
from pulsaga.errors import DomainError, Unavailable
from pulsaga.saga.log import Progress, fold
from pulsaga.saga.snapshots import entries_of, load_progress
from pulsaga.saga.steps import minutes
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import wake_due_sagas
from pulsaga.settings import Settings
from pulsaga_program.databases import prepare_databases
from pulsaga_program.local import LocalPostgres
from system import SYSTEM


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    environment = {"PROTOOLS_HOME": str(tmp_path), "FAILURE_ATTEMPTS": "3", **KEYS}
    if request.param == "postgresql":
        server: LocalPostgres = request.getfixturevalue("postgres")
        name = f"t{new_id()[-10:]}"
        environment |= server.environment() | {"DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    return Settings.read(environment)


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


def a_poisonous(body: GeneratePassword) -> Handler:
    def handle(message: Message, uow: Any) -> None:
        generate_password(message, uow)
        if message.body.username == body.username:
            raise RuntimeError("poison")

    return Handler(GeneratePassword, handle, reads=GENERADOR.handling[GeneratePassword].reads)


def refusal(desk: Desk) -> GENERADOR.refused:
    """Read the last refusal that generador gave."""
    body = desk.said(contract_of(GENERADOR.refused).name)[-1].body
    no = CODEC.decode(GENERADOR.refused, body, CommittedSchemas()[contract_of(GENERADOR.refused).dataschema])
    assert isinstance(no, GENERADOR.refused)
    return no


def test_one_message_that_fails_among_a_hundred_is_kept_alone(settings: Settings) -> None:
    """A handler's error undoes what its message buffered and nothing of its neighbours."""
    desk = make_desk(settings, "generador", {GeneratePassword: a_poisonous(GeneratePassword("u50"))})
    batch = [deliver(GeneratePassword(f"u{i}")) for i in range(101)]
    desk.worker.settle(batch)
    assert desk.count(password) == 100
    assert len(desk.said("generador.password-generated")) == 100
    (kept,) = desk.rows(failure)
    assert (kept["attempts"], "poison" in kept["error"]) == (1, True)
    assert len(desk.acks.acked) == 101
    assert "u50" not in [row["username"] for row in desk.rows(password)]


def test_the_same_command_again_does_no_work_and_its_stored_reply_goes_out_again(generador: Desk) -> None:
    """Redelivery is normal: one password, one reply, under one ce_id."""
    command = deliver(GeneratePassword("ada"))
    for _ in range(3):
        generador.worker.settle([command])
    replies = generador.said("generador.password-generated")
    assert len(replies) == 3
    assert len({wire.properties["ce_id"] for wire in replies}) == 1
    assert generador.count(password) == generador.count(event) == generador.count(inbox) == 1


def test_twins_in_one_batch_are_folded(generador: Desk) -> None:
    """Two copies of one command in a batch are one command."""
    command = deliver(GeneratePassword("ada"))
    generador.worker.settle([command, command])
    assert generador.count(password) == len(generador.said("generador.password-generated")) == 1


def test_the_same_id_with_another_body_is_refused_with_an_incident(generador: Desk) -> None:
    """An id names one body for ever; anything else is somebody's mistake, for an operator to see."""
    identifier = new_id()
    generador.worker.settle([deliver(GeneratePassword("ada"), identifier=identifier)])
    generador.worker.settle([deliver(GeneratePassword("eve"), identifier=identifier)])
    assert [row["username"] for row in generador.rows(password)] == ["ada"]
    (told,) = generador.rows(incident)
    assert (told["kind"], told["subject"], told["code"]) == ("conflict", identifier, "same-id-other-body")
    assert (told["topic"], told["detail"]) == ("generador.generate-password", "refused, nothing changed")


def test_the_id_of_a_refused_command_is_spent_too(generador: Desk) -> None:
    """The stored refusal answers the command that it was given to and no other."""
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    identifier = new_id()
    for name in ("ada", "eve"):
        generador.worker.settle([deliver(GeneratePassword(name), identifier=identifier)])
    assert [row["code"] for row in generador.rows(incident)] == ["same-id-other-body"]
    assert len(generador.said("generador.command-refused")) == 1


def test_a_business_no_is_an_answer(generador: Desk) -> None:
    """A refusal is a reply like any other: stored, replayed, never retried."""
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    second = deliver(GeneratePassword("ada"))
    generador.worker.settle([second])
    generador.worker.settle([second])
    first, again = generador.said("generador.command-refused")
    assert first == again
    assert first.properties["ce_version"] == "1"
    assert generador.count(failure) == 0
    assert generador.count(password) == 1


def test_a_compensation_that_comes_first_leaves_a_tombstone_that_refuses_the_command(generador: Desk) -> None:
    """An undo that overtakes its do must not be outrun by it."""
    command = deliver(GeneratePassword("ada"))
    undo = deliver(RevokePassword("ada", undoes=command.wire.properties["ce_id"]))
    generador.worker.settle([undo])
    generador.worker.settle([command])
    generador.worker.settle([command])
    assert generador.count(password) == 0
    assert len(generador.said("generador.command-withdrawn")) == 1
    assert len({wire.properties["ce_id"] for wire in generador.said("generador.command-refused")}) == 1
    no = refusal(generador)
    assert (no.command, no.code) == ("generador.generate-password", "withdrawn")
    assert no.detail == "the command was undone before it arrived"


def test_do_and_undo_in_one_batch_settle_in_either_order(generador: Desk) -> None:
    """Key_Shared orders within one topic only, so a batch may hold them in any order."""
    for name in ("ada", "bob"):
        command = deliver(GeneratePassword(name))
        undo = deliver(RevokePassword(name, undoes=command.wire.properties["ce_id"]))
        generador.worker.settle([undo, command] if name == "ada" else [command, undo])
    assert [(row["username"], row["status"]) for row in generador.rows(password)] == [("bob", "revoked")]


def test_a_compensation_touches_only_the_password_its_command_made(generador: Desk) -> None:
    """The loser of a race for a name must not take the winner's password with it."""
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    loser = deliver(GeneratePassword("ada"))
    generador.worker.settle([loser])
    generador.worker.settle([deliver(RevokePassword("ada", undoes=loser.wire.properties["ce_id"]))])
    assert [row["status"] for row in generador.rows(password)] == ["issued"]


def test_a_revoked_name_is_free_again_and_goes_on_counting(generador: Desk) -> None:
    """The aggregate of a password is the username: its next version follows the last."""
    command = deliver(GeneratePassword("ada"))
    generador.worker.settle([command])
    generador.worker.settle([deliver(RevokePassword("ada", undoes=command.wire.properties["ce_id"]))])
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    assert [(row["status"], row["version"]) for row in generador.rows(password)] == [("issued", 3)]


def test_a_message_that_keeps_failing_becomes_one_dead_letter_and_is_answered(settings: Settings) -> None:
    """After N attempts an operator sees it, the coordinator hears of it, and a redelivery does not start over."""
    poison = deliver(GeneratePassword("ada"))
    desk = make_desk(settings, "generador", {GeneratePassword: a_poisonous(GeneratePassword("ada"))})
    desk.worker.settle([poison])
    desk.worker.settle([poison])
    desk.retry_until_buried()
    desk.worker.settle([poison])
    (letter,) = desk.rows(dead_letter)
    assert letter["attempts"] == 3
    assert desk.count(failure) == desk.count(password) == 0
    assert [row["kind"] for row in desk.rows(incident)] == ["dead-letter"]
    assert len({wire.properties["ce_id"] for wire in desk.said("generador.command-failed")}) == 1


def test_a_failure_that_heals_is_handled_once(settings: Settings) -> None:
    """A later attempt may succeed; then nothing of the failure is left."""
    broken = [True]

    def handle(message: Message, uow: Any) -> None:
        if broken[0]:
            raise RuntimeError("not yet")
        generate_password(message, uow)

    desk = make_desk(
        settings, "generador", {GeneratePassword: replace(GENERADOR.handling[GeneratePassword], function=handle)}
    )
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    broken[0] = False
    desk.make_due()
    desk.worker.retry_failures()
    assert desk.count(failure) == desk.count(dead_letter) == 0
    assert desk.count(password) == 1


def test_an_outage_behind_a_handler_is_waited_for_and_never_counted(settings: Settings) -> None:
    """Unavailable blames nobody: however often, it makes no dead letter."""

    def handle(_message: Message, _uow: Any) -> None:
        raise Unavailable("the mail server is down")

    desk = make_desk(settings, "generador", {GeneratePassword: Handler(GeneratePassword, handle)})
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    desk.retry_until_buried()
    (kept,) = desk.rows(failure)
    assert kept["attempts"] == 0
    assert desk.count(dead_letter) == 0


@pytest.mark.parametrize("spoil", ["body", "type", "attribute", "nul"])
def test_what_cannot_be_read_is_a_dead_letter_with_its_reason_and_stops_nobody(generador: Desk, spoil: str) -> None:
    """Corrupt bytes, an unknown type or a missing attribute: kept as they came, neighbours flow."""
    good, bad = deliver(GeneratePassword("ada")), deliver(GeneratePassword("e\0ve" if spoil == "nul" else "eve"))
    properties = dict(bad.wire.properties)
    if spoil == "type":
        properties["ce_type"] = "generador.no-such-thing"
    if spoil == "attribute":
        del properties["ce_id"]
    body = b"\xff\xff\xff\xff" if spoil == "body" else bad.wire.body
    bad = bad._replace(wire=bad.wire._replace(properties=properties, body=body))
    generador.worker.settle([bad, good])
    generador.retry_until_buried()
    generador.worker.settle([bad])
    assert generador.count(password) == 1
    assert generador.count(dead_letter) == 1
    assert "Undecodable" in generador.rows(dead_letter)[0]["error"]


def test_a_row_the_database_refuses_blames_its_message_alone(settings: Settings) -> None:
    """Only the commit shows it: the batch is halved until the guilty message stands alone."""

    def handle(message: Message, uow: Any) -> None:
        generate_password(message, uow)
        if message.body.username == "bob":
            uow.put(password, {**uow.get(password, "bob"), "status": None})

    handlers = {GeneratePassword: replace(GENERADOR.handling[GeneratePassword], function=handle)}
    desk = make_desk(settings, "generador", handlers)
    desk.worker.settle([deliver(GeneratePassword(name)) for name in ("ada", "bob", "cyd", "dan", "eve")])
    assert {row["username"] for row in desk.rows(password)} == {"ada", "cyd", "dan", "eve"}
    assert desk.count(failure) == 1
    desk.retry_until_buried()
    assert desk.count(dead_letter) == 1


def test_what_the_broker_did_not_confirm_stays_in_the_outbox_for_the_sweep(generador: Desk) -> None:
    """Nothing is lost between commit and publication."""
    generador.broker.is_up = False
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    assert generador.count(outbox) == 1
    generador.broker.is_up = True
    with generador.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))
    assert generador.runtime.transactions.outbox.sweep() == 1
    assert len(generador.said("generador.password-generated")) == 1
    generador.runtime.transactions.outbox.clear()
    assert generador.count(outbox) == 0


def test_confirmed_outbox_rows_go_with_the_next_commit(generador: Desk) -> None:
    """The table stays small without a transaction of its own."""
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    generador.worker.settle([deliver(GeneratePassword("bob"))])
    assert generador.count(outbox) == 1


def test_an_expired_command_is_refused_with_an_incident(generador: Desk) -> None:
    """The inbox does not remember for ever, so what is older than its memory must not run."""
    generador.worker.settle([deliver(GeneratePassword("ada"), expires_at="2026-01-02T00:00:00.000Z")])
    assert generador.count(password) == 0
    assert len(generador.said("generador.command-refused")) == 1
    no, (told,) = refusal(generador), generador.rows(incident)
    assert (no.code, no.detail) == ("expired", "expired at 2026-01-02T00:00:00.000Z")
    assert (told["kind"], told["code"], told["detail"]) == ("expired", no.code, no.detail)
    assert told["subject"] == generador.said("generador.command-refused")[0].properties["ce_commandid"]


def test_a_rival_that_changed_a_row_first_makes_the_batch_run_again(settings: Settings) -> None:
    """Every update says which revision it saw; nothing is overwritten unseen."""
    desk = make_desk(settings, "generador")
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    runs: list[str] = []

    def handle(message: Message, uow: Any) -> None:
        row = uow.get(password, message.body.username)
        runs.append(message.id)
        if len(runs) == 1:
            uow.tx.execute(text("UPDATE password SET revision = revision + 1"))
        uow.put(password, {**row, "status": "expired"})

    slow = make_desk(
        settings, "generador", {GeneratePassword: replace(GENERADOR.handling[GeneratePassword], function=handle)}
    )
    slow.worker.settle([deliver(GeneratePassword("ada"))])
    assert len(runs) == 2, "what was read before the rival wrote was written over it"
    assert [row["status"] for row in slow.rows(password)] == ["expired"]


def test_a_domain_error_of_an_event_handler_is_a_failure(coordinator: Desk) -> None:
    """An event cannot be refused: nobody waits for the answer."""

    def handle(_message: Message, _uow: Any) -> None:
        raise DomainError("no", "no")

    reply = deliver_reply(new_id(), new_id())
    desk = make_desk(coordinator.runtime.settings, "protools_saga", {type_of(reply): Handler(type_of(reply), handle)})
    desk.worker.settle([reply])
    assert desk.count(failure) == 1


def deliver_reply(saga_id: str, command_id: str) -> Delivery:
    from generador.messages import PasswordGenerated

    body = PasswordGenerated("ada", "issued", 1.0, 1.0, "sealed")
    return deliver(body, saga_id=saga_id, command_id=command_id, version=1)


def type_of(delivery: Delivery) -> type:

    return next(cls for cls in SYSTEM.messages if contract_of(cls).name == delivery.wire.topic)


def started(coordinator: Desk) -> tuple[str, str]:
    """Start one saga; return its id and that of the command it sent."""
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    coordinator.worker.settle([begin])
    sent = coordinator.said("generador.generate-password")[-1]
    return begin.wire.key, sent.properties["ce_id"]


def test_a_reply_that_becomes_a_dead_letter_suspends_its_saga_in_the_same_transaction(coordinator: Desk) -> None:
    """Else the saga would wait for an answer that lies in the dead letters."""
    saga_id, command_id = started(coordinator)
    reply = deliver_reply(saga_id, command_id)
    broken = replace(SYSTEM.coordinator.handling[type_of(reply)], function=raise_runtime_error)
    desk = make_desk(coordinator.runtime.settings, "protools_saga", {type_of(reply): broken})
    desk.worker.settle([reply])
    desk.retry_until_buried()
    assert desk.count(dead_letter) == 1
    assert [row["status"] for row in desk.rows(saga)] == ["SUSPENDED"]
    assert {row["kind"] for row in desk.rows(incident)} == {"dead-letter", "suspended"}
    again = deliver_reply(saga_id, command_id)
    coordinator.worker.settle([again])
    assert [row["status"] for row in desk.rows(saga)] == ["RUNNING"]


def raise_runtime_error(_message: Message, _uow: Any) -> None:
    raise RuntimeError("broken")


def test_a_reply_to_a_command_nobody_sent_is_a_dead_letter_and_moves_no_saga(coordinator: Desk) -> None:
    """Whatever the letter says, it must neither be lost nor stop the loop."""
    saga_id, _ = started(coordinator)
    coordinator.worker.settle([deliver_reply(saga_id, new_id())])
    coordinator.retry_until_buried()
    assert coordinator.count(dead_letter) == 1
    assert [row["status"] for row in coordinator.rows(saga)] == ["RUNNING"]


def test_a_saga_past_its_deadline_is_woken_and_compensates(coordinator: Desk) -> None:
    """Nothing waits for ever."""
    saga_id, _ = started(coordinator)
    wake_due_sagas(coordinator.runtime).work()
    assert [row["status"] for row in coordinator.rows(saga)] == ["RUNNING"]
    later = make_desk(replace(coordinator.runtime.settings, clock_offset=minutes(16)), "protools_saga")
    wake_due_sagas(later.runtime).work()
    assert [(row["id"], row["status"]) for row in later.rows(saga)] == [(saga_id, "COMPENSATING")]
    assert len(later.said("generador.revoke-password")) == 1


def test_the_database_refuses_a_saga_that_waits_without_a_wake_up(coordinator: Desk) -> None:
    """Nothing waits for ever, whoever writes."""
    started(coordinator)
    with pytest.raises(DBAPIError), coordinator.runtime.write.begin() as tx:
        tx.execute(update(saga).values(wake_at=None))


def test_the_database_refuses_to_leave_a_terminal_status(coordinator: Desk) -> None:
    """A saga ends once."""
    started(coordinator)
    with coordinator.runtime.write.begin() as tx:
        tx.execute(update(saga).values(status="COMPENSATED", wake_at=None))
    with pytest.raises(DBAPIError), coordinator.runtime.write.begin() as tx:
        tx.execute(update(saga).values(status="SUSPENDED"))


def test_the_role_that_answers_queries_cannot_write(settings: Settings) -> None:
    """CQRS kept by the database, not by good will."""
    prepare_databases(SYSTEM, settings, SYSTEM["generador"])
    reader = open_database(settings, "generador", "read", "reader")
    with reader.connect() as connection:
        assert connection.execute(select(func.count()).select_from(password_view)).scalar() == 0
    with pytest.raises(DBAPIError), reader.begin() as tx:
        tx.execute(delete(password_view))
    reader.dispose()


def test_folding_the_log_gives_the_row(coordinator: Desk) -> None:
    """The command log is the truth, the saga's row a snapshot of it, after every move."""
    saga_id, command_id = started(coordinator)
    coordinator.worker.settle([deliver_reply(saga_id, command_id)])
    moves = sorted(coordinator.rows(event), key=lambda row: row["version"])
    progress = Progress(saga_id, ISSUE_PASSWORD.key)
    schema = CommittedSchemas()[contract_of(SYSTEM.sagas.moved).dataschema]
    for row in moves:
        progress = fold(progress, entries_of(CODEC.decode(SYSTEM.sagas.moved, unpack(row["wire"]).body, schema)))
    (snapshot,) = coordinator.rows(saga)
    assert load_progress(snapshot) == progress
    assert (len(moves), progress.seq) == (2, 2)
