"""Let 200 users create products and orders while 200 list, on one and two replicas, and see where it is full.

A closed model (`k6/users.js`): the less everybody thinks between two requests, the more is asked for. Accept, saga and
read latency are told apart. Rows are kept in `bench/out/scalability.json`, by the number of replicas.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from bench import chart
from bench.processes import cpu_seconds, end_like_ctrl_c
from bench.report import describe_machine
from bench.rig import Rig
from bench.scenarios.whole import DOOR, defects, whole
from bench.tables import markdown
from system import SYSTEM

OUT = Path(__file__).parents[1] / "out" / "scalability.json"
IMAGES = Path(__file__).parents[2] / "docs" / "img"
SCRIPT = Path(__file__).parents[2] / "k6" / "users.js"
THINK_S = (5.0, 2.0, 1.0, 0.5, 0.2)
USERS, DURATION_S, WINDOW_S = 200, 20, 15
"""The first seconds of a run are left out of its rate."""
RATES = text(
    "SELECT count(*) FILTER (WHERE status = 'completed' AND updated_at BETWEEN until - :window AND until) "
    "/ CAST(:window AS float) FROM command, (SELECT max(created_at) AS until FROM command) AS load"
)
TRENDS = {"accept": "acceptance_ms", "saga": "saga_ms", "order": "order_ms", "read": "listing_ms"}
PARTS = {"p50": "med", "p95": "p(95)", "p99": "p(99)"}


@dataclass
class Row:
    """What one run showed; latencies in ms by `<kind> <percentile>`."""

    replicas: int
    think_s: float
    sagas_per_s: float
    reads_per_s: float
    latency_ms: dict[str, float]
    cores_busy: float
    """Of the system, servers included, without k6."""
    turned_away: int
    wrong: int
    """Commands that were refused or not seen to end, and answers that were no page and no 202."""


@click.command()
@click.option("--replicas", multiple=True, type=int, default=(1, 2), help="Of every worker and of the front door.")
@click.option("--seconds", default=DURATION_S, show_default=True, help="Of each run.")
@click.option("--draw/--no-draw", default=False, help="Draw docs/img/scalability-*.svg from all rows there are.")
def main(replicas: Sequence[int], seconds: int, draw: bool) -> None:
    """Print a row for each number of replicas and each time to think."""
    end_like_ctrl_c()
    rows = [Row(**known) for known in json.loads(OUT.read_text())["rows"]] if OUT.exists() else []
    machine, found = describe_machine(), list[str]()
    for count in replicas:
        rows = [row for row in rows if row.replicas != count]
        with whole(count) as system:
            for think_s in THINK_S:
                rows.append(_row(system, count, think_s, seconds))
                click.echo("\n".join(table(rows[-1:])))
            time.sleep(2)
            found += defects(system)
    rows.sort(key=lambda row: (row.replicas, -row.think_s))
    OUT.parent.mkdir(exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    OUT.write_text(json.dumps({"at": at, "machine": machine, "rows": [asdict(row) for row in rows]}) + "\n")
    OUT.with_suffix(".md").write_text("\n".join(table(rows)) + "\n")
    click.echo(f"protools verify: {'; '.join(found) or 'nothing'}")
    if draw:
        _draw(rows)
    sys.exit(1 if found else 0)


def _row(system: Rig, replicas: int, think_s: float, seconds: int) -> Row:
    cpu, began = sum(cpu_seconds(system.pids()).values()), time.monotonic()
    metrics = _k6(system, think_s, seconds)
    busy = (sum(cpu_seconds(system.pids()).values()) - cpu) / (time.monotonic() - began)
    latencies = {f"{kind} {part}": metrics[TRENDS[kind]][name] for kind in TRENDS for part, name in PARTS.items()}
    count = {name: int(metrics.get(name, {}).get("count", 0)) for name in ("sagas_owed", "requests_turned_away")}
    return Row(
        replicas,
        think_s,
        _completed_per_s(system, min(WINDOW_S, seconds)),
        metrics["listing_ms"]["count"] / seconds,
        {name: round(value, 1) for name, value in latencies.items()},
        round(busy, 2),
        count["requests_turned_away"],
        count["sagas_owed"] + int(metrics["checks"]["fails"]),
    )


def _k6(system: Rig, think_s: float, seconds: int) -> dict[str, dict[str, float]]:
    said = system.folder / "k6.json"
    given = {
        "BFF_PORT": str(SYSTEM.port_of(system.settings, DOOR)),
        "CREATORS": str(USERS),
        "READERS": str(USERS),
        "THINK_S": str(think_s),
        "DURATION": f"{seconds}s",
        "K6_NO_USAGE_REPORT": "true",
    }
    command = ["k6", "run", "--quiet", "--summary-export", str(said), str(SCRIPT)]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True)
    if done.returncode not in (0, 99):  # 99: a threshold was crossed, which is what the table shows
        raise RuntimeError(done.stderr[-2000:])
    metrics: dict[str, dict[str, float]] = json.loads(said.read_text())["metrics"]
    return metrics


def _completed_per_s(system: Rig, window_s: int) -> float:
    engine = create_engine(system.settings.database_url(DOOR, "read"), poolclass=NullPool)
    with engine.connect() as connection:
        return round(float(connection.execute(RATES, {"window": window_s}).scalar_one()), 1)


HEAD = ["replicas", "think, s", "sagas/s", "reads/s", *(f"{kind} p50 / p95 / p99, ms" for kind in TRENDS), "cores busy",
        "turned away", "wrong"]  # fmt: skip


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as Markdown."""
    return markdown([HEAD, *(_cells(row) for row in rows)])


def _cells(row: Row) -> list[str]:
    latencies = [" / ".join(f"{row.latency_ms[f'{kind} {part}']:,.0f}" for part in PARTS) for kind in TRENDS]
    rates = [str(row.replicas), f"{row.think_s:g}", f"{row.sagas_per_s:.0f}", f"{row.reads_per_s:.0f}"]
    return [*rates, *latencies, f"{row.cores_busy:.1f}", str(row.turned_away), str(row.wrong)]


def _draw(rows: Sequence[Row]) -> None:
    counts = sorted({row.replicas for row in rows})
    of = {count: [row for row in rows if row.replicas == count] for count in counts}
    places = [f"{row.think_s:g}" for row in of[counts[0]]]
    axis = "seconds that each of 400 users thinks between two requests"
    latencies = {
        f"{kind} p95, {count}": [row.latency_ms[f"{kind} p95"] for row in of[count]]
        for kind in ("accept", "saga", "read")
        for count in counts
    }
    rates = {f"replicas: {count}": [row.sagas_per_s for row in of[count]] for count in counts}
    drawn = {
        "latency": chart.lines("Latency by kind and replicas", latencies, "ms", axis=axis, places=places),
        "rate": chart.lines("Sagas that ended", rates, "sagas/s", axis=axis, places=places),
    }
    for name, image in drawn.items():
        (IMAGES / f"scalability-{name}.svg").write_text(image)


if __name__ == "__main__":
    main()
