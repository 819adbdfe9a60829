"""Take spans as an OpenTelemetry collector does, by OTLP over HTTP, and show them as trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from tests.receiver import Receiver, receiving, reply

KINDS = {
    trace_pb2.Span.SPAN_KIND_INTERNAL: "internal",
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_PRODUCER: "producer",
    trace_pb2.Span.SPAN_KIND_CONSUMER: "consumer",
}


@dataclass(frozen=True)
class Taken:
    """A span that was exported, and of which service."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    error: str
    attributes: Mapping[str, Any]
    links: tuple[str, ...]


class Collector:
    """What was exported so far."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def spans(self) -> list[Taken]:
        """Return all spans."""
        return [span for _, body in list(self._receiver.taken) for span in _read(body)]

    def trace(self, trace: str) -> list[Taken]:
        """Return the spans of one trace."""
        return [span for span in self.spans() if span.trace == trace]


def tree(spans: list[Taken], parent: str) -> set[tuple[str, ...]]:
    """Return the ways from below a span to its leaves, each by the names of its spans."""
    ways: set[tuple[str, ...]] = set()
    for span in spans:
        if span.parent == parent:
            name = f"{span.service}: {span.name}"
            ways |= {(name, *way) for way in tree(spans, span.id)} or {(name,)}
    return ways


@contextmanager
def collecting() -> Iterator[Collector]:
    """Take spans while the block runs."""
    with receiving() as receiver:
        receiver.answer = lambda handler: reply(handler, 200)
        yield Collector(receiver)


def _read(body: bytes) -> Iterator[Taken]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            yield from (_taken(service, span) for span in scope.spans)


def _taken(service: str, span: trace_pb2.Span) -> Taken:
    return Taken(
        service,
        span.name,
        KINDS[span.kind],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.status.message if span.status.code == trace_pb2.Status.STATUS_CODE_ERROR else "",
        _values(span.attributes),
        tuple(link.span_id.hex() for link in span.links),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
