"""Keep the promises of the broker port, on every adapter."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from tests.contract.brokers import BREAKING, ENVIRONMENT, NEW, OLD, Stage, receive, text_of, texts, wire
from tests.patience import PATIENCE_S

from pulsaga.broker import MAX_MESSAGE_BYTES, Broker, Delivery, Owed, Subscription
from pulsaga.errors import MessageTooLarge, NotConfirmed, SchemaIncompatible, Unavailable
from pulsaga_program.local.process import wait_until

T = TypeVar("T")
HOLDER = Path(__file__).with_name("holder.py")
TUNE = b"tune"


def test_a_message_arrives_as_it_was_sent(stage: Stage) -> None:
    """Handlers rely on topic, key, every property and every byte."""
    topic, broker = stage.topic(), stage.connect()
    sent = wire(topic, "saga-1", "grüß Gott", body=bytes(range(256)))
    broker.publish([sent])
    [delivery] = receive(broker.subscribe("reader", [topic]), 1)
    assert delivery.wire == sent


def test_what_was_confirmed_survives_a_restart_of_the_broker(stage: Stage) -> None:
    """A confirmed message may leave the outbox: nobody else has it."""
    topic = stage.topic()
    stage.connect().publish([wire(topic, text=str(n)) for n in range(20)])
    stage.server.stop()
    stage.server.start()
    assert texts(stage.connect().subscribe("reader", [topic]), 20) == [str(n) for n in range(20)]


def test_a_message_sent_before_its_consumer_started_arrives(stage: Stage) -> None:
    """Services start in any order."""
    topic, broker = stage.topic(), stage.connect()
    broker.publish([wire(topic, text="early")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["early"]


def test_a_message_comes_again_until_it_is_acknowledged(stage: Stage) -> None:
    """A worker that dies before its commit must see the message again, and never after its acknowledgement."""
    topic, broker = stage.topic(), stage.connect()
    broker.publish([wire(topic, text="first")])
    for _ in range(3):
        reader = broker.subscribe("reader", [topic])
        assert texts(reader, 1, ack=False) == ["first"]
        reader.close()
    reader = broker.subscribe("reader", [topic])
    assert texts(reader, 1) == ["first"]
    reader.close()
    broker.publish([wire(topic, text="second")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["second"]


def test_what_was_acknowledged_stays_acknowledged_after_a_restart(stage: Stage) -> None:
    """A clean stop of everything leaves nothing to do twice."""
    topic, broker = stage.topic(), stage.connect()
    broker.publish([wire(topic, text=str(n)) for n in range(10)])
    reader = broker.subscribe("reader", [topic])
    receive(reader, 10)
    reader.close()
    broker.close()
    stage.server.stop()
    stage.server.start()
    broker = stage.connect()
    broker.publish([wire(topic, text="next")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["next"]


def test_one_of_a_batch_can_be_acknowledged_alone(stage: Stage) -> None:
    """Acknowledging one message never acknowledges its neighbours."""
    topic, broker = stage.topic(), stage.connect()
    broker.publish([wire(topic, text=str(n)) for n in range(5)])
    reader = broker.subscribe("reader", [topic])
    held = receive(reader, 5, ack=False)
    reader.ack([held[1], held[3]])
    reader.close()
    assert texts(broker.subscribe("reader", [topic]), 3) == ["0", "2", "4"]


def test_what_a_killed_consumer_held_comes_to_another_at_once(stage: Stage) -> None:
    """A worker that is killed delays its sagas by moments, not by a timeout."""
    topic, broker = stage.topic(), stage.connect()
    with _holder(stage, topic, 50) as holder:
        broker.publish([wire(topic, f"k{n % 7}", str(n)) for n in range(50)])
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        heir = broker.subscribe("reader", [topic])
        broker.publish([wire(topic, f"k{n % 7}", str(n)) for n in range(50, 60)])
        came: list[Delivery] = []
        holder.kill()
        assert wait_until(lambda: _collect(heir, came) >= 60, stage.facts.takes_over_within_s)
    assert _in_order(came)


@pytest.mark.parametrize("partitions", [1, 4])
def test_two_consumers_of_a_topic_keep_the_order_of_each_key(stage: Stage, partitions: int) -> None:
    """The messages of one saga are handled one after the other, whoever handles them and wherever they lie."""
    topic, count = stage.topic(partitions=partitions), 3000
    stream: list[tuple[Delivery, int]] = []
    for_all = threading.Lock()

    def consume(number: int, reader: Subscription) -> None:
        while len(stream) < count:
            came = reader.receive(20, 0.2)
            with for_all:
                stream.extend((one, number) for one in came)
            reader.ack(came)

    readers = [stage.connect().subscribe("reader", [topic]) for _ in range(2)]
    with _running(*(lambda n=n, r=r: consume(n, r) for n, r in enumerate(readers))):
        broker = stage.connect()
        for begin in range(0, count, 100):
            broker.publish([wire(topic, f"k{n % 30}", str(n)) for n in range(begin, begin + 100)])
        assert wait_until(lambda: len(stream) >= count, PATIENCE_S)
    assert _in_order([delivery for delivery, _ in stream])
    assert {number for _, number in stream} == {0, 1}, "both take part"


def test_a_key_with_unacknowledged_messages_is_not_split_when_a_consumer_joins(stage: Stage) -> None:
    """Scaling out must not let two workers handle one saga at a time."""
    topic, broker = stage.topic(), stage.connect()
    elder = broker.subscribe("reader", [topic])
    broker.publish([wire(topic, "held", str(n)) for n in range(40)])
    receive(elder, 40, ack=False)
    younger = stage.connect().subscribe("reader", [topic])
    broker.publish([wire(topic, "held", str(n)) for n in range(40, 80)])
    broker.publish([wire(topic, f"free{n}", "0") for n in range(40)])
    came: list[Delivery] = []
    assert wait_until(lambda: _collect(younger, came) > 0, PATIENCE_S)
    assert "held" not in {one.wire.key for one in came}
    elder.close()
    assert wait_until(lambda: _collect(younger, came) >= 120, PATIENCE_S)
    assert _in_order(came)


def test_every_durable_subscription_receives_every_message(stage: Stage) -> None:
    """Worker and projector read the same events without taking them from each other."""
    topic, broker = stage.topic(subscriptions=["reader", "projector"]), stage.connect()
    broker.publish([wire(topic, text=str(n)) for n in range(10)])
    for name in ("reader", "projector"):
        assert texts(broker.subscribe(name, [topic]), 10) == [str(n) for n in range(10)]


def test_one_subscription_spans_several_topics(stage: Stage) -> None:
    """A worker reads all its topics in one loop."""
    topics, broker = [stage.topic(f"room.t{n}") for n in range(3)], stage.connect()
    broker.publish([wire(topic, text=topic) for topic in topics])
    assert sorted(texts(broker.subscribe("reader", topics), 3)) == topics


def test_namespaces_do_not_mix(stage: Stage) -> None:
    """Two installations may share a broker."""
    other = Stage(stage.server, stage.facts, f"{stage.namespace}-other")
    topic, _ = stage.topic(), other.topic()
    other.connect().publish([wire(topic, text="theirs")])
    stage.connect().publish([wire(topic, text="ours")])
    assert texts(stage.connect().subscribe("reader", [topic]), 1) == ["ours"]
    other.close()


def test_an_incompatible_schema_is_refused_by_name_and_changes_nothing(stage: Stage) -> None:
    """A deployment that would break a reader stops before it starts, and says where."""
    topic, admin, broker = stage.topic(), stage.admin(), stage.connect()
    for refuse in (admin.check_schema, admin.register_schema):
        with pytest.raises(SchemaIncompatible, match=r"room\.said.*reason"):
            refuse(topic, BREAKING)
    with pytest.raises(SchemaIncompatible):
        broker.publish([wire(topic, schema="note:3")])
    broker.publish([wire(topic, text="as before")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["as before"]


def test_checking_a_schema_registers_nothing(stage: Stage) -> None:
    """Bootstrap checks every schema before it touches any."""
    topic, admin = stage.topic(), stage.admin()
    admin.check_schema(topic, NEW)
    admin.check_schema("room.not-there-yet", NEW)
    with pytest.raises(SchemaIncompatible):
        stage.connect().publish([wire(topic, schema="note:2")])
    assert admin.topics() == [topic]
    assert [json.loads(one) for one in admin.schemas(topic)] == [json.loads(OLD)]


@pytest.mark.parametrize("schema", ["note:2", "note:unknown", ""])
def test_publishing_under_an_unregistered_schema_is_refused(stage: Stage, schema: str) -> None:
    """A message that nobody can decode must not enter a topic; what was sent with it does not either."""
    topic, broker = stage.topic(), stage.connect()
    with pytest.raises(SchemaIncompatible):
        broker.publish([wire(topic, text="fine", schema=schema), wire(topic, text="with it", schema=schema)])
    broker.publish([wire(topic, text="after")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["after"]


def test_publishing_to_an_unknown_topic_is_refused(stage: Stage) -> None:
    """A misspelt topic is an error, not a place where messages vanish."""
    stage.topic()
    with pytest.raises(SchemaIncompatible):
        stage.connect().publish([wire("room.misspelt")])


def test_a_topic_that_takes_no_messages_holds_up_no_other(stage: Stage) -> None:
    """One topic whose schema was changed, or that is gone, must not stop all that a process has to say."""
    topics, broker = [stage.topic("room.a"), stage.topic("room.b")], stage.connect()
    wires = [wire(topic, text=f"{number}") for number in range(20) for topic in (*topics, "room.misspelt")]
    with pytest.raises(NotConfirmed) as caught:
        broker.publish(wires)
    assert caught.value.topics == {"room.misspelt"}
    for topic in topics:
        came = texts(broker.subscribe("reader", [topic]), 20)
        assert list(dict.fromkeys(came)) == [f"{number}" for number in range(20)]


def test_a_newer_compatible_schema_is_readable_by_its_version(stage: Stage) -> None:
    """Old and new processes run side by side during a deployment; each message names its writer's schema."""
    topic, broker = stage.topic(), stage.connect()
    broker.publish([wire(topic, text="old")])
    stage.admin().register_schema(topic, NEW)
    broker.publish([wire(topic, text="new", schema="note:2"), wire(topic, text="old")])
    reader = stage.connect({})
    came = receive(reader.subscribe("reader", [topic]), 3)
    written = {text: {one.schema for one in came if text_of(one) == text} for text in ("old", "new")}
    assert [len(versions) for versions in written.values()] == [1, 1]
    assert json.loads(reader.schema(topic, written["old"].pop())) == json.loads(OLD)
    assert json.loads(reader.schema(topic, written["new"].pop())) == json.loads(NEW)


