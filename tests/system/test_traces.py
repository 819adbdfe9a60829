"""One saga is one trace, from the request over every hop to the mail."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest
from tests.collector import Collector, Taken, collecting, tree
from tests.receiver import receiving
from tests.system.conftest import Mode
from tests.system.harness import System

Way = tuple[str, ...]
CALLER = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as taking:
        yield taking


@pytest.fixture(scope="module")
def system(mode: Mode, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system that is traced; its callers may be called back on this machine."""
    with mode.running(tmp_path_factory.mktemp(mode.name), WEBHOOK_PRIVATE="allow", **collector.environment) as running:
        yield running


def hop(sender: str, message: str, receiver: str) -> Way:
    """Return the two spans by which a message goes from one service to another."""
    return f"protools_saga.{sender}: send {message}", f"protools_saga.{receiver}: process {message}"


DOOR = ("protools_saga.bff: POST /passwords",)
BEGUN = (*DOOR, *hop("bff", "protools_saga.issue-password", "protools_saga"))
GENERATED = (
    *BEGUN,
    *hop("protools_saga", "generador.generate-password", "generador"),
    *hop("generador", "generador.password-generated", "protools_saga"),
)
MAILING = (*GENERATED, *hop("protools_saga", "correo.send-password-mail", "correo"))
SENT = (*MAILING, *hop("correo", "correo.password-mail-sent", "protools_saga"))
REFUSED = (*MAILING, *hop("correo", "correo.command-refused", "protools_saga"))
UNDONE = (
    *REFUSED,
    *hop("protools_saga", "generador.revoke-password", "generador"),
    *hop("generador", "generador.password-revoked", "protools_saga"),
)
MOVED = "protools_saga.protools_saga: send protools_saga.saga-moved"


def moved(*way: str) -> set[Way]:
    """Return what a move of a saga adds behind the message that moved it: two read models hear of it."""
    return {(*way, MOVED, f"protools_saga.{reader}: project protools_saga.saga-moved") for reader in READERS}


READERS = ("bff", "protools_saga")


def new_trace() -> tuple[str, dict[str, str]]:
    """Return a new trace, and the header by which a caller says that it is sampled."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{CALLER}-01"}


def grown(system: System, collector: Collector, trace: str, expected: set[Way]) -> list[Taken]:
    """Return the spans of a trace once it is as expected; what is never exported, or too much, is shown."""
    with suppress(AssertionError):
        system.eventually(lambda: tree(collector.trace(trace), CALLER) == expected, 30)
    spans = collector.trace(trace)
    assert tree(spans, CALLER) == expected
    return spans


def test_one_saga_is_one_trace_from_the_request_to_the_mail(system: System, collector: Collector) -> None:
    """Whoever asks where the time went sees it in one picture, whichever process took it."""
    trace, header = new_trace()
    accepted = system.post("/passwords", {"username": "ada"}, **header)
    expected = moved(*BEGUN) | moved(*GENERATED) | moved(*SENT)
    expected |= {(*GENERATED[:-1], f"protools_saga.{who}: project generador.password-generated") for who in TOLD}
    expected |= {
        (*MAILING, "protools_saga.correo: send mail"),
        (*SENT[:-1], "protools_saga.correo: project correo.password-mail-sent"),
        (*SENT[:-1], "protools_saga.generador: process correo.password-mail-sent"),
    }
    spans = grown(system, collector, trace, expected)
    assert {span.error for span in spans} == {""}
    by_name = {span.name: span for span in spans}
    asked = by_name["POST /passwords"]
    assert (asked.kind, asked.attributes["http.route"], asked.attributes["http.response.status_code"]) == (
        *("server", "/passwords"),
        202,
    )
    assert by_name["send mail"].kind == "client"
    for operation, kind in (("send", "producer"), ("process", "consumer")):
        of_message = by_name[f"{operation} generador.generate-password"]
        assert of_message.kind == kind
        assert of_message.attributes.items() >= message_said(system, operation, accepted.json["id"]).items()


TOLD = ("bff", "generador")


def message_said(system: System, operation: str, saga_id: str) -> Mapping[str, str]:
    """Return what the conventions of OpenTelemetry want to be said of a message."""
    return {
        "messaging.system": "embedded" if system.settings.embedded else "pulsar",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": "generador.generate-password",
        "messaging.message.conversation_id": saga_id,
    }


def test_what_is_undone_is_in_the_same_trace(system: System, collector: Collector) -> None:
    """A compensation belongs to what it undoes; nobody would find it anywhere else."""
    trace, header = new_trace()
    body = {"username": "bounced", "email": f"bounced@{system.mailbox.refused}"}
    assert system.post("/passwords", body, Prefer="wait=30", **header).status == 409
    system.eventually(lambda: moved(*UNDONE) <= tree(collector.trace(trace), CALLER))
    (mail,) = (span for span in collector.trace(trace) if span.name == "send mail")
    assert mail.error


def test_what_the_caller_does_not_sample_makes_no_span_but_goes_on(system: System, collector: Collector) -> None:
    """The caller knows which of a million requests it looks at; whom we call must know it, too."""
    trace, _ = new_trace()
    with receiving() as called:
        body = {"username": "grace", "callback": called.url}
        said = {"traceparent": f"00-{trace}-{CALLER}-00"}
        assert system.post("/passwords", body, Prefer="wait=30", **said).status == 201
        system.eventually(lambda: called.taken)
    ((headers, _),) = called.taken
    assert headers["traceparent"] == said["traceparent"]
    seen, header = new_trace()
    system.get("/passwords/grace", **header)
    system.eventually(lambda: collector.trace(seen))
    assert collector.trace(trace) == []


def test_whoever_is_called_over_http_hears_of_the_trace(system: System, collector: Collector) -> None:
    """The hop to a service that is asked at once, and the call back to the caller, are hops like any other."""
    trace, header = new_trace()
    with receiving() as called:
        body = {"username": "hedy", "callback": called.url}
        assert system.post("/passwords", body, Prefer="wait=30", **header).status == 201
        system.eventually(lambda: called.taken)
    ((headers, _),) = called.taken
    call = (*DOOR, "protools_saga.bff: POST")
    system.eventually(lambda: call in tree(collector.trace(trace), CALLER))
    (span,) = (span for span in collector.trace(trace) if span.name == "POST")
    assert headers["traceparent"] == f"00-{trace}-{span.id}-01"

    revealing, header = new_trace()
    token = system.mail_to("hedy@example.test").token
    assert system.post("/reveals", {"token": token}, **header).status == 200
    way = (
        "protools_saga.bff: POST /reveals",
        "protools_saga.bff: POST",
        "protools_saga.generador: POST /internal/reveals",
    )
    grown(system, collector, revealing, {way})
