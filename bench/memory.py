"""Measure whether any process grows: sagas by the hundred thousand through one system, memory looked at on the way.

Target: each worker at most 120 MiB, and no growth over a million sagas. `--sagas 1000000` takes half an hour to an
hour, the default of 100,000 below five minutes on two cores.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import click

from bench.load import Load, names
from bench.processes import end_like_ctrl_c, memory_mib
from bench.rig import Rig, rig
from bench.rounds import Figures
from bench.system import NOBODY_IS_REFUSED
from bench.told import Told

IN_FLIGHT = 1000
LOOKS, FARTHEST = 20, 10_000
"""Looks at least, and sagas between two of them at most."""
WARM = 0.25
"""Share of the looks at the beginning that do not count: caches and pools fill."""
PER = 100_000
MOST_MIB, MOST_GROWTH_MIB = 120, 2


@click.command()
@click.option("--sagas", default=PER, show_default=True)
@click.option("--embedded", is_flag=True, help="On the embedded broker and SQLite.")
def main(sagas: int, embedded: bool) -> None:
    """Print the memory of every process before and after, and what it grew by for 100,000 sagas."""
    end_like_ctrl_c()
    told = Told("memory")
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        with rig(Path(folder), embedded=embedded, ACCEPT_WITHIN=NOBODY_IS_REFUSED) as system:
            step = min(sagas // LOOKS, FARTHEST)
            looks = _looks(system, sagas, step)
    told.tell([["process", "first, MiB", "last, MiB", "growth, MiB per 100,000 sagas", ""], *_rows(looks, step)])


def _looks(system: Rig, sagas: int, step: int) -> list[Figures]:
    load = Load(system, names())
    pids = {name: process.pid for name, process in system.processes.items()}
    looks = []
    try:
        for number in range(sagas // step):
            load.sustained(step, IN_FLIGHT)
            looks.append(memory_mib(pids))
            click.echo(f"{(number + 1) * step:,} sagas: {sum(looks[-1].values()):,.0f} MiB")
    finally:
        load.close()
    return looks


def _rows(looks: list[Figures], step: int) -> list[list[str]]:
    settled = looks[int(len(looks) * WARM) :]
    return [_row(name, [look[name] for look in settled], step) for name in looks[0]]


def _row(name: str, sizes: list[float], step: int) -> list[str]:
    growth = growth_of(sizes, step)
    good = growth <= MOST_GROWTH_MIB and (max(sizes) <= MOST_MIB or not name.endswith(".worker"))
    return [name, f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}", f"{growth:+.1f}", "met" if good else "missed"]


def growth_of(sizes: list[float], step: int) -> float:
    """Return the growth for 100,000 sagas: the slope through looks that lie `step` sagas apart."""
    return statistics.linear_regression([step * number for number in range(len(sizes))], sizes).slope * PER


if __name__ == "__main__":
    main()
