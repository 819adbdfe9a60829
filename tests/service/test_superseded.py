"""Let older messages come after newer ones of their aggregate: where their type declares it, they have no effect."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Desk, deliver, exchange, make_desk
from tests.service.stage import BOTH, Gate, settings_on
from tests.service.wishes import wish

from generador.messages import GeneratePassword, PasswordGenerated
from generador.service import GENERADOR
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import now, open_database
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import (
    AnyMessage,
    Context,
    Message,
    command,
    contract_of,
    event,
    first_id,
    message_of,
    new_id,
    properties_of,
    unix_seconds,
)
from pulsaga.delivery.tables import failure, incident, latest, outbox, pack_context, unpack_context
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, rfc3339
from pulsaga.errors import DomainError
from pulsaga.settings import Settings
from pulsaga.web.front_door.acceptance import accept

LONG_AGO = time.time() - 3600
TAKEN = "taken"
"""A name that the service refuses."""


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


@pytest.fixture
def effects() -> list[str]:
    """The ids of the messages whose handler was run to its end."""
    return []


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one command and one event say that only the newest of each username counts."""
    for cls in (GeneratePassword, PasswordGenerated):
        monkeypatch.setattr(cls, "contract", replace(cls.contract, latest_by="username"))


def seat(settings: Settings, effects: list[str]) -> Desk:
    def handle(message: AnyMessage, _uow: UnitOfWork) -> None:
        if message.body.username == TAKEN and message.id not in effects:
            raise DomainError("taken", "it is")
        effects.append(message.id)

    return make_desk(
        settings, "generador", {cls: Handler(cls, handle) for cls in (GeneratePassword, PasswordGenerated)}
    )


@pytest.fixture
def desk(settings: Settings, effects: list[str], declared: None) -> Iterator[Desk]:
    made = seat(settings, effects)
    yield made
    made.runtime.write.dispose()


def do(accepted_at: float | None, username: str = "ada", saga_at: float = LONG_AGO) -> Delivery:
    """A command whose saga was accepted then; None is of before that was told."""
    return _accepted(deliver(GeneratePassword(username), saga_id=_saga_of(saga_at)), accepted_at)


def told(accepted_at: float | None, username: str = "ada") -> Delivery:
    """An event of a saga that was accepted then."""
    body = PasswordGenerated(username, "issued", 1.0, 1.0, "sealed")
    return _accepted(deliver(body, saga_id=_saga_of(LONG_AGO), version=1), accepted_at)


def _saga_of(at: float) -> str:
    return first_id(at)[:-12] + new_id()[-12:]


def _accepted(delivery: Delivery, at: float | None) -> Delivery:
    stamp = {} if at is None else {"ce_acceptedtime": rfc3339(at)}
    return delivery._replace(wire=delivery.wire._replace(properties=delivery.wire.properties | stamp))


def id_of(delivery: Delivery) -> str:
    return delivery.wire.properties["ce_id"]


def refusals(desk: Desk) -> list[tuple[str, str]]:
    schema = CommittedSchemas()[contract_of(GENERADOR.refused).dataschema]
    wires = desk.said(contract_of(GENERADOR.refused).name)
    return [(w.properties["ce_commandid"], CODEC.decode(GENERADOR.refused, w.body, schema).code) for w in wires]


def shown_by(desk: Desk) -> str:
    """What the service's web process shows of itself."""
    assert desk.service.web is not None
    read = open_database(desk.runtime.settings, desk.service.name, "read", "reader")
    try:
        runtime = replace(desk.runtime, settings=replace(desk.runtime.settings, auth="none"))
        return desk.service.web(runtime, read).test_client().get("/metrics").text
    finally:
        read.dispose()


