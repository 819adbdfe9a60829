"""Publish behind the back of whoever commits."""

from __future__ import annotations

from pathlib import Path

from tests.service.fakes import FakeBroker

from seedwork.avro import Codec, CommittedSchemas
from seedwork.broker import Wire
from seedwork.database import open_database
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
