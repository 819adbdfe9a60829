"""Keep the broker port over Apache Pulsar; docs/decisions/0002-pulsar-client.md says why it is done this way."""

from __future__ import annotations

import json
import queue
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

import pulsar

from pulsaga.broker import OPEN, BrokerAccess, Delivery, Subscription, Wire, check_size, publish_error
from pulsaga.broker.pulsar_admin import TENANT
from pulsaga.broker.pulsar_log import log_file
from pulsaga.delivery.messages import new_id
from pulsaga.errors import ProtoolsError, SchemaIncompatible, Unavailable

T = TypeVar("T")
Pair = tuple[str, str]
"""A topic, and the schema under which it is written."""

LIVE = "(live)"
"""Stands for the schema of ephemeral topics, which have none."""
ORDERING_BUCKETS = 8
SEND_TIMEOUT_MS = 3_000
REOPEN_AFTER = 3
"""Empty receives without a connection after which a consumer is opened anew."""
REJOIN_AFTER_S, SELDOM_S = 10.0, 60.0
"""Seconds of silence after which a consumer of a shared subscription joins anew, in a long silence twice as many each
time, up to SELDOM_S, for every ten seconds took half of an idle system's CPU. Pulsar 4.0.8 can stall a Key_Shared
subscription for good when a consumer was killed (seen in 4 of 242 trials; apache/pulsar#23845); one that joins sets it
going."""


class _ReadyAvro(pulsar.schema.AvroSchema):  # type: ignore[misc]
    """Announce an Avro schema and pass on bytes that are encoded already."""

    def __init__(self, avsc: str) -> None:
        super().__init__(None, schema_definition=json.loads(avsc))

    def encode(self, obj: bytes) -> bytes:
        return obj


