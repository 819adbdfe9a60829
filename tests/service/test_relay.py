"""Hold the relay and the inbox to their waiting times and bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update
from tests.service.desk import KEYS, deliver, make_desk
from tests.service.fakes import FakeBroker

from generador.messages import GeneratePassword, NothingToRevoke
from seedwork import database
from seedwork.avro import Codec, CommittedSchemas
from seedwork.broker import Wire
from seedwork.database import open_database
from seedwork.delivery import dead_letter, failure, outbox
from seedwork.messages import new_id
from seedwork.relay import QUEUE_LIMIT, SWEEP_PAGE, Relay
from seedwork.settings import Settings
from seedwork.unit_of_work import Speaker


def test_what_waits_for_the_publisher_is_bounded_and_goes_out_in_pages(tmp_path: Path) -> None:
    """With the broker down for an hour the front door must not fill its memory: the outbox holds the rest."""
    engine = open_database(Settings.read({"PROTOOLS_HOME": str(tmp_path)}), "bff", "write", "owner")
    relay = Relay(engine, broker := FakeBroker(), Speaker("bff", Codec(CommittedSchemas())))
    for number in range(QUEUE_LIMIT + 5):
        relay.publish_later([Wire("t", "k", {"ce_id": str(number)}, b"")])
    relay.publish_waiting(0.0)
    assert len(broker.published) == SWEEP_PAGE
    for _ in range(QUEUE_LIMIT // SWEEP_PAGE + 1):
        relay.publish_waiting(0.0)
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
    assert [desk.runtime.relay.sweep(), desk.runtime.relay.sweep()] == [1, 0]
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
