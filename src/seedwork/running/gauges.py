"""What the databases of a process know, asked when somebody looks at its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from pulsaga.delivery import database
from pulsaga.delivery.tables import dead_letter, incident
from pulsaga.delivery.waiting import FAILURES, Waiting, backlogs, unpublished
from pulsaga.errors import ProtoolsError
from pulsaga.running.runtime import Runtime
from pulsaga.saga.silence import silences
from pulsaga.saga.tables import saga
from pulsaga.vitals import OURS

Families = Iterator[GaugeMetricFamily]
INBOX_ROWS = {
    "postgresql": "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0) FROM pg_inherits i"
    " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'inbox'::regclass",
    "sqlite": "SELECT coalesce(max(rowid) - min(rowid) + 1, 0) FROM inbox",
}
"""About how many rows the inbox has: nobody counts them."""


class Asked(Collector):
    """Gauges that are asked for when somebody looks; nothing is named beforehand, and what is down is left out."""

    def __init__(self, ask: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            yield from list(self._ask())
        except (SQLAlchemyError, ProtoolsError):  # health tells that it is down
            return

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name nothing: registering asks no database."""
        yield from ()


def gauges(runtime: Runtime, kind: str, engines: Mapping[str, Engine]) -> list[Collector]:
    """Return the gauges of a process: of itself, of its service's write database, and of sagas in the coordinator's."""
    asked = [lambda: _process(runtime, kind), lambda: _pools(engines), lambda: _service(runtime)]
    if runtime.service == runtime.system.name:
        asked.append(lambda: _sagas(runtime))
    return [Asked(ask) for ask in asked]


def _gauge(
    name: str, said: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"protools_{name}", said, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _process(runtime: Runtime, kind: str) -> Families:
    about = (runtime.system.name, runtime.system.version, version("pulsaga"), runtime.service, kind)
    labels = ("system", "version", "framework", "service", "kind")
    yield _gauge("build_info", "What runs here.", labels, [(about, 1)])
    yield _gauge("hanging_threads", "Threads at work that show no progress.", (), [((), len(OURS.hanging()))])
    yield _gauge("waits", "1 while something that this process needs is down.", (), [((), bool(OURS.longest_wait()))])


def _pools(engines: Mapping[str, Engine]) -> Families:
    pools = [(side, engine.pool) for side, engine in engines.items() if isinstance(engine.pool, QueuePool)]
    yield _gauge("pool_in_use", "Connections lent.", ("side",), [((side,), p.checkedout()) for side, p in pools])
    yield _gauge("pool_size", "Connections kept.", ("side",), [((side,), p.size()) for side, p in pools])


def _service(runtime: Runtime) -> Families:
    with runtime.write.connect() as tx:
        now = database.now(tx, runtime.settings.clock_offset)
        yield from _outbox(tx, now, runtime.service if runtime.service == runtime.system.name else None)
        yield from _waiting(tx, [FAILURES, *runtime.system[runtime.service].waiting], now)
        letters = tx.execute(select(func.count()).where(dead_letter.c.outcome.is_(None))).scalar_one()
        yield _gauge("dead_letters_open", "Dead letters that nobody has dealt with.", (), [((), letters)])
        open_ones = (
            select(incident.c.kind, func.count()).where(incident.c.closed_at.is_(None)).group_by(incident.c.kind)
        )
        rows = [((kind,), count) for kind, count in tx.execute(open_ones)]
        yield _gauge("incidents_open", "Open incidents, by kind.", ("kind",), rows)
        about = tx.execute(text(INBOX_ROWS[tx.dialect.name])).scalar_one()
        yield _gauge("inbox_rows", "Messages that the inbox knows, about.", (), [((), float(about))])


def _outbox(tx: Connection, now: float, told_by: str | None) -> Families:
    found = unpublished(tx, now, told_by=told_by)
    yield _gauge("outbox_messages", "Messages that the broker has not confirmed.", (), [((), found.waiting)])
    yield _gauge("outbox_oldest_seconds", "Age of the oldest of them.", (), [((), found.oldest_s)])


def _waiting(tx: Connection, waiting: Sequence[Waiting], now: float) -> Families:
    found = backlogs(tx, waiting, now)
    of_work = ("work",)
    yield _gauge("waiting", "Work that waits.", of_work, [((one.name,), one.waiting) for one in found])
    yield _gauge(
        "waiting_failing", "Work that failed and is tried again.", of_work, [((o.name,), o.failing) for o in found]
    )
    yield _gauge(
        "waiting_failing_seconds",
        "For how long the oldest of it has waited.",
        of_work,
        [((o.name,), o.failing_s) for o in found],
    )


def _sagas(runtime: Runtime) -> Families:
    with runtime.write.connect() as tx:
        now = database.now(tx, runtime.settings.clock_offset)
        rows = [((workflow, status), count, now - at) for workflow, status, count, at in live_sagas(tx)]
        labels = ("workflow", "status")
        yield _gauge("sagas", "Sagas that have not ended.", labels, [(values, count) for values, count, _ in rows])
        oldest = [(values, age) for values, _, age in rows]
        yield _gauge("saga_unmoved_seconds", "For how long one has not moved, at most.", labels, oldest)
        found = silences(tx, runtime.system.name, now)
        yield _gauge(
            "unanswered_commands",
            "Commands without an answer.",
            ("target",),
            [((s.target,), s.unanswered) for s in found],
        )
        ages = [((one.target,), one.oldest_s) for one in found]
        yield _gauge("unanswered_oldest_seconds", "Age of the oldest of them.", ("target",), ages)
        patience = [((one.target,), one.usual.patience_s) for one in found]
        yield _gauge("unanswered_unusual_seconds", "Age from which that is unusual.", ("target",), patience)


def live_sagas(tx: Connection) -> list[tuple[str, str, int, float]]:
    """Return workflow, status, number and oldest move of the sagas that have not ended, by two partial indexes."""
    found = select(saga.c.workflow, saga.c.status, func.count(), func.min(saga.c.moved_at))
    grouped = [
        found.where(condition).group_by(saga.c.workflow, saga.c.status)
        for condition in (saga.c.wake_at.is_not(None), saga.c.status == "SUSPENDED")
    ]
    return [(row[0], row[1], row[2], row[3]) for query in grouped for row in tx.execute(query)]
