"""Print what this machine can do."""

from __future__ import annotations

import signal
import statistics
import sys
from collections.abc import Callable, Sequence

import click

from bench.contest import Run
from bench.floor.contestant import Floor
from bench.floor.parts import Options
from bench.processes import cpu_seconds
from bench.rounds import per_saga


@click.command()
@click.option("--sagas", default=5000, show_default=True, help="Sagas of each sustained run.")
@click.option("--alone", default=300, show_default=True, help="Sagas that run one at a time.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of each; the median is shown with its spread.")
@click.option("--buckets", default=Options.buckets, show_default=True, help="Ordering keys.")
@click.option("--batch", default=Options.batch, show_default=True, help="Messages a batch at most.")
@click.option("--side", "sides", multiple=True, type=click.Choice(["write", "both"]), default=["write", "both"])
def main(sagas: int, alone: int, rounds: int, buckets: int, batch: int, sides: Sequence[str]) -> None:
    """Print what this machine can do: the write side alone, then with the read side."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers must end with it
    for side in sides:
        floor = Floor(Options(side == "both", buckets, batch))
        try:
            floor.start()
            click.echo(f"--- {'write and read side' if side == 'both' else 'write side alone'}: {floor.settings}")
            _measure(floor, sagas, alone, rounds)
        finally:
            floor.stop()


def _measure(floor: Floor, sagas: int, alone: int, rounds: int) -> None:
    floor.sustained(1000, 1000)
    times = floor.one_at_a_time(alone)
    click.echo(
        f"one at a time: p50 {times[len(times) // 2] * 1000:.1f} ms  p99 {times[len(times) * 99 // 100] * 1000:.1f} ms"
    )
    runs: dict[str, Callable[[], Run]] = {
        "preloaded": lambda: floor.preloaded(sagas),
        "1,000 in flight": lambda: floor.sustained(sagas, 1000),
    }
    for name, run in runs.items():
        cpu, before = _cpu(floor), floor.tally()
        rates = sorted(run().per_second for _ in range(rounds))
        done = sagas * rounds
        each, spent = per_saga(before, floor.tally(), done), _cpu(floor)
        click.echo(
            f"{name}: {statistics.median(rates):,.0f} sagas/s ({', '.join(f'{rate:,.0f}' for rate in rates)}); a saga: "
            f"{each['statements_per_saga']:.3f} statements, {each['commits_per_saga']:.3f} commits, "
            f"{each['messages_per_saga']:.2f} messages"
        )
        for process, seconds in spent.items():
            click.echo(f"  CPU s per 1,000: {process:<14} {(seconds - cpu[process]) * 1000 / done:.3f}")


def _cpu(floor: Floor) -> dict[str, float]:
    spent = cpu_seconds(floor.pids())
    return spent | {"in all": sum(spent.values())}


if __name__ == "__main__":
    main()