class PulsarBroker:
    """Hold the one Pulsar client of this process, its producers and consumers."""

    def __init__(self, url: str, schemas: Mapping[str, str], namespace: str, access: BrokerAccess = OPEN) -> None:
        self._client = pulsar.Client(
            url,
            authentication=pulsar.AuthenticationToken(access.token) if access.token else None,
            tls_trust_certs_file_path=str(access.trust_certs) if access.trust_certs else None,
            tls_validate_hostname=True,
            operation_timeout_seconds=5,
            stats_interval_in_seconds=0,
            logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, log_file()),
        )
        self._url = url
        self._schemas = schemas
        self._prefix = f"persistent://{TENANT}/{namespace}/"
        self._live = f"non-persistent://{TENANT}/{namespace}-live/"
        self._producers: dict[Pair, pulsar.Producer] = {}
        self._making: dict[Pair, threading.Lock] = {}
        self._texts: dict[tuple[str, str], str] = {}

    def publish(self, wires: Sequence[Wire]) -> None:
        """Send all, wait once; a topic of which anything but Ok came back did not take its messages."""
        for wire in wires:
            check_size(wire)
        parts: dict[Pair, list[Wire]] = defaultdict(list)
        for wire in wires:
            parts[wire.topic, wire.properties.get("ce_dataschema", "")].append(wire)
        if refused := self._publish(parts):
            self._forget_disconnected()
            raise publish_error(refused, {topic for topic, _ in parts})

    def _publish(self, parts: Mapping[Pair, Sequence[Wire]]) -> dict[str, ProtoolsError]:
        """Return why topics did not take their messages."""
        refused: dict[str, ProtoolsError] = {}
        sent: list[tuple[str, _Sending]] = []
        for (topic, _), wires, producer in zip(parts, parts.values(), self._producers_of(list(parts)), strict=True):
            if isinstance(producer, ProtoolsError):
                refused[topic] = producer
            else:
                sent.append((topic, _Sending(producer, wires)))
        for topic, sending in sent:
            if error := sending.error():
                refused[topic] = error
        return refused

    def _producers_of(self, pairs: Sequence[Pair]) -> list[pulsar.Producer | ProtoolsError]:
        """Return a producer for each pair, or why there is none; a topic that hangs holds up no other."""
        if all(pair in self._producers for pair in pairs):
            return [self._found(pair) for pair in pairs]
        with ThreadPoolExecutor(len(pairs)) as threads:
            return list(threads.map(self._found, pairs))

    def _found(self, pair: Pair) -> pulsar.Producer | ProtoolsError:
        try:
            return self._producer(*pair)
        except ProtoolsError as error:
            return error

    def subscribe(self, name: str, topics: Sequence[str]) -> _Consumer:
        """Share a durable subscription, Key_Shared, from the earliest message on."""
        return _Consumer(
            lambda: self._client.subscribe(
                [self._prefix + topic for topic in topics],
                name,
                consumer_name=new_id(),  # Pulsar shares keys out by hashes of these; without names one gets most of all
                consumer_type=pulsar.ConsumerType.KeyShared,
                schema=pulsar.schema.BytesSchema(),
                initial_position=pulsar.InitialPosition.Earliest,
                receiver_queue_size=2000,
                batch_index_ack_enabled=True,
            ),
            rejoins=True,
        )

    def browse(self, topics: Sequence[str], *, earliest: bool) -> Subscription:
        """Read topics by non-durable readers."""
        return _Browser(self._client, [self._prefix + topic for topic in topics], earliest=earliest)

    def broadcast(self, topic: str, body: bytes) -> None:
        """Send on a non-persistent topic, unconfirmed."""
        producer = self._producer(topic, LIVE)
        if not producer.is_connected():  # what it is given now is lost without a word
            self._forget_disconnected()
            producer = self._producer(topic, LIVE)
        _guarded(lambda: producer.send_async(body, {}.setdefault))

    def listen(self, topic: str) -> _Consumer:
        """Hear a non-persistent topic on a subscription of one's own, which goes when its consumer goes."""
        return _Consumer(lambda: self._client.subscribe(self._live + topic, f"listener-{new_id()}"))

    def schema(self, topic: str, version: str) -> str:
        """Ask the registry for one version of a topic's schema, once."""
        if (topic, version) not in self._texts:
            info = _guarded(lambda: self._client._client.get_schema_info(self._prefix + topic, int(version)))
            self._texts[topic, version] = info.schema()
        return self._texts[topic, version]

    def is_connected(self) -> bool:
        """Tell whether the broker answers a look-up now."""
        try:
            self._client._client.get_topic_partitions(self._live + "probe")
        except pulsar.PulsarException:
            return False
        producers = list(self._producers.values())  # one alone may be held back by its topic
        return not producers or any(producer.is_connected() for producer in producers)

    def close(self) -> None:
        """Flush producers, then close the client."""
        for producer in self._producers.values():
            _quietly(producer.flush)
        _quietly(self._client.close)

    def _forget_disconnected(self) -> None:
        """Make new producers next time: one that was cut off waits up to a minute before it connects again."""
        for pair, producer in list(self._producers.items()):
            if not producer.is_connected():
                self._producers.pop(pair, None)
                _quietly(producer.close)

    def _producer(self, topic: str, dataschema: str) -> pulsar.Producer:
        if found := self._producers.get((topic, dataschema)):
            return found
        with self._making.setdefault((topic, dataschema), threading.Lock()):
            found = self._producers.get((topic, dataschema))
            if found is None:
                make = self._make_live_producer if dataschema == LIVE else self._make_producer
                found = self._producers[topic, dataschema] = _guarded(lambda: make(topic, dataschema))
            return found

    def _make_producer(self, topic: str, dataschema: str) -> pulsar.Producer:
        return self._client.create_producer(
            self._prefix + topic,
            schema=_ReadyAvro(self._text_of(topic, dataschema)),
            batching_enabled=True,
            batching_type=pulsar.BatchingType.KeyBased,
            batching_max_messages=1000,
            batching_max_allowed_size_in_bytes=1024 * 1024,
            batching_max_publish_delay_ms=1,
            block_if_queue_full=True,
            max_pending_messages=5000,
            send_timeout_millis=SEND_TIMEOUT_MS,
        )

    def _text_of(self, topic: str, dataschema: str) -> str:
        try:
            return self._schemas[dataschema]
        except KeyError:
            raise SchemaIncompatible(f"{topic}: no schema is known for ce_dataschema {dataschema!r}") from None

    def _make_live_producer(self, topic: str, _dataschema: str) -> pulsar.Producer:
        return self._client.create_producer(self._live + topic, send_timeout_millis=SEND_TIMEOUT_MS)


class _Sending:
    """Messages of one topic on their way."""

    def __init__(self, producer: pulsar.Producer, wires: Iterable[Wire]) -> None:
        self._producer = producer
        self._outcomes: dict[Any, Any] = {}
        self._error: ProtoolsError | None = None
        try:
            for wire in wires:
                _send(producer, wire, self._outcomes.setdefault)
        except ProtoolsError as error:
            self._error = error

    def error(self) -> ProtoolsError | None:
        """Wait until all are stored; return why one was not."""
        try:
            _guarded(self._producer.flush)  # flush_async holds the GIL and can deadlock with the client's thread
        except ProtoolsError as error:
            return error
        failed = [str(result) for result in self._outcomes if result != pulsar.Result.Ok]
        return Unavailable(f"the broker did not confirm: {', '.join(failed)}") if failed else self._error


