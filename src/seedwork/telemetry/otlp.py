"""Export spans by OTLP over HTTP, by OpenTelemetry's SDK. It reads its `OTEL_*` variables when a process starts."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pulsaga.telemetry.traces import Attributes, Kind, Span

if TYPE_CHECKING:
    from opentelemetry.context import Context

KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
SCOPE = InstrumentationScope("pulsaga")


class OtlpRecorder:
    """Export to the collector that the environment names, in the background; what it does not take is dropped."""

    def __init__(self, service_name: str, messaging_system: str) -> None:
        self.messaging_system = messaging_system
        named = {SERVICE_NAME: service_name, "service.instance.id": f"{random.getrandbits(128):032x}"}
        resource = Resource.create({**named, **OTELResourceDetector().detect().attributes})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._resource, self._sampler = provider.resource, provider.sampler
        self._exporting = BatchSpanProcessor(OTLPSpanExporter())

    def samples(self, traceparent: str, parent: str | None, name: str, kind: Kind, attributes: Attributes) -> bool:
        """Ask the sampler."""
        asked = self._sampler.should_sample(
            _around(parent), int(traceparent[3:35], 16), name, KINDS[kind], dict(attributes), ()
        )
        return asked.decision is Decision.RECORD_AND_SAMPLE

    def record(self, span: Span, ended: int, error: str, more: Attributes) -> None:
        """Put a span into the queue of what is exported."""
        self._exporting.on_end(
            ReadableSpan(
                span.name,
                _context(span.traceparent),
                _context(span.parent, is_remote=True) if span.parent else None,
                self._resource,
                {**span.attributes, **more},
                (),
                [trace.Link(_context(link, is_remote=True)) for link in span.links],
                KINDS[span.kind],
                status=Status(StatusCode.ERROR, error) if error else Status(),
                start_time=span.began,
                end_time=ended,
                instrumentation_scope=SCOPE,
            )
        )

    def close(self, within_s: float) -> None:
        """Export what is left; a collector that does not answer holds nobody up."""
        closing = threading.Thread(target=self._exporting.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(within_s)


def _context(traceparent: str, *, is_remote: bool = False) -> SpanContext:
    flags = TraceFlags(int(traceparent[53:55], 16))
    return SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), is_remote, flags)


def _around(parent: str | None) -> Context:
    known = trace.INVALID_SPAN if parent is None else NonRecordingSpan(_context(parent, is_remote=True))
    return trace.set_span_in_context(known)
