"""What processes show Prometheus: what is written of it is so, and it does not grow with the business that is done."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, deliver, make_desk
from tests.service.rooms import Room, eventually, room
from tests.service.stage import start_sagas

from generador.messages import GeneratePassword
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import Message
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError, Unavailable
from pulsaga.operate.status.targets import targets
from pulsaga.running.gauges import Asked, database_gauges, process_gauges, watch_gauges
from pulsaga.running.operators_port import Listener
from pulsaga.running.runtime import Runtime
from pulsaga.running.watch import Register, Watch
from pulsaga.settings import Settings
from pulsaga.telemetry.metrics import CODES, REGISTRY

SAGAS = 10_000
BATCH = 500
PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>\w+) \| (?P<labels>.*?) \| (?P<said>.*) \|$", re.MULTILINE)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"PROTOOLS_HOME": str(tmp_path)})


@pytest.fixture
def coordinator(settings: Settings) -> Iterator[Desk]:
    made = make_desk(settings, "protools_saga")
    yield made
    made.runtime.write.dispose()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path / "door")
    yield made
    made.close()


def own(runtime: Runtime, *, with_watch: bool = False) -> CollectorRegistry:
    """Return what a process shows beside what the framework counts in it."""
    read = open_database(runtime.settings, runtime.service, "read", "reader")
    shown = CollectorRegistry()
    engines = {"write": runtime.write, "read": read}
    shown.register(process_gauges(runtime, "worker", engines))
    shown.register(database_gauges(runtime, engines))
    if with_watch:
        shown.register(watch_gauges(Watch(runtime, "worker", "own")))
    return shown


# --- what is written of them


def rows(*registries: CollectorRegistry) -> Mapping[str, tuple[str, str, str]]:
    """Return type, labels and meaning of every metric, by its name as it is shown."""
    found = {}
    for registry in registries:
        labels = {name: found for one in registry._collector_to_names for name, found in _labels(one)}
        for family in registry.collect():
            name = family.name + ("_total" if family.type == "counter" else "")
            shown = ", ".join(f"`{label}`" for label in labels.get(family.name, getattr(family, "_labelnames", ())))
            found[name] = (family.type, shown, family.documentation)
    return found


def _labels(collector: Any) -> Iterable[tuple[str, tuple[str, ...]]]:
    return [(collector._name, collector._labelnames)] if hasattr(collector, "_name") else []


def written(section: str) -> Mapping[str, tuple[str, str, str]]:
    """Return what the page says of the metrics of one section."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {row["name"]: (row["type"], row["labels"], row["said"]) for row in ROW.finditer(text)}


def as_table(found: Mapping[str, tuple[str, str, str]]) -> str:
    """Return the rows of a table, for whoever has to put them into the page."""
    return "\n".join(f"| `{name}` | {' | '.join(about)} |" for name, about in sorted(found.items()))


def test_the_page_of_metrics_says_what_is_shown(coordinator: Desk, door: Room, tmp_path: Path) -> None:
    """A dashboard over a metric that is called otherwise is empty, and nobody knows whether that is good news."""
    service = make_desk(Settings.read({"PROTOOLS_HOME": str(tmp_path)}), "correo")
    every = rows(REGISTRY, own(service.runtime))
    of_coordinator = {
        name: about for name, about in rows(own(coordinator.runtime, with_watch=True)).items() if name not in every
    }
    shown = {
        "Every process": every,
        "The coordinator": of_coordinator,
        "Web processes": rows(door.app.extensions["registry"]),
    }
    for section, found in shown.items():
        assert written(section) == found, f"## {section}\n{as_table(found)}"
    service.runtime.write.dispose()


# --- bounded


def series(*registries: CollectorRegistry) -> int:
    """Count the series of a scrape."""
    text = b"".join(map(generate_latest, registries)).decode()
    return sum(len(family.samples) for family in text_string_to_metric_families(text))