def test_preparing_twice_changes_nothing(stage: Stage) -> None:
    """Bootstrap runs at every start, and several may run at once."""
    admin = stage.admin()
    for _ in range(2):
        admin.prepare_namespace()
        for topic in ("room.b", "room.a"):
            admin.create_topic(topic)
            admin.register_schema(topic, OLD)
            for name in ("two", "one"):
                admin.create_subscription(topic, name)
    assert admin.topics() == ["room.a", "room.b"]
    assert admin.subscriptions("room.a") == ["one", "two"]
    broker = stage.connect()
    broker.publish([wire("room.a", text="once")])
    [delivery] = receive(broker.subscribe("one", ["room.a"]), 1)
    assert json.loads(broker.schema("room.a", delivery.schema)) == json.loads(OLD)


def test_what_is_broadcast_reaches_every_listener_and_is_not_kept(stage: Stage) -> None:
    """Each web process hears which sagas moved; one that starts later asks the database."""
    stage.topic()
    speaker = stage.connect()
    listeners = [_listener(stage, speaker) for _ in range(3)]
    speaker.broadcast("room.changed", b"first")
    assert [_hears(one, b"first") for one in listeners] == [{b"first"}] * 3
    listeners.append(_listener(stage, speaker))
    speaker.broadcast("room.changed", b"second")
    assert [_hears(one, b"second") for one in listeners] == [{b"second"}] * 4


