"""Measure Protools end to end through a real Pulsar and a real PostgreSQL, both flushing every commit to disk."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
from pathlib import Path

import click

from bench.counters import Counters, read_counters
from bench.load import Load, Run
from bench.rig import Rig, rig


@click.command()
@click.option("--sagas", default=4000, show_default=True, help="Sagas of each sustained run.")
@click.option("--alone", default=200, show_default=True, help="Sagas that run one at a time.")
@click.option("--in-flight", default=1000, show_default=True, help="Bound of the sustained run.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of each; the median is shown with its spread.")
def main(sagas: int, alone: int, in_flight: int, rounds: int) -> None:
    """Print sagas per second, latency, and what one saga costs."""
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        with rig(Path(folder)) as system:
            _describe()
            load = Load(system)
            try:
                _measure(system, load, sagas, alone, in_flight, rounds)
            finally:
                load.close()


def _describe() -> None:
    click.echo(f"machine: {os.cpu_count()} cores, Python {platform.python_version()}, journalSyncData=true, fsync=on")


def _measure(system: Rig, load: Load, sagas: int, alone: int, in_flight: int, rounds: int) -> None:
    load.sustained(500, 500)
    times = load.one_at_a_time(alone)
    click.echo(f"one at a time, accept -> done: p50 {_ms(times, 0.5)}  p95 {_ms(times, 0.95)}  p99 {_ms(times, 0.99)}")
    before = read_counters(system)
    runs = [load.sustained(sagas, in_flight) for _ in range(rounds)]
    cost = read_counters(system).since(before)
    click.echo(f"accepted in process, {in_flight} in flight: {_rates(runs)}")
    _tell_cost(cost, sagas * rounds)
    runs = [load.over_http(sagas // 2) for _ in range(rounds)]
    click.echo(f"accepted over HTTP: {_rates(runs)}; acceptance alone {load.accepted_per_s:.0f}/s in the last round")


def _ms(times: list[float], share: float) -> str:
    return f"{times[min(len(times) - 1, int(len(times) * share))] * 1000:.1f} ms"


def _rates(runs: list[Run]) -> str:
    rates = sorted(run.per_second for run in runs)
    return f"{statistics.median(rates):.0f} sagas/s completed (rounds: {', '.join(f'{rate:.0f}' for rate in rates)})"


def _tell_cost(cost: Counters, sagas: int) -> None:
    click.echo(
        f"per saga: {cost.statements / sagas:.2f} statements, {cost.commits / sagas:.2f} commits, "
        f"{cost.messages / sagas:.2f} messages stored"
    )
    click.echo("CPU seconds per 1,000 sagas:")
    for name, seconds in sorted(cost.cpu_s.items(), key=lambda item: -item[1]):
        click.echo(f"  {name:<22} {seconds * 1000 / sagas:.3f}")
    click.echo(f"  {'in all':<22} {sum(cost.cpu_s.values()) * 1000 / sagas:.3f}")


if __name__ == "__main__":
    main()