# --- what is late


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_a_command_that_is_older_than_the_newest_is_refused_and_has_no_effect(
    desk: Desk, effects: list[str], is_one_batch: bool
) -> None:
    """Two sagas set the same thing; the one that was asked for last must win, whatever way their commands took."""
    newer, older, newest = do(LONG_AGO + 2), do(LONG_AGO + 1), do(LONG_AGO + 3)
    for batch in [[newer, older, newest]] if is_one_batch else [[newer], [older], [newest]]:
        desk.worker.settle(batch)
    assert effects == [id_of(newer), id_of(newest)]
    assert refusals(desk) == [(id_of(older), "superseded")]
    assert "protools_late_messages_total 1.0" in shown_by(desk)
    assert desk.count(failure) == desk.count(incident) == 0


def test_an_event_that_is_older_than_the_newest_changes_nothing_and_is_counted(desk: Desk, effects: list[str]) -> None:
    """Nobody waits for an answer to an event; how many came late tells whether something is slow."""
    newer, older, again = told(LONG_AGO + 2), told(LONG_AGO + 1), told(LONG_AGO + 1)
    for delivery in (newer, older, older, again):
        desk.worker.settle([delivery])
    assert effects == [id_of(newer)]
    (row,) = desk.rows(latest)
    assert "protools_late_messages_total 2.0" in shown_by(desk)
    assert (row["late"], row["accepted_at"]) == (2, pytest.approx(LONG_AGO + 2, abs=0.002))
    assert desk.count(failure) == desk.count(incident) == desk.count(outbox) == 0


def test_messages_of_one_saga_or_of_others_aggregates_are_not_late(desk: Desk, effects: list[str]) -> None:
    """What is as old as the newest is not older; and each aggregate, and each kind, has its own newest."""
    batch = [do(LONG_AGO + 2), do(LONG_AGO + 2), do(LONG_AGO + 1, "bob"), told(LONG_AGO + 1)]
    desk.worker.settle(batch)
    assert effects == [id_of(delivery) for delivery in batch]
    assert desk.count(latest) == 3


def test_a_stamp_from_the_future_does_not_win(desk: Desk, effects: list[str]) -> None:
    """A clock that was wrong for a minute would shut everybody else out for as long as it ran ahead."""
    ahead = do(time.time() + 3600)
    desk.worker.settle([ahead])
    later = do(_clock(desk) + 0.001)  # a stamp is cut to the millisecond
    desk.worker.settle([later])
    assert effects == [id_of(ahead), id_of(later)]


def test_a_message_without_a_stamp_is_as_old_as_its_saga(desk: Desk, effects: list[str]) -> None:
    """Rows and messages of before do not tell when they were accepted."""
    newer, older, newest = do(LONG_AGO), do(None, saga_at=LONG_AGO - 60), do(None, saga_at=LONG_AGO + 60)
    for delivery in (newer, older, newest):
        desk.worker.settle([delivery])
    assert (effects, refusals(desk)) == ([id_of(newer), id_of(newest)], [(id_of(older), "superseded")])


def test_what_was_refused_makes_nothing_late(desk: Desk, effects: list[str]) -> None:
    """It had no effect that an older one could spoil."""
    refused, older = do(LONG_AGO + 2, TAKEN), do(LONG_AGO + 1, TAKEN)
    desk.worker.settle([refused])
    effects.append(id_of(older))
    desk.worker.settle([older])
    assert refusals(desk) == [(id_of(refused), "taken")]


def test_two_replicas_that_take_one_each_agree(settings: Settings, desk: Desk, effects: list[str]) -> None:
    """The first of an aggregate has no row that could be locked."""
    rival = seat(settings, effects)
    newer, older = do(LONG_AGO + 2), do(LONG_AGO + 1)
    gate = Gate(desk)
    threads = [
        threading.Thread(target=one.worker.settle, args=([delivery],))
        for one, delivery in ((desk, newer), (rival, older))
    ]
    threads[0].start()
    assert gate.reached.wait(PATIENCE_S)
    threads[1].start()
    gate.open.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert refusals(rival) == [(id_of(older), "superseded")]
    assert [row["accepted_at"] for row in desk.rows(latest)] == [pytest.approx(LONG_AGO + 2, abs=0.002)]
    rival.runtime.write.dispose()


