"""Hold the transactions and the inbox to their waiting times and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs
from tests.service.desk import CODEC, KEYS, Desk, deliver, make_desk
from tests.service.fakes import FakeBroker
from tests.service.stage import pass_time

from generador.messages import GeneratePassword, NothingToRevoke
from generador.service import GENERADOR
from generador.tables import password
from pulsaga.broker import Wire
from pulsaga.delivery import database
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.outbox import QUEUE_LIMIT, SWEEP_PAGE
from pulsaga.delivery.tables import dead_letter, failure, incident, outbox, unpack_delivery
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import Speaker
from pulsaga.errors import Unavailable
from pulsaga.settings import Settings
from pulsaga.text import describe


def test_what_waits_for_the_publisher_is_bounded_and_goes_out_in_pages(tmp_path: Path) -> None:
    """With the broker down for an hour the front door must not fill its memory: the outbox holds the rest."""
    engine = open_database(Settings.read({"PROTOOLS_HOME": str(tmp_path)}), "bff", "write", "owner", create=True)
    transactions = Transactions(engine, broker := FakeBroker(), Speaker("bff", Codec()))
    for number in range(QUEUE_LIMIT + 5):
        transactions.outbox.publish_later([Wire("t", "k", {"ce_id": str(number)}, b"")])
    transactions.outbox.publish_waiting(0.0)
    assert len(broker.published) == SWEEP_PAGE
    for _ in range(QUEUE_LIMIT // SWEEP_PAGE + 1):
        transactions.outbox.publish_waiting(0.0)
    assert [wire.properties["ce_id"] for wire in broker.published] == [str(number) for number in range(QUEUE_LIMIT)]
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"PROTOOLS_HOME": str(tmp_path), "FAILURE_ATTEMPTS": "2", **KEYS})


def test_what_was_swept_rests_before_it_is_swept_again(settings: Settings) -> None:
    """Two sweepers a moment apart must not both publish a backlog that the broker is still taking."""
    desk = make_desk(settings, "generador")
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    with desk.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))
    assert [desk.runtime.transactions.outbox.sweep(), desk.runtime.transactions.outbox.sweep()] == [1, 0]
    desk.runtime.write.dispose()


def test_a_failure_is_left_alone_until_it_is_due(settings: Settings) -> None:
    """Attempts that are not spread over time are one attempt."""
    desk = make_desk(settings, "protools_saga")
    desk.worker.settle([deliver(NothingToRevoke("ada", "x"), command_id=new_id())])
    desk.worker.retry_failures()
    assert [row["attempts"] for row in desk.rows(failure)] == [1]
    with desk.runtime.write.connect() as connection:
        rest_s = desk.rows(failure)[0]["due_at"] - database.now(connection)
    assert 0 < rest_s <= settings.failure_delay
    desk.runtime.write.dispose()


def test_an_event_that_becomes_a_dead_letter_is_answered_by_nobody(settings: Settings) -> None:
    """Only a command has somebody who waits; an answer to an event would be taken for the answer to a command."""
    desk = make_desk(settings, "protools_saga")
    desk.worker.settle([deliver(NothingToRevoke("ada", "x"), command_id=new_id())])
    desk.retry_until_buried()
    assert desk.count(dead_letter) == 1
    assert desk.broker.published == []
    desk.runtime.write.dispose()


# --- what an operator reads


def down(_message: Any, _uow: Any) -> None:
    raise Unavailable("the vault is down")


def poisonous(_message: Any, _uow: Any) -> None:
    raise RuntimeError("poison")


def generador_that(settings: Settings, function: Callable[[Any, Any], None], on_dead: Any = None) -> Desk:
    """Sit generador down with a handler that cannot do its work."""
    handler = replace(GENERADOR.handling[GeneratePassword], function=function, on_dead=on_dead)
    return make_desk(settings, "generador", {GeneratePassword: handler})


@pytest.mark.parametrize(("waited_s", "rest_s"), [(0, 1), (20, 20), (3600, 60)])
def test_a_failure_rests_as_long_as_it_has_failed_but_a_minute_at_most(
    settings: Settings, waited_s: int, rest_s: int
) -> None:
    """Soon at first, then ever more rarely; and when the outage ends, within a minute."""
    desk = generador_that(replace(settings, failure_delay=1.0), down)
    began = clock_of(desk)
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    pass_time(desk, waited_s)
    desk.make_due()
    desk.worker.retry_failures()
    (row,) = desk.rows(failure)
    took_s = clock_of(desk) - began
    assert 0 <= row["at"] - began <= took_s
    assert 0 <= row["due_at"] - (began + waited_s + rest_s) <= 2 * took_s
    desk.runtime.write.dispose()


def clock_of(desk: Desk) -> float:
    with desk.runtime.write.connect() as connection:
        return database.now(connection)


def test_the_log_names_what_waits_and_what_failed(settings: Settings) -> None:
    """One message among thousands is found by its id, and its trouble by its words."""
    delivery = deliver(GeneratePassword("ada"))
    wire = delivery.wire
    named = {"topic": wire.topic, "saga": wire.key, **dict.fromkeys(("command", "message"), wire.properties["ce_id"])}
    with capture_logs() as lines:
        for function in (down, down, poisonous, poisonous):
            desk = generador_that(settings, function)
            desk.worker.settle([delivery])
            desk.make_due()
            desk.worker.retry_failures()
            desk.runtime.write.dispose()
    *waiting, first, second = (line for line in lines if line["event"] in ("waiting", "failed", "dead letter"))
    assert [line["log_level"] for line in waiting] == 4 * ["warning"]
    assert all(named.items() <= line.items() and "the vault is down" in line["error"] for line in waiting)
    assert (first["log_level"], first["attempt"], second["attempt"]) == ("error", 1, 2)
    assert (first["event"], second["event"]) == ("failed", "dead letter")
    assert named.items() <= first.items()
    assert first["error"].startswith("RuntimeError: poison (test_outbox.py:")


def test_a_dead_letter_holds_what_an_operator_needs(settings: Settings) -> None:
    """What came, from where, of which saga, how often it was tried, and what went wrong where."""
    desk = generador_that(settings, poisonous)
    delivery = deliver(GeneratePassword("ada"), saga_id=(saga_id := new_id()))
    desk.worker.settle([delivery])
    desk.retry_until_buried()
    (letter,) = desk.rows(dead_letter)
    assert unpack_delivery(letter["delivery"]) == delivery
    assert (letter["id"], letter["topic"]) == (delivery.wire.properties["ce_id"], delivery.wire.topic)
    assert (letter["saga_id"], letter["attempts"]) == (saga_id, settings.failure_attempts)
    assert letter["error"].startswith("RuntimeError: poison (test_outbox.py:")
    (call,) = desk.rows(incident)
    assert (call["kind"], call["subject"], call["code"]) == ("dead-letter", letter["id"], "RuntimeError")
    assert (call["topic"], call["detail"]) == (letter["topic"], letter["error"])
    desk.runtime.write.dispose()


def test_the_answer_of_a_dead_letter_names_the_command_and_what_went_wrong(settings: Settings) -> None:
    """The coordinator writes it into the saga's log, where the next operator looks."""
    desk = generador_that(settings, poisonous)
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    desk.retry_until_buried()
    (wire,) = desk.said(contract_of(GENERADOR.failed).name)
    answer = CODEC.decode(GENERADOR.failed, wire.body, CommittedSchemas()[contract_of(GENERADOR.failed).dataschema])
    (letter,) = desk.rows(dead_letter)
    assert answer == GENERADOR.failed(contract_of(GeneratePassword).name, "dead-letter", letter["error"])
    desk.runtime.write.dispose()