def _send(producer: pulsar.Producer, wire: Wire, note: Callable[..., Any]) -> None:
    bucket = str(zlib.crc32(wire.key.encode()) % ORDERING_BUCKETS)
    try:
        producer.send_async(wire.body, note, properties=wire.properties, partition_key=wire.key, ordering_key=bucket)
    except pulsar.PulsarException as error:
        raise Unavailable(f"the broker does not take {wire.topic}: {error}") from error


def _guarded(call: Callable[[], T]) -> T:
    try:
        return call()
    except pulsar.IncompatibleSchema as error:
        raise SchemaIncompatible(f"the broker refused the schema: {error}") from error
    except (pulsar.AuthenticationError, pulsar.AuthorizationError) as error:
        raise Unavailable(f"the broker does not let this BROKER_TOKEN do that: {error}") from error
    except pulsar.PulsarException as error:
        raise Unavailable(f"the broker does not answer: {error}") from error


def _quietly(call: Callable[[], Any]) -> None:
    try:
        call()
    except pulsar.PulsarException:
        return


class _Consumer:
    """Receive through one Pulsar consumer; keep the Message objects, for only they acknowledge one of a batch."""

    def __init__(self, open_consumer: Callable[[], pulsar.Consumer], *, rejoins: bool = False) -> None:
        self._open, self._rejoins = open_consumer, rejoins
        self._consumer = _guarded(open_consumer)
        self._names: dict[str, str] = {}
        self._cut_off = 0
        """Receives in a row that ended without a connection."""
        self._heard_at, self._patience_s = monotonic(), REJOIN_AFTER_S

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        first = self._next(max(1, int(timeout_s * 1000)))
        if first is None:
            self._look_after_connection()
            return []
        self._cut_off, self._heard_at, self._patience_s = 0, monotonic(), REJOIN_AFTER_S
        taken = [first]
        while len(taken) < limit and (message := self._next(0)) is not None:
            taken.append(message)
        return [_delivery(message, self._names) for message in taken]

    def _look_after_connection(self) -> None:
        """Open a new consumer when the old one stays cut off (alone it may wait a minute) or hears nothing for long."""
        self._cut_off = 0 if self._consumer.is_connected() else self._cut_off + 1
        if self._cut_off >= REOPEN_AFTER:
            self._join_anew(REJOIN_AFTER_S)
        elif self._rejoins and monotonic() - self._heard_at >= self._patience_s:
            self._join_anew(min(SELDOM_S, 2 * self._patience_s))

    def _join_anew(self, patience_s: float) -> None:
        fresh = _guarded(self._open)
        _quietly(self._consumer.close)
        self._consumer, self._cut_off, self._heard_at, self._patience_s = fresh, 0, monotonic(), patience_s

    def _next(self, timeout_ms: int) -> pulsar.Message | None:
        try:
            return self._consumer.receive(timeout_millis=timeout_ms)
        except pulsar.Timeout:
            return None
        except pulsar.PulsarException as error:
            raise Unavailable(f"cannot receive: {error}") from error

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            try:
                self._consumer.acknowledge(delivery.handle)
            except pulsar.PulsarException:
                continue

    def close(self) -> None:
        _quietly(self._consumer.close)


class _Browser:
    """Merge one non-durable reader per topic into one stream."""

    def __init__(self, client: pulsar.Client, topics: Sequence[str], *, earliest: bool) -> None:
        self._arrived: queue.Queue[pulsar.Message] = queue.Queue(maxsize=1000)
        self._names: dict[str, str] = {}
        begin = pulsar.MessageId.earliest if earliest else pulsar.MessageId.latest
        self._readers = [
            _guarded(lambda topic=topic: client.create_reader(topic, begin, reader_listener=self._arrive))  # type: ignore[misc]
            for topic in topics
        ]

    def _arrive(self, _reader: Any, message: pulsar.Message) -> None:
        self._arrived.put(message)

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        taken: list[pulsar.Message] = []
        try:
            taken.append(self._arrived.get(timeout=timeout_s))
            while len(taken) < limit:
                taken.append(self._arrived.get_nowait())
        except queue.Empty:
            pass  # nothing more has arrived: what was taken is the answer
        return [_delivery(message, self._names) for message in taken]

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Do nothing: a reader keeps no place."""

    def close(self) -> None:
        for reader in self._readers:
            _quietly(reader.close)


def _delivery(message: pulsar.Message, names: dict[str, str]) -> Delivery:
    full = message.topic_name()
    topic = names.get(full) or names.setdefault(full, full.rpartition("/")[2].partition("-partition-")[0])
    raw = message._message
    version = raw.int_schema_version()
    try:
        wire = Wire(topic, message.partition_key(), message.properties(), message.data())
    except Exception:  # text that is not UTF-8, in what others wrote: kept without it, as what cannot be read
        wire = Wire(topic, "", {}, message.data())
    return Delivery(wire, str(version) if version >= 0 else "", message)
