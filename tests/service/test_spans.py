"""What a service does with a message is in the trace of that message: once, and only when it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs
from tests.service.desk import KEYS, Desk, Feed, deliver, make_desk
from tests.service.stage import answer, dying_at, mail_sent, start_sagas

from generador.messages import GeneratePassword
from generador.service import GENERADOR
from pulsaga import Handler, Message, Settings, UnitOfWork
from pulsaga.broker import Delivery
from pulsaga.delivery.loop import receive_until
from pulsaga.delivery.tables import outbox
from pulsaga.telemetry import traces
from pulsaga.telemetry.traces import Attributes, Kind, Span

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, PASSED_OVER = (f"00-{TRACE}-{CALLER}-{flags}" for flags in ("01", "00"))
GENERATE = "generador.generate-password"
PROCESS, SEND = "process generador.generate-password", "send generador.password-generated"


class Kept:
    """Keep spans, where a process exports them."""

    messaging_system = "memory"

    def __init__(self) -> None:
        self.is_sampled = True
        self.ended: list[tuple[Span, str, Attributes]] = []

    def samples(self, traceparent: str, parent: str | None, name: str, kind: Kind, attributes: Attributes) -> bool:
        return self.is_sampled

    def record(self, span: Span, ended: int, error: str, more: Attributes) -> None:
        self.ended.append((span, error, more))

    def close(self, within_s: float) -> None: ...

    @property
    def names(self) -> list[str]:
        return [span.name for span, _, _ in self.ended]

    def span(self, name: str) -> Span:
        (found,) = (span for span, _, _ in self.ended if span.name == name)
        return found


@pytest.fixture
def kept() -> Iterator[Kept]:
    recorder = Kept()
    traces.start(recorder)
    yield recorder
    traces.start(None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"PROTOOLS_HOME": str(tmp_path), "FAILURE_ATTEMPTS": "1", **KEYS})


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    made = make_desk(settings, "generador")
    yield made
    made.runtime.write.dispose()


def under(traceparent: str, username: str = "ada") -> Delivery:
    """Return a command that carries this."""
    delivery = deliver(GeneratePassword(username))
    properties = {**delivery.wire.properties, "traceparent": traceparent}
    return delivery._replace(wire=delivery.wire._replace(properties=properties))


def test_what_is_sent_carries_the_span_that_sends_it_below_the_one_that_processes(desk: Desk, kept: Kept) -> None:
    """Brothers instead of children, and nobody sees which message caused which."""
    desk.worker.settle([under(SAMPLED)])
    process, send = kept.span(PROCESS), kept.span(SEND)
    (wire,) = desk.broker.published
    assert (process.parent, send.parent, wire.properties["traceparent"]) == (
        *(SAMPLED, process.traceparent),
        send.traceparent,
    )
    assert {one[3:35] for one in (process.traceparent, send.traceparent)} == {TRACE}
    assert process.attributes["messaging.consumer.group.name"] == "generador"


@pytest.mark.parametrize("traceparent", [PASSED_OVER, "", "1", f"00-{TRACE}-{CALLER}-01\x1b[2J1", SAMPLED.upper()])
def test_what_is_not_sampled_or_no_traceparent_makes_no_span_and_goes_on_as_it_is(
    desk: Desk, kept: Kept, traceparent: str
) -> None:
    """Strangers' messages come from the broker, too: what they carry breaks nothing."""
    desk.worker.settle([under(traceparent)])
    assert kept.names == []
    (wire,) = desk.broker.published
    assert wire.properties["traceparent"] == traceparent


def test_what_was_rolled_back_leaves_no_span(desk: Desk, kept: Kept) -> None:
    """A picture of what never happened sends an operator to the wrong place."""
    with dying_at(desk, "commit"):
        desk.worker.settle([under(SAMPLED)])
    assert kept.names == []


def test_a_message_that_fails_shows_why_and_nothing_that_it_would_have_sent(settings: Settings, kept: Kept) -> None:
    """The red span is where to look."""

    def broken(message: Message[GeneratePassword], uow: UnitOfWork) -> None:
        uow.send(message.body, "never sent")
        raise RuntimeError("poison")

    desk = make_desk(settings, "generador", {GeneratePassword: Handler(GeneratePassword, broken)})
    desk.worker.settle([under(SAMPLED)])
    ((span, error, _), *sent) = kept.ended
    assert (span.name, error.partition(" (")[0]) == (PROCESS, "RuntimeError: poison")
    assert [span.name for span, _, _ in sent] == ["send generador.command-failed"], "it was given up, and answered"
    desk.runtime.write.dispose()