def test_a_closed_listener_leaves_no_topic_behind(stage: Stage) -> None:
    """Web processes come and go; what they leave behind would add up."""
    topic = stage.topic()
    listener = stage.connect().listen("room.changed")
    listener.close()
    assert stage.admin().topics() == [topic]


def test_five_hundred_messages_travel_in_one_batch(stage: Stage) -> None:
    """Under load a worker's batch is one publish and few receives."""
    topic, broker = stage.topic(), stage.connect()
    broker.publish([wire(topic, f"k{n % 50}", str(n)) for n in range(500)])
    came = receive(broker.subscribe("reader", [topic]), 500)
    assert sorted(int(text_of(one)) for one in came) == list(range(500))
    assert _in_order(came)


def test_publishing_nothing_is_no_work(stage: Stage) -> None:
    """A batch of which nothing follows is ordinary."""
    stage.connect().publish([])


def test_a_backlog_larger_than_any_window_is_worked_off_in_order(stage: Stage) -> None:
    """After an outage of one service its messages wait, however many there are."""
    topic, broker, count = stage.topic(), stage.connect(), 12_000
    for begin in range(0, count, 1000):
        broker.publish([wire(topic, f"k{n % 40}", str(n)) for n in range(begin, begin + 1000)])
    came = receive(broker.subscribe("reader", [topic]), count)
    assert sorted(int(text_of(one)) for one in came) == list(range(count))
    assert _in_order(came)


