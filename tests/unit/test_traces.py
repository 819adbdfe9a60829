"""Spans are exported where the environment says so, and a collector that is away holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from tests.collector import Collector, collecting
from tests.patience import PATIENCE_S
from tests.receiver import hang, misbehaving

from pulsaga.errors import SettingError
from pulsaga.settings import Settings
from pulsaga.telemetry import traces
from pulsaga.telemetry.otlp import OtlpRecorder

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
AWAY_S = 600
"""Seconds for which the exporter would wait for a collector, were it not held to less."""
SDK_S = 30
"""Seconds for which OpenTelemetry's SDK waits for it in the end."""


@pytest.mark.parametrize(
    ("given", "are_traced"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/v1/traces"}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"}, False),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_spans_are_exported_where_a_collector_is_named_and_nothing_switches_it_off(
    given: dict[str, str], are_traced: bool
) -> None:
    """The variables that operators know from every other program."""
    assert Settings.read(given).are_traced is are_traced


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_a_protocol_that_is_not_spoken_is_refused_by_its_name(variable: str) -> None:
    """Spans would go to a port that does not understand them, and nobody would know why there are none."""
    with pytest.raises(SettingError, match=variable):
        _ = Settings.read({**ENDPOINT, variable: "grpc"}).are_traced


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as taking:
        for name, value in taking.environment.items():
            monkeypatch.setenv(name, value)
        yield taking


@pytest.fixture
def stopping() -> Iterator[None]:
    yield
    traces.start(None)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "shop.stock"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,deployment.environment.name=test"}, "ours"),
    ],
)
@pytest.mark.usefixtures("stopping")
def test_the_last_spans_leave_at_the_end_under_the_name_that_operators_gave(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, given: dict[str, str], name: str
) -> None:
    """What a process did last is often why it ended."""
    for variable, value in {"OTEL_BSP_SCHEDULE_DELAY": "60000", **given}.items():
        monkeypatch.setenv(variable, value)
    traces.start(OtlpRecorder("shop.stock", "memory"))
    edge = traces.enter("POST /orders", "server", attributes={"http.route": "/orders"})
    assert edge.span
    with traces.calling_out("POST", edge.traceparent) as call:
        call.more["http.response.status_code"] = 502
        call.error = "answered 502"
    edge.span.end("500")
    traces.stop(PATIENCE_S)
    below, span = collector.spans()
    assert (span.service, span.name, span.kind, span.parent, span.error) == (name, "POST /orders", "server", "", "500")
    assert (below.parent, below.error, below.attributes) == (
        *(span.id, "answered 502"),
        {"http.response.status_code": 502},
    )


@pytest.mark.usefixtures("stopping")
def test_the_share_that_the_environment_says_is_sampled(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    """A tenth of the spans is a tenth of the bill."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    traces.start(OtlpRecorder("shop.stock", "memory"))
    sampled = sum(traces.enter("GET", "server").span is not None for _ in range(5000))
    assert 300 < sampled < 700
    given = f"00-{'1' * 32}-{'2' * 16}-"
    assert traces.enter("GET", "server", f"{given}01").span, "as the caller says, whatever the share"
    assert traces.enter("GET", "server", f"{given}00").span is None


@pytest.mark.usefixtures("stopping")
def test_a_collector_that_hangs_holds_no_work_up_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches must not stop what is watched."""
    over = threading.Event()
    with misbehaving(hang, over) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(AWAY_S))
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
        traces.start(OtlpRecorder("shop.stock", "memory"))
        began = time.monotonic()
        for _ in range(3000):  # more than wait to be exported at most
            span = traces.enter("GET", "server").span
            assert span
            span.end()
        traces.stop(0.1)
        assert time.monotonic() - began < SDK_S / 2
        over.set()
