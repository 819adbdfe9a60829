"""Measure what spans and lines of the log cost: the same sagas with and without them, by turns, in this very process.

Coordinator, front door and both services work on SQLite files, and hand each other their messages in memory: so neither
the machine nor a server is between two turns that differ in one thing only. What is compared is CPU time. Without
a broker and PostgreSQL a saga costs half of what it does; so what is more is told as a share of a whole one, too.

Targets, of a whole saga: hooks that find tracing off cost at most 1 % over hooks that do nothing, a tenth of all sagas
traced at most 5 %, lines at `info` at most 2 % over `warning`. Two minutes on two cores.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.load import names
from bench.report import Figure
from bench.told import Told
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery import spans
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.dispatcher import Dispatcher
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.dispatch.worker import Worker
from pulsaga.delivery.messages import SCHEMA_PREFIX
from pulsaga.delivery.outbox import Outbox
from pulsaga.delivery.projection import Projector
from pulsaga.running.process import collect_seldom
from pulsaga.running.runtime import Runtime, runtime_of
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.telemetry import logs, traces
from pulsaga.telemetry.otlp import OtlpRecorder
from pulsaga.web.front_door.acceptance import Request, accept_many
from pulsaga_program.databases import prepare_databases
from system import SYSTEM

SHARE = "0.1"
WHOLE_US = 2400
"""CPU time of a saga on Pulsar and PostgreSQL, everything included, at the least that was measured (`make bench`)."""
SAGAS = 100
"""Of one turn: a batch of a loaded system."""
FIGURES = 5
"""Each is the median of as many pairs of turns as were asked for."""
PART = (SYSTEM.name, "bff", "generador", "correo")
HOOKS: Mapping[Any, Sequence[str]] = {
    spans: ("sending", "processing", "projected", "receiving"),
    Outbox: ("begin", "_end"),
}


class Memory:
    """A broker, and the subscription of everybody, that keeps what is published."""

    def __init__(self) -> None:
        self.published: list[Wire] = []
        self._schemas = CommittedSchemas()

    def publish(self, wires: Iterable[Wire]) -> None:
        self.published += wires

    def schema(self, topic: str, version: str) -> str:
        return self._schemas[f"{SCHEMA_PREFIX}{topic}:{version}"]

    def ack(self, _deliveries: Iterable[Delivery]) -> None: ...

    def take(self) -> list[Delivery]:
        """Return what was published since the last time."""
        taken, self.published = self.published, []
        return [Delivery(wire, wire.properties["ce_dataschema"].rpartition(":")[2], None) for wire in taken]


Settle = Callable[[list[Delivery]], object]


class Inside:
    """The services that a password takes, in this process."""

    def __init__(self, home: Path) -> None:
        self._settings = Settings.read({"PROTOOLS_HOME": str(home), "AUTH": "none"})
        self._broker, self._names = Memory(), names()
        self._takers: list[tuple[frozenset[str], Settle]] = []
        self._runtimes = {name: self._open(SYSTEM[name]) for name in PART}
        (self._mails,) = (make(self._runtimes["correo"]) for make in SYSTEM["correo"].duties[:1])

    def _open(self, service: Service) -> Runtime:
        prepare_databases(SYSTEM, self._settings, service)
        broker: Any = self._broker
        write = open_database(self._settings, service.name, "write", "owner")
        runtime = runtime_of(SYSTEM, self._settings, service.name, broker, write)
        if service.handlers:
            self._takers.append((frozenset(service.consumes), _worker(service, runtime, broker).settle))
        if service.projections:
            read = open_database(self._settings, service.name, "read", "projector")
            reader = Reader(service.projecting, runtime.codec, broker)
            projector = Projector(service.projecting, reader, read, broker, SAGAS)
            projector.stop()  # it would rest between busy batches
            self._takers.append((frozenset(service.projects), projector.settle))
        return runtime

    def run(self, sagas: int) -> None:
        """Take sagas from their acceptance to their end."""
        door = self._runtimes["bff"].transactions
        requests = [_asked(next(self._names)) for _ in range(sagas)]
        accept_many(door, requests)
        door.outbox.publish_waiting(0)
        self._exchange()
        self._mails.work()
        self._exchange()

    def _exchange(self) -> None:
        """Hand over messages until nobody says anything new."""
        while taken := self._broker.take():
            for topics, settle in self._takers:
                if heard := [delivery for delivery in taken if delivery.wire.topic in topics]:
                    with spans.receiving(heard):
                        settle(heard)
        for runtime in self._runtimes.values():
            runtime.transactions.outbox.clear()


def _worker(service: Service, runtime: Runtime, broker: Any) -> Worker:
    given: dict[str, Any] = {"attempts": 5, "delay_s": 1.0}
    rules = Dispatcher(service.handling, service.refused, service.failed, withdrawn=service.withdrawn, **given)
    return Worker(rules, Reader(service.handling, runtime.codec, broker), runtime.transactions, broker, SAGAS)


def _asked(name: str) -> Request:
    """Ask as a web process does, in a trace of its own where this process is traced."""
    edge = traces.enter("POST /passwords", "server")
    if edge.span:
        edge.span.end()
    command = IssuePassword(name, f"{name}@example.test")
    about = {"workflow": "issue-password", "subject": name, "body_hash": ""}
    return Request(command=command, traceparent=edge.traceparent, **about)


# --- what differs


@contextmanager
def _without_hooks() -> Iterator[None]:
    kept = [(place, hook, getattr(place, hook)) for place, hooks in HOOKS.items() for hook in hooks]
    for place, hook, _ in kept:
        setattr(place, hook, _nothing_around if hook == "receiving" else _nothing)
    yield
    for place, hook, before in kept:
        setattr(place, hook, before)


def _nothing(*_: Any) -> None:
    """Stand for a hook."""


def _nothing_around(*_: Any) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def _traced(recorder: OtlpRecorder) -> Iterator[None]:
    """Export a share of all sagas, all of it before the turn ends."""
    traces.start(recorder)
    yield
    recorder.flush()
    traces.start(None)


@contextmanager
def _quiet() -> Iterator[None]:
    before, logs._logged_from = logs._logged_from, logs.LEVELS["warning"]
    yield
    logs._logged_from = before


Turn = Callable[[], AbstractContextManager[None]]


def _pairs(recorder: OtlpRecorder) -> dict[str, tuple[Turn, Turn, float]]:
    """Return what is compared with what, and at most which share of a whole saga is wanted."""
    return {
        "tracing off ÷ no hooks": (_without_hooks, nullcontext, 0.01),
        "a tenth traced ÷ tracing off": (nullcontext, partial(_traced, recorder), 0.05),
        "lines at info ÷ at warning": (_quiet, nullcontext, 0.02),
    }


# --- the measurement


@click.command()
@click.option("--pairs", default=12, show_default=True, help="Pairs of turns behind each of the five figures.")
def main(pairs: int) -> None:
    """Print what a saga costs with each, as a multiple of its cost without, and in microseconds."""
    told = Told("traces")
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as home, _recording() as recorder:
        Path(home).chmod(0o700)
        with redirect_stdout(open(os.devnull, "w")):
            logs.configure_logging("json", service=SYSTEM.name, process="worker")
        inside, compared = Inside(Path(home)), _pairs(recorder)
        for _ in range(3):
            inside.run(SAGAS)
        collect_seldom()  # as every process does
        measured = {
            name: [_compared(inside, left, right, pairs) for _ in range(FIGURES)]
            for name, (left, right, _) in compared.items()
        }
    told.tell([HEAD, *_rows(measured)], "", *_judged(measured, compared))


HEAD = ["compared", "ratio", "µs more a saga", "µs a saga without"]
Costs = tuple[float, float, float]


def _rows(measured: Mapping[str, Sequence[Costs]]) -> list[list[object]]:
    return [
        [name, Figure([ratio for ratio, _, _ in costs]), f"{_more(costs):.0f}", f"{median(w for *_, w in costs):,.0f}"]
        for name, costs in measured.items()
    ]


def _more(costs: Sequence[Costs]) -> float:
    return median(more for _, more, _ in costs)


def _judged(measured: Mapping[str, Sequence[Costs]], compared: Mapping[str, tuple[Turn, Turn, float]]) -> Iterator[str]:
    for name, costs in measured.items():
        share, wanted = _more(costs) / WHOLE_US, compared[name][2]
        said = "met" if share <= wanted else "missed"
        yield f"{name}: {share:.1%} of the {WHOLE_US:,} µs of a whole saga (target ≤ {wanted:.0%}): {said}."


def _compared(inside: Inside, left: Turn, right: Turn, pairs: int) -> Costs:
    """Return the median ratio of the right turn's cost to the left one's, its difference, and the left one's cost."""
    costs = [_pair(inside, left, right, left_first=number % 2 == 0) for number in range(pairs)]
    return median(b / a for a, b in costs), median(b - a for a, b in costs), median(a for a, _ in costs)


def _pair(inside: Inside, left: Turn, right: Turn, *, left_first: bool) -> tuple[float, float]:
    first, second = (left, right) if left_first else (right, left)
    a, b = _cost(inside, first), _cost(inside, second)
    return (a, b) if left_first else (b, a)


def _cost(inside: Inside, turn: Turn) -> float:
    """Return the CPU time of a saga, in microseconds."""
    began = time.process_time()
    with turn():
        inside.run(SAGAS)
    return (time.process_time() - began) / SAGAS * 1e6


# --- a collector in a process of its own, whose time is not counted


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _collect(told: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taking)
    told.send(server.server_port)
    server.serve_forever()


@contextmanager
def _recording() -> Iterator[OtlpRecorder]:
    ours, theirs = multiprocessing.Pipe()
    collector = multiprocessing.get_context("spawn").Process(target=_collect, args=(theirs,), daemon=True)
    collector.start()
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"http://127.0.0.1:{ours.recv()}/v1/traces"
    os.environ |= {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": SHARE}
    yield OtlpRecorder("bench", "memory")
    collector.terminate()
    collector.join()


if __name__ == "__main__":
    sys.exit(main())