@pytest.mark.parametrize("size", [1024 * 1024, MAX_MESSAGE_BYTES])
def test_a_body_up_to_the_limit_arrives_whole(stage: Stage, size: int) -> None:
    """An event carries the full state of its aggregate, which may be large."""
    topic, broker, body = stage.topic(), stage.connect(), bytes(range(256)) * (size // 256)
    broker.publish([wire(topic, body=body)])
    [delivery] = receive(broker.subscribe("reader", [topic]), 1)
    assert delivery.wire.body == body


def test_a_body_over_the_limit_is_refused_before_anything_is_sent(stage: Stage) -> None:
    """The sender alone can do something about it; its neighbours must not go out twice."""
    topic, broker = stage.topic(), stage.connect()
    with pytest.raises(MessageTooLarge, match=rf"room\.said.*{MAX_MESSAGE_BYTES + 1} bytes.*{MAX_MESSAGE_BYTES}"):
        broker.publish([wire(topic, text="neighbour"), wire(topic, body=bytes(MAX_MESSAGE_BYTES + 1))])
    broker.publish([wire(topic, text="after")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["after"]


def test_closing_keeps_what_was_confirmed_and_what_was_acknowledged(stage: Stage) -> None:
    """A deployment closes busy processes all the time."""
    topic, broker = stage.topic(), stage.connect()
    confirmed = [f"{turn}.{n}" for turn in range(10) for n in range(50)]
    for turn in range(10):
        broker.publish([wire(topic, f"k{n}", f"{turn}.{n}") for n in range(50)])
    broker.close()
    broker = stage.connect()
    acknowledged = texts(broker.subscribe("reader", [topic]), 200)
    broker.close()
    rest = texts(stage.connect().subscribe("reader", [topic]), 300)
    assert sorted(acknowledged + rest) == sorted(confirmed)


def test_closing_a_busy_connection_loses_nothing_that_was_confirmed(stage: Stage) -> None:
    """Whoever closes waits for what is under way; what comes too late is refused, not dropped."""
    topic, broker = stage.topic(), stage.connect()
    confirmed: list[str] = []
    with _running(lambda: _produce(broker, topic, confirmed)):
        assert wait_until(lambda: len(confirmed) >= 100, PATIENCE_S)
        broker.close()
    reader, came = stage.connect().subscribe("reader", [topic]), set[str]()
    assert wait_until(lambda: _with_more(came, _some(reader)) >= set(confirmed), PATIENCE_S)


def test_a_broker_that_goes_and_comes_back_is_found_again(stage: Stage) -> None:
    """Nothing has to be restarted after the broker was."""
    topic, broker = stage.topic(), stage.connect()
    reader = stage.connect().subscribe("reader", [topic])
    broker.publish([wire(topic, text="before")])
    assert texts(reader, 1) == ["before"]
    stage.server.stop()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        broker.publish([wire(topic, text="during")])
    assert time.monotonic() - began < stage.facts.refuses_within_s
    assert reader.receive(1, 0.1) == []
    assert not broker.is_connected()
    stage.server.start()
    assert wait_until(lambda: _publishes(broker, topic, "after"), stage.facts.recovers_within_s)
    came: set[str] = set()
    assert wait_until(lambda: "after" in _with_more(came, _some(reader)), stage.facts.recovers_within_s)
    assert wait_until(broker.is_connected, stage.facts.recovers_within_s)


def test_a_client_may_start_before_its_broker(stage: Stage) -> None:
    """Processes start in any order."""
    topic = stage.topic()
    stage.server.stop()
    broker = stage.connect()
    assert not broker.is_connected()
    with pytest.raises(Unavailable):
        broker.publish([wire(topic)])
    stage.server.start()
    assert wait_until(lambda: _publishes(broker, topic, "hello"), stage.facts.recovers_within_s)
    assert broker.is_connected()


def test_threads_share_one_connection(stage: Stage) -> None:
    """The web process publishes from many threads."""
    topic, broker = stage.topic(), stage.connect()

    def publish(thread: int) -> None:
        for n in range(20):
            broker.publish([wire(topic, f"thread{thread}", str(n))])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(8)))
    came = receive(broker.subscribe("reader", [topic]), 160)
    assert _in_order(came)


def test_browsing_from_the_earliest_leaves_no_trace(stage: Stage) -> None:
    """A read model is rebuilt, and verified, beside the running system without touching it."""
    topics, broker = [stage.topic("room.one"), stage.topic("room.two")], stage.connect()
    broker.publish([wire(topic, text=f"{topic} {n}") for topic in topics for n in range(5)])
    browser = broker.browse(topics, earliest=True)
    everything = sorted(f"{topic} {n}" for topic in topics for n in range(5))
    assert sorted(texts(browser, 10)) == everything
    browser.close()
    assert [stage.admin().subscriptions(topic) for topic in topics] == [["reader"], ["reader"]]
    assert sorted(texts(broker.subscribe("reader", topics), 10)) == everything


def test_browsing_from_now_shows_what_comes(stage: Stage) -> None:
    """`tail -f` for topics, whether or not somebody else acknowledges."""
    topic, broker = stage.topic(), stage.connect()
    broker.publish([wire(topic, text="before")])
    reader, browser = broker.subscribe("reader", [topic]), stage.connect().browse([topic], earliest=False)
    broker.publish([wire(topic, text=str(n)) for n in range(5)])
    assert texts(reader, 6) == ["before", *map(str, range(5))]
    assert texts(browser, 5) == [str(n) for n in range(5)]


# The kill comes last: a standalone Pulsar that was killed may lose sight of its only bookie for a while.
def test_what_was_confirmed_survives_a_kill_of_the_broker_under_load(stage: Stage) -> None:
    """A crash may take what is under way, never what was confirmed."""
    topic, broker = stage.topic(), stage.connect()
    confirmed: list[str] = []
    with _running(lambda: _produce(broker, topic, confirmed)):
        assert wait_until(lambda: len(confirmed) >= 200, PATIENCE_S)
        stage.server.kill()
    stage.server.start()
    reader, came = stage.connect().subscribe("reader", [topic]), set[str]()
    assert wait_until(lambda: _with_more(came, _some(reader)) >= set(confirmed), PATIENCE_S)


def _in_order(deliveries: list[Delivery]) -> bool:
    """Tell whether the texts (numbers) of each key only rise."""
    keys: defaultdict[str, list[int]] = defaultdict(list)
    for one in deliveries:
        keys[one.wire.key].append(int(text_of(one)))
    return all(numbers == sorted(set(numbers)) for numbers in keys.values())


def _listener(stage: Stage, speaker: Broker) -> Subscription:
    """Start to listen; where that takes a moment, wait for it."""
    listener = stage.connect().listen("room.changed")

    def hears() -> bool:
        speaker.broadcast("room.changed", TUNE)
        return listener.receive(1, 0.1) != []

    assert stage.facts.hears_at_once or wait_until(hears, PATIENCE_S)
    return listener


def _hears(listener: Subscription, last: bytes) -> set[bytes]:
    """Return all that a listener hears up to `last`."""
    heard: set[bytes] = set()
    hear = listener.receive
    assert wait_until(lambda: last in _with_more(heard, [one.wire.body for one in hear(1, 1)]), PATIENCE_S)
    return heard - {TUNE}


def _with_more(seen: set[T], more: Iterable[T]) -> set[T]:
    seen.update(more)
    return seen


def _some(reader: Subscription) -> list[str]:
    came = reader.receive(500, 0.2)
    reader.ack(came)
    return [text_of(one) for one in came]


def _collect(reader: Subscription, came: list[Delivery]) -> int:
    new = reader.receive(500, 0.05)
    reader.ack(new)
    came += new
    return len(came)


def _produce(broker: Broker, topic: str, confirmed: list[str]) -> None:
    """Publish until that is refused; note what was confirmed."""
    for turn in itertools.count():
        texts = [f"{turn}.{n}" for n in range(20)]
        try:
            broker.publish([wire(topic, text, text) for text in texts])
        except Unavailable:
            return
        confirmed += texts


def _publishes(broker: Broker, topic: str, text: str) -> bool:
    try:
        broker.publish([wire(topic, text=text)])
    except Unavailable:
        return False
    return True


@contextmanager
def _running(*targets: Callable[[], None]) -> Iterator[None]:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextmanager
def _holder(stage: Stage, topic: str, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HOLDER), stage.server.url, stage.namespace, topic, str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_every_subscription_is_owed_is_counted_with_who_takes_from_it(stage: Stage) -> None:
    """A backlog that nobody takes is how a dead worker shows; operators look at all of them at once."""
    topic, other, broker, admin = stage.topic(), stage.topic("room.done"), stage.connect(), stage.admin()
    admin.create_subscription(topic, "left")
    reader = broker.subscribe("reader", [topic, other])
    broker.publish([wire(topic, text=str(n)) for n in range(3)])
    taken = receive(reader, 3)

    def owed(reads: bool) -> bool:
        found = [one._replace(messages=bool(one.messages)) for one in admin.owed() if one.topic in (topic, other)]
        wanted = [Owed(other, "reader", False, 1), Owed(topic, "left", True, 0), Owed(topic, "reader", not reads, 1)]
        return found == wanted

    assert wait_until(lambda: owed(reads=False), PATIENCE_S), admin.owed()
    reader.ack(taken)
    assert wait_until(lambda: owed(reads=True), PATIENCE_S), admin.owed()
    reader.close()
