"""Export spans by OTLP over HTTP, by OpenTelemetry's SDK. It reads its `OTEL_*` variables when a process starts.

Sampler, resource, queue and HTTP client are the SDK's. Its spans and their encoder are not used: they take five times
as long as what is written here, and a saga has two dozen spans (docs/decisions/0035).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from pulsaga.telemetry.traces import Attributes, Kind, Span
from pulsaga.text import LONGEST_ERROR, printable

if TYPE_CHECKING:
    from opentelemetry.context import Context

KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
WIRE_KINDS = {kind: known.value + 1 for kind, known in KINDS.items()}
"""As OTLP numbers them: 0 is not specified."""
IS_LOCAL: int = trace_pb2.SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
IS_REMOTE: int = IS_LOCAL | trace_pb2.SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
FROM_ELSEWHERE = ("server", "consumer")
"""Kinds of spans whose parent is in another process."""
SAMPLED = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class Ended(NamedTuple):
    """A span with its end, in nanoseconds since 1970, and with what went wrong."""

    span: Span
    ended: int
    error: str
    more: Attributes

    @property
    def context(self) -> SpanContext:
        """What the queue asks for: whether it is to be exported."""
        return SAMPLED


class OtlpRecorder:
    """Export to the collector that the environment names, in the background; what it does not take is dropped."""

    def __init__(self, service_name: str, messaging_system: str) -> None:
        self.messaging_system = messaging_system
        named = {SERVICE_NAME: service_name, "service.instance.id": f"{random.getrandbits(128):032x}"}
        resource = Resource.create({**named, **OTELResourceDetector().detect().attributes})
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._queue: Any = BatchSpanProcessor(_Exporter(resource))

    def samples(self, traceparent: str, parent: str | None, name: str, kind: Kind, attributes: Attributes) -> bool:
        """Ask the sampler."""
        asked = self._sampler.should_sample(
            _around(parent), int(traceparent[3:35], 16), name, KINDS[kind], dict(attributes), ()
        )
        return asked.decision is Decision.RECORD_AND_SAMPLE

    def record(self, span: Span, ended: int, error: str, more: Attributes) -> None:
        """Put a span into the queue of what is exported."""
        self._queue.on_end(Ended(span, ended, error, more))

    def flush(self) -> None:
        """Export what has ended, and wait for that."""
        self._queue.force_flush()

    def close(self, within_s: float) -> None:
        """Export what is left; a collector that does not answer holds nobody up."""
        closing = threading.Thread(target=self._queue.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(within_s)


def _around(parent: str | None) -> Context:
    """Return the context that the sampler is to see."""
    if parent is None:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    flags = TraceFlags(int(parent[53:55], 16))
    known = SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(known))


# --- what is sent


class _Exporter(OTLPSpanExporter):
    """The SDK's exporter, with an encoder of its own for its HTTP client."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        self._resource = resource

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send spans; the client tells what went wrong."""
        sent = self._client.export(encoded(self._resource, spans).SerializeToString())
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


def encoded(resource: Resource, spans: Sequence[Ended]) -> ExportTraceServiceRequest:
    """Return the request that exports spans."""
    request = ExportTraceServiceRequest()
    ours = request.resource_spans.add()
    for name, value in resource.attributes.items():
        _set(ours.resource.attributes.add(key=name).value, value)
    scope = ours.scope_spans.add()
    scope.scope.name = "pulsaga"
    for ended in spans:
        _add(scope, ended)
    return request


def _add(scope: trace_pb2.ScopeSpans, done: Ended) -> None:
    span = done.span
    added = scope.spans.add(
        trace_id=bytes.fromhex(span.traceparent[3:35]),
        span_id=bytes.fromhex(span.traceparent[36:52]),
        parent_span_id=bytes.fromhex(span.parent[36:52]) if span.parent else b"",
        name=span.name,
        kind=WIRE_KINDS[span.kind],
        start_time_unix_nano=span.began,
        end_time_unix_nano=done.ended,
        flags=IS_REMOTE if span.kind in FROM_ELSEWHERE else IS_LOCAL,
    )
    for attributes in (span.attributes, done.more):
        for name, value in attributes.items():
            _set(added.attributes.add(key=name).value, value)
    for link in span.links:
        added.links.add(trace_id=bytes.fromhex(link[3:35]), span_id=bytes.fromhex(link[36:52]), flags=IS_REMOTE)
    if done.error:
        added.status.code = trace_pb2.Status.STATUS_CODE_ERROR
        added.status.message = printable(done.error, LONGEST_ERROR)


def _set(value: Any, given: object) -> None:
    match given:
        case bool():
            value.bool_value = given
        case int():
            value.int_value = given
        case float():
            value.double_value = given
        case _:
            value.string_value = str(given)