def test_another_body_under_the_id_of_a_dead_letter_is_refused_with_an_incident(settings: Settings) -> None:
    """The id is spent, and who uses it again must hear so."""
    identifier = new_id()
    desk = generador_that(settings, poisonous)
    desk.worker.settle([deliver(GeneratePassword("ada"), identifier=identifier)])
    desk.retry_until_buried()
    desk.worker.settle([deliver(GeneratePassword("eve"), identifier=identifier)])
    assert sorted(row["code"] for row in desk.rows(incident)) == ["RuntimeError", "same-id-other-body"]
    assert desk.count(dead_letter) == 1
    desk.runtime.write.dispose()


def test_a_reaction_to_a_dead_letter_that_fails_leaves_the_letter_and_nothing_of_itself(settings: Settings) -> None:
    """The letter is the last place where the message is."""
    heard: list[str] = []

    def react(message: Any, uow: Any, error: str) -> None:
        heard.append(error)
        uow.put(password, {"username": "half done"})
        raise RuntimeError("cannot react")

    desk = generador_that(settings, poisonous, react)
    delivery = deliver(GeneratePassword("ada"))
    with capture_logs() as lines:
        desk.worker.settle([delivery])
        desk.retry_until_buried()
    assert (desk.count(dead_letter), desk.count(password)) == (1, 0)
    assert heard == [desk.rows(dead_letter)[0]["error"]]
    (line,) = (line for line in lines if line["event"] == "nobody could react to a dead letter")
    assert (line["command"], line["log_level"]) == (delivery.wire.properties["ce_id"], "error")
    desk.runtime.write.dispose()


def test_an_error_is_named_with_the_place_it_came_from_and_fits_its_column() -> None:
    """Its name alone says little, and a page of it no more."""

    with pytest.raises(RuntimeError) as short:
        poisonous(None, None)
    line = poisonous.__code__.co_firstlineno + 1
    assert describe(short.value) == f"RuntimeError: poison (test_outbox.py:{line})"
    assert describe(KeyError("a")) == "KeyError: 'a'"
    long = describe(ValueError("nul \0, " + "x" * 3000))
    assert (long[:15], len(long)) == ("ValueError: nul", 2000)
    assert "\0" not in long


def test_the_log_counts_what_was_not_published_and_what_was_swept(settings: Settings) -> None:
    """With a broker away these two lines tell how far behind a service is."""
    desk = make_desk(settings, "generador")
    desk.broker.is_up = False
    with capture_logs() as lines:
        desk.worker.settle([deliver(GeneratePassword("ada")), deliver(GeneratePassword("bob"))])
        desk.broker.is_up = True
        with desk.runtime.write.begin() as tx:
            tx.execute(update(outbox).values(due_at=0))
        desk.runtime.transactions.outbox.sweep()
    assert lines == [
        {
            "event": "not published, left to the sweep",
            "log_level": "warning",
            "messages": 2,
            "error": "the fake broker is down",
        },
        {"event": "sweep", "log_level": "info", "messages": 2},
    ]
    desk.runtime.write.dispose()
