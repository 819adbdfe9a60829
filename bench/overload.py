"""Start a system on Pulsar and PostgreSQL, measure its capacity over HTTP, and load it with k6: overload or soak.

Exit code 1 when k6 crossed a threshold, when `protools verify` finds anything, or when a soak is not flat.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import click
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from bench import chart, report
from bench.rig import Rig, rig
from pulsaga_program.local.process import wait_until
from system import SYSTEM

K6 = Path(__file__).parents[1] / "k6"
IMAGES = Path(__file__).parents[1] / "docs" / "img"
K6_GC = "400"
"""Percent that k6's memory may grow by until it collects garbage: a third less of the processor than at 100."""
DRAIN_S = 120
GROWTH = 1.2
"""How much more the last third of a soak may show than the first."""
SMALL_TABLES = ("outbox", "failure", "dead_letter")
MOST_RESENT_PERCENT = 10.0
RESENT = """
SELECT coalesce(100.0 * sum(CAST(step->>'attempts' AS int) - 1) / count(*), 0)
FROM saga, jsonb_array_elements(CAST(progress AS jsonb)->'steps') AS step WHERE CAST(step->>'attempts' AS int) > 0
"""
Row = dict[str, float]


@click.group()
def main() -> None:
    """Load a system of its own with k6 and judge how it bears it."""


@main.command()
@click.option("--hold", default=60, show_default=True, help="Seconds at the full rate.")
@click.option("--times", default=3.0, show_default=True, help="Times the measured capacity.")
@click.option("--write/--no-write", default=True, show_default=True, help="Write docs/img/overload.json and .svg.")
def overload(hold: int, times: float, write: bool) -> None:
    """Ask for three times the capacity for a minute."""
    began = report.processor_time()
    with _system() as system:
        capacity = _capacity(system)
        good, rows = _k6(system, "overload.js", CAPACITY=capacity, HOLD_S=hold, TIMES=times)
        good &= _verified(system) & _tell_resent(system)
    _tell_overload(rows, capacity)
    _tell_stolen(began)
    if write:
        _draw(rows, capacity, times)
    sys.exit(0 if good else 1)


@main.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--share", default=0.6, show_default=True, help="Of the measured capacity.")
def soak(minutes: float, share: float) -> None:
    """Keep it at a part of its capacity for ten minutes: memory, latency and tables must stay flat."""
    began = report.processor_time()
    with _system() as system:
        rate = round(_capacity(system) * share)
        with _watching(system) as seen:
            good, rows = _k6(system, "soak.js", RATE=rate, DURATION=f"{minutes * 60:.0f}s")
        good &= _verified(system)
    good &= _is_flat("mean ms to the end", [row["mean_ms"] for row in rows], slack=10)
    for name in seen[0]:
        good &= _is_flat(name, [sample[name] for sample in seen], slack=500 if name.startswith("rows") else 8)
    _tell_stolen(began)
    sys.exit(0 if good else 1)


@contextmanager
def _system() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="protools-load-") as folder:
        Path(folder).chmod(0o711)
        with rig(Path(folder)) as system:
            yield system


# --- k6


def _capacity(system: Rig) -> float:
    _, rows = _k6(system, "capacity.js")
    capacity = rows[-1]["capacity"]
    click.echo(f"capacity: {capacity:.0f} commands/s ended, accepted over HTTP")
    _drained(system)
    return capacity


def _k6(system: Rig, script: str, **given: object) -> tuple[bool, list[Row]]:
    """Run a script; return whether every threshold held, and the lines of JSON that it printed."""
    environment = {
        **os.environ,
        "K6_NO_USAGE_REPORT": "true",
        "GOGC": K6_GC,
        "BFF_PORT": str(SYSTEM.port_of(system.settings, "bff")),
    }
    said = system.settings.home.parent / "k6.log"
    command = ["k6", "run", "--quiet", "--log-format", "raw", "--console-output", str(said), str(K6 / script)]
    done = subprocess.run(command, env={**environment, **{name: str(value) for name, value in given.items()}})
    lines = said.read_text().splitlines()
    said.unlink()
    return done.returncode == 0, [json.loads(line) for line in lines if line.startswith("{")]


