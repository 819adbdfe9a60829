"""Keep the promises of the broker port, on every adapter."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.contract.brokers import (
    BREAKING,
    NEW,
    OLD,
    PATIENCE_S,
    Stage,
    avsc,
    receive,
    text_of,
    texts,
    wire,
)

from protools.local.process import wait_until
from seedwork.broker import MAX_MESSAGE_BYTES, Broker, Subscription, Wire
from seedwork.errors import MessageTooLarge, SchemaIncompatible, Unavailable

HOLDER = Path(__file__).with_name("holder.py")
TAKEOVER_S = 1.0


def test_a_message_arrives_as_it_was_sent(stage: Stage) -> None:
    """Handlers rely on topic, key, every property and every byte."""
    topic, broker = stage.topic(), stage.connect()
    sent = wire(topic, "saga-1", "grüß Gott", body=bytes(range(256)))
    broker.publish([sent])
    [delivery] = receive(broker.subscribe("reader", [topic]), 1)
    assert delivery.wire == sent


def test_what_was_confirmed_survives_a_restart_of_the_broker(stage: Stage) -> None:
    """A confirmed message may be removed from the outbox: nobody else has it."""
    topic = stage.topic()
    stage.connect().publish([wire(topic, text=str(n)) for n in range(20)])
    stage.server.stop()
    stage.server.start()
    assert texts(stage.connect().subscribe("reader", [topic]), 20) == [str(n) for n in range(20)]


def test_what_was_confirmed_survives_a_kill_of_the_broker_under_load(stage: Stage) -> None:
    """A crash may take what is under way, never what was confirmed."""
    topic, broker, confirmed = stage.topic(), stage.connect(), list[str]()

    def produce() -> None:
        for round_number in range(1_000_000):
            batch = [wire(topic, f"k{n}", f"{round_number}.{n}") for n in range(20)]
            try:
                broker.publish(batch)
            except Unavailable:
                return
            confirmed.extend(one.properties["ce_subject"] for one in batch)

    with _thread(produce):
        assert wait_until(lambda: len(confirmed) >= 200, PATIENCE_S)
        stage.server.kill()
    stage.server.start()
    missing, reader = set(confirmed), stage.connect().subscribe("reader", [topic])
    assert wait_until(lambda: not (missing := _without(missing_of(missing), reader)), PATIENCE_S)