def test_ten_thousand_sagas_add_no_series(coordinator: Desk) -> None:
    """A series for each saga would fill Prometheus's memory within a day."""
    shown = own(coordinator.runtime)
    start_sagas(coordinator, 1)
    before = series(REGISTRY, shown)
    for _ in range(SAGAS // BATCH):
        start_sagas(coordinator, BATCH)
    assert series(REGISTRY, shown) == before
    (sagas,) = (family for family in shown.collect() if family.name == "protools_sagas")
    assert [sample.value for sample in sagas.samples] == [SAGAS + 1]


def test_codes_that_handlers_make_up_become_one_when_they_are_many(settings: Settings) -> None:
    """A code with an id in it is a mistake of a handler, and not to be one of the monitoring."""

    def refuse(message: Message[GeneratePassword], uow: UnitOfWork) -> None:
        raise DomainError(f"no-{message.id}", "no")

    desk = make_desk(settings, "generador", {GeneratePassword: Handler(GeneratePassword, refuse)})
    before = series(REGISTRY)
    for _ in range(4):
        desk.worker.settle([deliver(GeneratePassword("ada")) for _ in range(BATCH)])
    assert series(REGISTRY) - before <= CODES + 5
    assert b'protools_refusals_total{code="(other)",topic="generador.generate-password"}' in generate_latest(REGISTRY)
    desk.runtime.write.dispose()


def test_paths_and_methods_that_strangers_make_up_are_one(door: Room) -> None:
    """Whoever looks for weaknesses asks for thousands of paths."""
    registry = door.app.extensions["registry"]
    door.http.open("/no-0", method="NO0")
    door.http.get("/no-0")
    before = series(registry)
    for number in range(200):
        door.http.get(f"/no-{number}/{number}")
        door.http.open(f"/no-{number}", method=f"NO{number}")
    assert series(registry) == before


# --- what is known of the processes


def test_what_does_not_answer_takes_nothing_else_along() -> None:
    """A scrape that waits for a database that hangs is one that failed: nobody would hear that the process waits."""
    answers, waited = threading.Event(), list[bool]()

    def hangs() -> Iterator[Metric]:
        waited.append(answers.wait(PATIENCE_S))
        yield GaugeMetricFamily("rows", "Rows.", value=1)

    registry = CollectorRegistry()
    registry.register(Asked(lambda: [GaugeMetricFamily("waits", "Waits.", value=1)], hangs))
    assert [family.name for family in registry.collect()] == ["waits"]
    assert waited == []
    answers.set()
    eventually(lambda: [family.name for family in registry.collect()] == ["waits", "rows"])


def test_while_the_broker_is_silent_nobody_is_missed(coordinator: Desk) -> None:
    """An alert for each process would hide the one that counts."""
    heard = CollectorRegistry()
    watch = Watch(coordinator.runtime, "worker", "own")
    heard.register(watch_gauges(watch))
    watch._register = Register("own", since=float("-inf"))
    watch._wanted = {("stock", "worker"): 2}
    shown = generate_latest(heard).decode()
    assert "protools_broker_silent 1.0" in shown
    assert 'protools_processes_expected{kind="worker",service="stock"} 2.0' in shown
    assert "protools_processes_missing{" not in shown
    assert "protools_processes_running{" not in shown


def test_a_process_is_scraped_where_it_listens(coordinator: Desk) -> None:
    """One that listens on all addresses is reached by the name of its machine."""
    for host, name in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", socket.gethostname())):
        listener = Listener(Settings.read({"OPERATORS_HOST": host, "OPERATORS_PORT": "0"}))
        assert listener.address.rpartition(":")[0] == name
        listener.close()


def test_while_a_database_does_not_say_what_runs_there_are_no_targets(coordinator: Desk) -> None:
    """Half a list would end the alerts about the other half."""
    with pytest.raises(Unavailable, match="the write database of"):
        targets(coordinator.runtime.system, coordinator.runtime.settings)
