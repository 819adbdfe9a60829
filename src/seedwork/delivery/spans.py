"""Spans of messages, by OpenTelemetry's conventions for messaging: each is sent and processed, many are received.

The span that sends a message is what the message carries as its `traceparent`; whatever processes it is a child of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.dispatch.reader import Received
from pulsaga.delivery.messages import AnyMessage
from pulsaga.telemetry import traces
from pulsaga.telemetry.traces import TRACEPARENT, Attributes, Kind, Span, begin, enter, recorder_of

MOST_LINKS = 128
"""Of a span, as OpenTelemetry has it by default."""


def sending(message: AnyMessage) -> Span | None:
    """Begin to send a message, under what its context carries."""
    return _of(message, "send", "producer")


def processing(message: AnyMessage, consumer: str) -> Span | None:
    """Begin to process a message, on behalf of a service."""
    return _of(message, "process", "consumer", {"messaging.consumer.group.name": consumer})


def _of(message: AnyMessage, operation: str, kind: Kind, more: Attributes | None = None) -> Span | None:
    parent = message.context.traceparent
    if (recorder := recorder_of(parent)) is None:
        return None
    topic = message.contract.name
    about = _about(recorder.messaging_system, operation, topic, message.id, message.saga_id)
    return begin(f"{operation} {topic}", kind, parent, {**about, **(more or {})})


def sending_again(wires: Iterable[Wire]) -> dict[str, Span]:
    """Begin to publish messages that were sent before, each under that; return the spans by the messages' ids."""
    begun = ((wire.properties["ce_id"], _again(wire)) for wire in wires)
    return {identifier: span for identifier, span in begun if span}


def _again(wire: Wire) -> Span | None:
    parent = wire.properties.get("traceparent")
    if (recorder := recorder_of(parent)) is None:
        return None
    about = _about(recorder.messaging_system, "send", wire.topic, wire.properties["ce_id"], wire.key)
    return begin(f"send {wire.topic}", "client", parent, about)


def _about(system: str, operation: str, topic: str, identifier: str, saga_id: str) -> Attributes:
    return {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
        "messaging.message.id": identifier,
        "messaging.message.conversation_id": saga_id,
    }


@contextmanager
def receiving(batch: Sequence[Delivery]) -> Iterator[None]:
    """Record that a batch of several messages was received and settled, with links to those that are sampled."""
    span = _receiving(batch) if traces.recorder and len(batch) > 1 else None
    yield
    if span:
        span.end()


def _receiving(batch: Sequence[Delivery]) -> Span | None:
    carried = [one.wire.properties.get("traceparent", "") for one in batch]
    links = [parent for parent in carried if recorder_of(parent) and TRACEPARENT.fullmatch(parent)]
    recorder = recorder_of(links[0]) if links else None
    if recorder is None:
        return None
    named: Attributes = {
        "messaging.system": recorder.messaging_system,
        "messaging.operation.name": "receive",
        "messaging.operation.type": "receive",
        "messaging.batch.message_count": len(batch),
    }
    return enter("receive", "client", None, named, links[:MOST_LINKS]).span


def projected(batch: Sequence[Received], began: int) -> None:
    """Record that a batch was projected; `began` is `time.time_ns()`."""
    for received in batch:
        if received.message and (span := _of(received.message, "project", "consumer")):
            span._replace(began=began).end(more={"messaging.operation.type": "process"})
