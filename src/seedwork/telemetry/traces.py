"""Follow one saga through all processes: spans, children of what a message or a request carries as its `traceparent`.

A trace begins where something comes in: a request, or a tick of a schedule. There the sampler is asked, and what it
says goes on with every message; what is not sampled makes no span. A span that is never ended is never exported: what
was rolled back leaves none. Nothing of OpenTelemetry is loaded here, nor anywhere while tracing is off.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context level 1, §3.2."""
NO_ATTRIBUTES: Attributes = {}
SAMPLED = frozenset("13579bdf")
"""How flags end in which the lowest bit is set."""


class Span(NamedTuple):
    """A piece of work that has begun; `traceparent` is what it hands on, `began` is in nanoseconds since 1970."""

    recorder: Recorder
    name: str
    kind: Kind
    traceparent: str
    parent: str | None
    began: int
    attributes: Attributes = NO_ATTRIBUTES
    links: Sequence[str] = ()

    def end(self, error: str = "", more: Attributes = NO_ATTRIBUTES) -> None:
        """Export it, with what went wrong and what is known by now."""
        self.recorder.record(self, time.time_ns(), error, more)


class Recorder(Protocol):
    """Decide what is sampled, and export what has ended."""

    messaging_system: str
    """How the broker is called by the conventions of OpenTelemetry."""

    def samples(self, traceparent: str, parent: str | None, name: str, kind: Kind, attributes: Attributes) -> bool:
        """Tell whether the work that comes in under this `traceparent` is to be exported."""

    def record(self, span: Span, ended: int, error: str, more: Attributes) -> None:
        """Export a span that has ended; it neither blocks nor raises."""

    def close(self, within_s: float) -> None:
        """Export what is left, within so many seconds."""


recorder: Recorder | None = None
"""What records the spans of this process; None while tracing is off, which a hot path looks at first."""


def start(by: Recorder | None) -> None:
    """Record the spans of this process from now on; with None, no longer."""
    global recorder
    recorder = by


def stop(within_s: float) -> None:
    """Export what has ended, within so many seconds, and record no more."""
    ended = recorder
    start(None)
    if ended:
        ended.close(within_s)


def recorder_of(traceparent: str | None) -> Recorder | None:
    """Return what records the work under a `traceparent`; None where it is not sampled, or tracing is off."""
    return recorder if recorder and traceparent and traceparent[-1] in SAMPLED else None


def begin(name: str, kind: Kind, parent: str | None, attributes: Attributes = NO_ATTRIBUTES) -> Span | None:
    """Begin a piece of work under what a message or a row carries; None where that is not sampled."""
    by = recorder_of(parent)
    if by is None or parent is None or not TRACEPARENT.fullmatch(parent):
        return None
    return Span(by, name, kind, child_of(parent), parent, time.time_ns(), attributes)


class Edge(NamedTuple):
    """What comes in: what it hands on as `traceparent`, and its span where it is sampled."""

    traceparent: str | None
    span: Span | None = None


def enter(
    name: str,
    kind: Kind,
    parent: str | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
    links: Sequence[str] = (),
) -> Edge:
    """Begin what comes in, under what its caller said, if that is valid: there the sampler decides."""
    if recorder is None:
        return Edge(parent)
    made = child_of(parent) if parent else _new_trace()
    if recorder.samples(made, parent, name, kind, attributes):
        made = f"{made[:-2]}01"
        return Edge(made, Span(recorder, name, kind, made, parent, time.time_ns(), attributes, links))
    return Edge(f"{(parent or made)[:-2]}00")


@dataclass
class Call:
    """A call to somebody else, while it is made: what to send with it, and what is known of it in the end."""

    traceparent: str | None
    error: str = ""
    more: dict[str, str | int | float | bool] = field(default_factory=dict)


@contextmanager
def calling_out(name: str, parent: str | None, attributes: Attributes = NO_ATTRIBUTES) -> Iterator[Call]:
    """Record a call that is made while the block runs, under what a request or a row carries."""
    span = begin(name, "client", parent, attributes)
    call = Call(span.traceparent if span else parent)
    try:
        yield call
    except BaseException as error:
        call.error = type(error).__name__
        raise
    finally:
        if span:
            span.end(call.error, call.more)


def record_call(
    name: str, parent: str | None, began: int, error: str = "", attributes: Attributes = NO_ATTRIBUTES
) -> None:
    """Export a call to somebody else that has ended, under what a row carries; `began` is `time.time_ns()`."""
    if span := begin(name, "client", parent, attributes):
        span._replace(began=began).end(error)


def child_of(parent: str) -> str:
    """Return a `traceparent` of the same trace, for another span."""
    return f"00-{parent[3:35]}-{random.getrandbits(64) | 1:016x}-{parent[53:55]}"


def _new_trace() -> str:
    return f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-00"


def trace_id(traceparent: str | None) -> str | None:
    """Return the id of the trace, for a line of the log; None where there is none."""
    return traceparent[3:35] if traceparent else None
