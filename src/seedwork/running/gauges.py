"""What the databases of a process know, asked when somebody looks at its metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from pulsaga.delivery import database
from pulsaga.delivery.database import oldest_transaction_s, open_database
from pulsaga.delivery.tables import dead_letter, incident, latest
from pulsaga.delivery.waiting import FAILURES, Waiting, backlogs, unpublished
from pulsaga.errors import ProtoolsError
from pulsaga.running.runtime import Runtime
from pulsaga.running.watch import Watch
from pulsaga.saga.silence import silences
from pulsaga.saga.tables import saga
from pulsaga.telemetry.vitals import OURS

log = structlog.get_logger()

Families = Iterator[GaugeMetricFamily]
Ask = Callable[[], Iterable[Metric]]
ANSWER_WITHIN_S = 1.0
"""Seconds that databases have to answer: a scrape that takes longer is one that failed."""
INBOX_ROWS = {
    "postgresql": "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0) FROM pg_inherits i"
    " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'inbox'::regclass",
    "sqlite": "SELECT coalesce(max(rowid) - min(rowid) + 1, 0) FROM inbox",
}
"""About how many rows the inbox has: nobody counts them."""


class Known(Collector):
    """Metrics that a process knows of itself: they are shown whatever hangs."""

    def __init__(self, *asks: Ask) -> None:
        self._asks = asks

    def collect(self) -> Iterator[Metric]:
        for ask in self._asks:
            yield from ask()

    def describe(self) -> Iterator[Metric]:
        """Name nothing: registering asks nobody."""
        yield from ()


class Asked(Collector):
    """Metrics that are asked for when somebody looks, in their order; nothing is named beforehand.

    What is down is left out, and so is what does not answer in time: a database that hangs takes no metrics along.
    """

    def __init__(self, *asks: Ask) -> None:
        self._asks = asks
        self._said: list[Metric] = []
        self._asking: threading.Thread | None = None
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._said = []
                self._asking = threading.Thread(target=self._ask, args=(self._said,), name="gauges", daemon=True)
                self._asking.start()
            asking, said = self._asking, self._said
        asking.join(ANSWER_WITHIN_S)
        yield from said.copy()

    def _ask(self, said: list[Metric]) -> None:
        for ask in self._asks:
            try:
                said += list(ask())
            except (SQLAlchemyError, ProtoolsError):  # health tells that it is down
                continue
            except Exception:  # whatever is wrong with one, the others are shown
                log.exception("metrics were not to be had")

    def describe(self) -> Iterator[Metric]:
        """Name nothing: registering asks no database."""
        yield from ()


def process_gauges(runtime: Runtime, kind: str, engines: Mapping[str, Engine]) -> Collector:
    """Return what a process knows of itself."""
    return Known(lambda: _process(runtime, kind), lambda: _pools(engines))


def database_gauges(runtime: Runtime, engines: Mapping[str, Engine]) -> Collector:
    """Return what the databases of a service know, and of sagas what the coordinator's does.

    The write database is asked as a reader: on SQLite its owner would hold up who writes.
    """
    reader = open_database(runtime.settings, runtime.service, "write", "reader")
    asked: list[Ask] = [lambda: _service(runtime, reader)]
    if "read" in engines and runtime.system[runtime.service].projections:
        asked.append(lambda: _unprojected(engines["read"]))
    if runtime.service == runtime.system.name:
        asked.append(lambda: _sagas(runtime, reader))
    return Asked(*asked)


def web_gauges(runtime: Runtime, read: Engine) -> Collector:
    """Return what the databases of a web process tell beside."""
    sides = {"write": runtime.write, "read": read}
    return Asked(lambda: _open_transactions(sides), lambda: _late(runtime.write))


def watch_gauges(watch: Watch) -> Collector:
    """Return the gauges of what a coordinator hears of all processes."""
    return Known(lambda: _watched(watch))


def _watched(watch: Watch) -> Families:
    """While a coordinator does not hear itself it knows of nobody who runs."""
    deaf, counts = watch.is_deaf(), watch.counts()
    about = ("service", "kind")
    silent = "1 while what a coordinator broadcasts does not come back to it."
    yield _gauge("broker_silent", silent, (), [((), deaf)])
    wanted = [((one.service, one.kind), one.expected) for one in counts]
    yield _gauge("processes_expected", "Processes that are to run.", about, wanted)
    heard = [] if deaf else counts
    running = [((one.service, one.kind), one.running) for one in heard]
    yield _gauge("processes_running", "Processes that were heard in the last 15 s.", about, running)
    missing = [((one.service, one.kind), one.missing) for one in heard]
    yield _gauge("processes_missing", "Processes that have been missed for 15 s.", about, missing)
    again = [((one.service, one.kind), one.restarting) for one in heard]
    yield _gauge("processes_restarting", "Processes that have ended in 10 minutes, if these are many.", about, again)


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
    yield _gauge(
        "pool_in_use",
        "Connections of a pool that are in use.",
        ("side",),
        [((side,), p.checkedout()) for side, p in pools],
    )
    yield _gauge("pool_size", "Connections that a pool keeps.", ("side",), [((side,), p.size()) for side, p in pools])


def _service(runtime: Runtime, write: Engine) -> Families:
    with write.connect() as tx:
        now = database.now(tx, runtime.settings.clock_offset)
        yield from _outbox(tx, runtime)
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


def _outbox(tx: Connection, runtime: Runtime) -> Families:
    found = unpublished(tx, told=runtime.system.told_once(runtime.service))
    yield _gauge("outbox_messages", "Committed messages that the broker has not confirmed.", (), [((), found.waiting)])
    yield _gauge("outbox_oldest_seconds", "Age of the oldest of those messages.", (), [((), found.oldest_s)])


def _waiting(tx: Connection, waiting: Sequence[Waiting], now: float) -> Families:
    found = backlogs(tx, waiting, now)
    of_work = ("work",)
    yield _gauge("waiting", "Work that waits.", of_work, [((one.name,), one.waiting) for one in found])
    yield _gauge(
        "waiting_failing", "Work that failed and is tried again.", of_work, [((o.name,), o.failing) for o in found]
    )
    yield _gauge(
        "waiting_failing_seconds",
        "For how long the oldest work that failed has waited.",
        of_work,
        [((o.name,), o.failing_s) for o in found],
    )


def _open_transactions(engines: Mapping[str, Engine]) -> Families:
    open_s = {}
    for side, engine in engines.items():
        with suppress(SQLAlchemyError):  # health tells that it is down
            open_s[side] = oldest_transaction_s(engine)
    rows = [((side,), seconds) for side, seconds in open_s.items() if seconds is not None]
    said = "Age of the oldest open transaction in a database; PostgreSQL only."
    yield _gauge("oldest_transaction_seconds", said, ("side",), rows)


def _late(write: Engine) -> Iterator[CounterMetricFamily]:
    said = "Messages that came after a newer one of their kind and aggregate and had no effect."
    with write.connect() as tx:
        late = tx.execute(select(func.coalesce(func.sum(latest.c.late), 0))).scalar_one()
    yield CounterMetricFamily("protools_late_messages", said, float(late))


def _unprojected(read: Engine) -> Families:
    with read.connect() as tx:
        (found,) = backlogs(tx, [FAILURES], database.now(tx, 0.0))
    yield _gauge("unprojected_events", "Events that a projection could not take yet.", (), [((), found.failing)])
    yield _gauge("unprojected_seconds", "For how long the oldest such event has waited.", (), [((), found.failing_s)])


def _sagas(runtime: Runtime, write: Engine) -> Families:
    with write.connect() as tx:
        now = database.now(tx, runtime.settings.clock_offset)
        rows = [((workflow, status), count, now - at) for workflow, status, count, at in live_sagas(tx)]
        labels = ("workflow", "status")
        yield _gauge(
            "sagas", "Sagas that have not ended, by status.", labels, [(values, count) for values, count, _ in rows]
        )
        oldest = [(values, age) for values, _, age in rows]
        yield _gauge("saga_unmoved_seconds", "For how long a saga has not moved, at most.", labels, oldest)
        found = silences(tx, runtime.system.name)
        yield _gauge(
            "unanswered_commands",
            "Commands without an answer.",
            ("target",),
            [((s.target,), s.unanswered) for s in found],
        )
        ages = [((one.target,), one.oldest_s) for one in found]
        yield _gauge("unanswered_oldest_seconds", "Age of the oldest unanswered command.", ("target",), ages)
        patience = [((one.target,), one.usual.patience_s) for one in found]
        yield _gauge(
            "unanswered_unusual_seconds", "Age from which an unanswered command is unusual.", ("target",), patience
        )


def live_sagas(tx: Connection) -> list[tuple[str, str, int, float]]:
    """Return workflow, status, number and oldest move of the sagas that have not ended, by two partial indexes."""
    found = select(saga.c.workflow, saga.c.status, func.count(), func.min(saga.c.moved_at))
    grouped = [
        found.where(condition).group_by(saga.c.workflow, saga.c.status)
        for condition in (saga.c.wake_at.is_not(None), saga.c.status == "SUSPENDED")
    ]
    return [(row[0], row[1], row[2], row[3]) for query in grouped for row in tx.execute(query)]
