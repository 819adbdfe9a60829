"""Measure whether replicas help: the same work on one, two and four of every worker, each so slow that no core is full.

A fault rule keeps every transaction of the coordinator, generador and correo open for a while before its commit, and a
batch is small; so one worker does little, and whatever two transactions both need shows as a wait for a lock. Targets:
sagas/s grow with the replicas; nobody waits for a lock, no deadlock, no second try. Below six minutes on two cores.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from bench.contest import Run
from bench.load import Load, names
from bench.processes import cpu_seconds, end_like_ctrl_c
from bench.report import Figure
from bench.rig import Rig, rig
from bench.rounds import Figures
from bench.system import NOBODY_IS_REFUSED
from bench.told import Told, verdict
from system import SYSTEM

REPLICAS = (1, 2, 4)
HELD_S = 0.1
BATCH = 10
SLOWED = ("protools_saga", "generador", "correo")
RULES = "; ".join(f"{service}.flushed action=sleep={HELD_S} times=forever" for service in SLOWED)
SAGAS, IN_FLIGHT = 400, 100
"""Of one run, for each replica: some three times as many in flight as one that is not held up needs."""
LOOK_S = 0.01
AT_LEAST = {2: 1.8, 4: 3.2}
MOST_WAITED_S = 1.0
"""Of waiting for locks, by everybody together, for 1,000 sagas."""

LOCKED = text(
    "SELECT wait_event FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'"
)
TROUBLE = text("SELECT sum(deadlocks)::int, sum(xact_rollback)::int FROM pg_stat_database WHERE datname <> 'postgres'")
COLUMNS = {
    "per_s": "sagas/s",
    "p50_s": "p50, s",
    "cpu": "cores busy",
    "rows": "s waited for rows",
    "others": "s waited for other locks",
    "deadlocks": "deadlocks",
    "rollbacks": "rollbacks",
    "again": "second tries",
}
PER_1000 = ("rows", "others", "deadlocks", "rollbacks", "again")


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--sagas", default=SAGAS, show_default=True, help="Of one run, for each replica.")
def main(rounds: int, sagas: int) -> None:
    """Print sagas per second, and for 1,000 sagas the seconds waited for locks, at 1, 2 and 4 replicas."""
    end_like_ctrl_c()
    told = Told("scale")
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        slow = {"PROTOOLS_FAULTS": RULES, "BATCH_LIMIT": str(BATCH), "ACCEPT_WITHIN": NOBODY_IS_REFUSED}
        with rig(Path(folder), embedded=False, **slow) as system:
            load = Load(system, names())
            try:
                measured = {count: _at(system, load, count, sagas, rounds) for count in REPLICAS}
            finally:
                load.close()
    told.tell(_table(measured), *_judged(measured))


def _at(system: Rig, load: Load, replicas: int, sagas: int, rounds: int) -> list[Figures]:
    for service, kind in SYSTEM.processes:
        for number in range(2, replicas + 1):
            name = f".{number}"
            if kind == "worker" and f"{service}.{kind}{name}" not in system.processes:
                system.start(service, kind, name)
    load.sustained(BATCH * replicas, BATCH * replicas)
    measured = [_round(system, load, replicas, sagas * replicas) for _ in range(rounds)]
    click.echo(f"{replicas}: " + "  ".join(f"{name} {measured[-1][name]:.3g}" for name in COLUMNS))
    return measured


def _round(system: Rig, load: Load, replicas: int, sagas: int) -> Figures:
    trouble, cpu = _trouble(system), sum(cpu_seconds(system.pids()).values())
    with _looking(system) as waits:
        run: Run = load.sustained(sagas, IN_FLIGHT * replicas)
    busy = sum(cpu_seconds(system.pids()).values()) - cpu
    rows = waits["tuple"] + waits["transactionid"]
    counted = {
        "rows": rows * LOOK_S,
        "others": (waits.total() - rows) * LOOK_S,
        **{name: value - trouble[name] for name, value in _trouble(system).items()},
    }
    each = {name: counted[name] * 1000 / sagas for name in PER_1000}
    return {"per_s": run.per_second, "p50_s": sorted(run.latencies)[sagas // 2], "cpu": busy / run.seconds, **each}


def _trouble(system: Rig) -> Figures:
    with create_engine(system.postgres.url, poolclass=NullPool).connect() as connection:
        deadlocks, rollbacks = connection.execute(TROUBLE).one()
    said = [path.read_bytes() for path in system.folder.glob("*.worker*.log")]
    return {"deadlocks": deadlocks, "rollbacks": rollbacks, "again": sum(log.count(b"waiting") for log in said)}


@contextmanager
def _looking(system: Rig) -> Iterator[Counter[str]]:
    """Count, at every look, who waits for which kind of lock."""
    waits: Counter[str] = Counter()
    ended = threading.Event()

    def look() -> None:
        engine = create_engine(system.postgres.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            while not ended.wait(LOOK_S):
                waits.update(connection.execute(LOCKED).scalars())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield waits
    finally:
        ended.set()
        thread.join()


def _table(measured: dict[int, list[Figures]]) -> Sequence[Sequence[object]]:
    head = ["replicas", *(f"{title}, per 1,000" if name in PER_1000 else title for name, title in COLUMNS.items())]
    return [head, *([count, *(Figure(_of(rounds, name)) for name in COLUMNS)] for count, rounds in measured.items())]


def _of(rounds: Sequence[Figures], name: str) -> list[float]:
    return [figures[name] for figures in rounds]


def _judged(measured: dict[int, list[Figures]]) -> Iterator[str]:
    alone = _of(measured[1], "per_s")
    for count, least in AT_LEAST.items():
        gained = Figure([many / one for many, one in zip(_of(measured[count], "per_s"), alone, strict=True)])
        yield verdict(f"sagas/s of {count} replicas ÷ of one", f"≥ {least}", gained, good=gained.median >= least)
    for count, rounds in measured.items():
        waited = Figure([figures["rows"] + figures["others"] for figures in rounds])
        title = f"seconds waited for locks, by everybody, per 1,000 sagas at {count}"
        yield verdict(title, f"≤ {MOST_WAITED_S:g}", waited, good=waited.median <= MOST_WAITED_S)


if __name__ == "__main__":
    main()