def test_what_is_left_to_the_sweep_says_so_and_is_swept_in_its_trace(desk: Desk, kept: Kept) -> None:
    """With the broker away for a minute, the gap in the picture has its name."""
    desk.broker.is_up = False
    desk.worker.settle([under(SAMPLED)])
    errors = {span.name: error for span, error, _ in kept.ended}
    assert errors == {PROCESS: "", SEND: "left to the sweep"}
    sent = kept.span(SEND).traceparent
    desk.broker.is_up = True
    kept.ended.clear()
    with desk.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))
    desk.runtime.transactions.outbox.sweep()
    ((span, error, _),) = kept.ended
    assert (span.name, span.kind, span.parent, error) == (SEND, "client", sent, "")
    (wire,) = desk.broker.published
    assert wire.properties["traceparent"] == sent, "whoever processes it is a child of what sent it first"


def test_a_batch_is_one_span_with_links_to_what_is_sampled_in_it(desk: Desk, kept: Kept) -> None:
    """Of many messages that are taken at once, each has its trace; what they waited for together has its own."""
    batch = [under(SAMPLED), under(PASSED_OVER, "grace"), under(SAMPLED, "hedy")]
    feed, stopping = Feed([under(SAMPLED, "alone")], batch), threading.Event()
    running = threading.Thread(target=receive_until, args=(stopping, feed, 10, desk.worker.settle))
    running.start()
    feed.drained.wait()
    stopping.set()
    running.join()
    receive = kept.span("receive")
    assert (receive.kind, receive.parent, list(receive.links)) == ("client", None, [SAMPLED, SAMPLED])
    assert receive.attributes["messaging.batch.message_count"] == 3
    assert kept.names.count(PROCESS) == 3


def test_what_comes_in_is_sampled_as_the_sampler_says_and_what_it_says_goes_on(kept: Kept) -> None:
    """Each process that decided for itself would leave a tenth of a tenth of a trace."""
    given = traces.enter("GET", "server", PASSED_OVER)
    assert given.span
    assert given.traceparent == given.span.traceparent
    assert given.traceparent.startswith(f"00-{TRACE}-")
    assert given.traceparent.endswith("-01")
    kept.is_sampled = False
    assert traces.enter("GET", "server", SAMPLED) == (PASSED_OVER, None)
    made = traces.enter("GET", "server")
    assert made.span is None
    assert made.traceparent
    assert traces.TRACEPARENT.fullmatch(made.traceparent)
    assert made.traceparent.endswith("-00")
    traces.start(None)
    assert traces.enter("GET", "server", SAMPLED) == (SAMPLED, None)
    assert traces.enter("GET", "server") == (None, None)


# --- what is logged of it


def refused(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "command refused"]


def test_a_decision_is_logged_with_every_id_once_it_is_committed(desk: Desk) -> None:
    """Of a decision that was rolled back a line would be a lie; without its ids nobody finds the others."""
    desk.worker.settle([under(SAMPLED)])
    second = under(SAMPLED)
    with capture_logs() as lines:
        with dying_at(desk, "commit"):
            desk.worker.settle([second])
        assert refused(lines) == []
        desk.worker.settle([second])
    (line,) = refused(lines)
    wire = second.wire
    assert line == {
        "event": "command refused",
        "log_level": "info",
        "type": wire.topic,
        "code": "password-exists",
        "saga": wire.key,
        "trace": TRACE,
        **dict.fromkeys(("command", "message"), wire.properties["ce_id"]),
    }


def told_of(lines: list[Any], saga_id: str) -> list[tuple[str, str]]:
    return [(line["event"], line["log_level"]) for line in lines if line.get("saga") == saga_id]


def test_a_saga_is_found_by_its_id_from_its_beginning_to_its_end(settings: Settings) -> None:
    """Two lines for what goes well; what does not says so, loudly enough to be asked for alone."""
    coordinator = make_desk(settings, "protools_saga")
    with capture_logs() as lines:
        well, badly, stuck = start_sagas(coordinator, 3)
        no = GENERADOR.refused(GENERATE, "password-exists", "there is one")
        dead = GENERADOR.failed(GENERATE, "dead-letter", "poison")
        coordinator.worker.settle([answer(well), answer(badly, no), answer(stuck, dead)])
        coordinator.worker.settle([mail_sent(mail) for mail in coordinator.said("correo.send-password-mail")])
    assert told_of(lines, well.key) == [("saga began", "info"), ("saga ended", "info")]
    gave_up = [("saga began", "info"), ("saga gave up", "warning"), ("saga ended", "info")]
    assert told_of(lines, badly.key) == gave_up
    assert told_of(lines, stuck.key) == [("saga began", "info"), ("saga suspended", "error")]
    ended = next(line for line in lines if line["event"] == "saga ended" and line["saga"] == well.key)
    assert (ended["code"], ended["workflow"].partition("@")[0]) == ("COMPLETED", "issue-password")
    coordinator.runtime.write.dispose()