# --- afterwards


def _drained(system: Rig) -> None:
    if not wait_until(lambda: _count(system, "bff", "outbox") == 0 and _running(system) == 0, DRAIN_S):
        raise RuntimeError(f"{_running(system)} sagas still run {DRAIN_S} s after the load")


def _running(system: Rig) -> int:
    query = "SELECT count(*) FROM saga WHERE status IN ('RUNNING', 'COMPENSATING')"
    return int(_scalar(system, "protools_saga", query))


def _count(system: Rig, service: str, table: str) -> int:
    return int(_scalar(system, service, f"SELECT count(*) FROM {table}"))  # noqa: S608 - our own names


def _scalar(system: Rig, service: str, query: str) -> Any:
    engine = create_engine(system.settings.database_url(service, "write"), poolclass=NullPool)
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def _verified(system: Rig) -> bool:
    _drained(system)
    command = [sys.executable, "-m", "pulsaga_program", "verify"]
    return subprocess.run(command, env={**os.environ, **system.environment}).returncode == 0


def _tell_overload(rows: list[Row], capacity: float) -> None:
    for name in ("accepted", "refused", "ended"):
        values = [row[name] for row in rows]
        click.echo(f"{name}/s: median {median(values):.0f}, most {max(values):.0f}")
    click.echo(f"backlog: at most {max(row['backlog'] for row in rows):.0f}; capacity {capacity:.0f}/s")


def _tell_resent(system: Rig) -> bool:
    """Tell how many commands were sent again, and whether they are few."""
    percent = float(_scalar(system, "protools_saga", RESENT))
    click.echo(f"commands sent again: {percent:.2f} % (at most {MOST_RESENT_PERCENT:g} %)")
    return percent <= MOST_RESENT_PERCENT


def _tell_stolen(began: tuple[float, float]) -> None:
    click.echo(f"the machine's host took {report.stolen_percent(began)} % of its processors' time for others")


def _draw(rows: list[Row], capacity: float, times: float) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    known = {"capacity": capacity, "times": times, "cores": os.cpu_count(), "rows": rows}
    (IMAGES / "overload.json").write_text(json.dumps(known) + "\n")
    (IMAGES / "overload.svg").write_text(drawing(known))


def drawing(known: Mapping[str, Any]) -> str:
    """Draw what an overload run measured."""
    rows = known["rows"]
    series = {name: [row[name] for row in rows] for name in ("accepted", "refused", "ended")}
    offered = {"offered": [row["accepted"] + row["refused"] for row in rows]}
    title = f"{known['times']:g} × the capacity of {known['capacity']:.0f} commands/s, {known['cores']} cores"
    return chart.lines(title, {**offered, **series}, "commands/s")


# --- what must stay flat


@contextmanager
def _watching(system: Rig) -> Iterator[list[Row]]:
    """Look at memory (MB) and at the rows of small tables every ten seconds while the block runs."""
    seen: list[Row] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(10):
            seen.append(_memory(system) | _tables(system))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _memory(system: Rig) -> Row:
    return {f"MB of {name}": _resident_mb(process.pid) for name, process in system.processes.items()}


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def _tables(system: Rig) -> Row:
    return {
        f"rows of {service}.{table}": _count(system, service, table)
        for service in SYSTEM.names
        for table in SMALL_TABLES
    }


def _is_flat(name: str, values: list[float], slack: float) -> bool:
    third = max(1, len(values) // 3)
    first, last = median(values[:third]), median(values[-third:])
    flat = last <= first * GROWTH + slack
    click.echo(
        f"{'flat' if flat else 'GROWS'}  {name}: first third {first:.1f}, last third {last:.1f}, most {max(values):.1f}"
    )
    return flat


if __name__ == "__main__":
    main()