def test_a_type_that_does_not_declare_it_costs_nothing(settings: Settings, effects: list[str]) -> None:
    """Neither a row nor a look."""
    desk = seat(settings, effects)
    batch = [do(LONG_AGO + 2), do(LONG_AGO + 1)]
    desk.worker.settle(batch)
    assert effects == [id_of(one) for one in batch]
    assert desk.count(latest) == 0
    assert desk.worker._dispatcher._handlers == desk.service.handling
    desk.runtime.write.dispose()


# --- the age


def test_the_time_of_acceptance_reaches_every_message_of_a_saga(settings: Settings) -> None:
    """By the clock of the database that accepted it, unchanged by whatever answers come."""
    desks = [make_desk(settings, name) for name in ("bff", "protools_saga", "generador", "correo")]
    bff = desks[0].runtime
    began = _clock(desks[0])
    accept(bff.transactions, bff.write, wish("ada", "a@example.test", body_hash="hash"))
    ended = _clock(desks[0])
    bff.transactions.outbox.publish_waiting(1.0)
    exchange(desks)
    said = [wire for desk in desks for wire in desk.broker.published]
    assert len({wire.topic for wire in said}) >= 4
    (stamp,) = {wire.properties["ce_acceptedtime"] for wire in said}
    assert began - 0.001 <= unix_seconds(stamp) <= ended
    for desk in desks:
        desk.runtime.write.dispose()


def _clock(desk: Desk) -> float:
    with desk.runtime.write.connect() as connection:
        return now(connection)


def test_an_answer_that_tells_no_time_does_not_take_it_from_the_saga(settings: Settings) -> None:
    """A replica of before, or what a service says by itself, carries no stamp."""
    desk = make_desk(settings, "protools_saga")
    begin = _accepted(deliver(IssuePassword("ada", "a@example.test")), LONG_AGO)
    desk.worker.settle([begin])
    (generate,) = desk.said(contract_of(GeneratePassword).name)
    body = PasswordGenerated("ada", "issued", 1.0, 1.0, "sealed")
    desk.worker.settle([deliver(body, saga_id=generate.key, command_id=generate.properties["ce_id"], version=1)])
    stamps = {wire.properties["ce_acceptedtime"] for wire in desk.broker.published}
    assert stamps == {rfc3339(LONG_AGO)}
    desk.runtime.write.dispose()


def test_the_envelope_carries_it_there_and_back() -> None:
    """And what was written before it was told is read as it ever was."""
    context = Context(new_id(), accepted_at="2026-01-01T00:00:00.000Z")
    message = Message(GeneratePassword("ada"), new_id(), "/x", "ada", "2026-01-01T00:00:00.000Z", context)
    assert message_of(properties_of(message), message.body) == message
    assert unpack_context(pack_context(context)) == context
    assert unpack_context(f'{{"saga_id":"{context.saga_id}"}}').accepted_at is None
    assert message.accepted_at == unix_seconds("2026-01-01T00:00:00.000Z")


# --- the declaration


@pytest.mark.parametrize("declare", [command, event])
def test_an_aggregate_is_named_by_a_field_or_the_program_does_not_start(declare: Any) -> None:
    """A misspelt field would be seen at the first message."""

    @dataclass(frozen=True)
    class SetPrice:
        sku: str

    assert declare("stock.set-price", latest_by="sku")(SetPrice).contract.latest_by == "sku"
    with pytest.raises(TypeError, match=r"stock.set-price: latest_by names 'skew', which is no field of it"):
        declare("stock.set-price", latest_by="skew")(SetPrice)


@pytest.mark.parametrize(("tell", "line"), [(told, "late event"), (do, "late command")], ids=["event", "command"])
def test_what_is_late_is_logged(desk: Desk, tell: Any, line: str) -> None:
    """Somebody may look for the very one."""
    older = tell(LONG_AGO)
    with capture_logs() as lines:
        desk.worker.settle([tell(LONG_AGO + 1), older])
    assert [(one["event"], one["message"]) for one in lines if one["event"] == line] == [(line, id_of(older))]
