"""Measure what a saga costs at a thousand to a million finished ones, against a system without a past, turn by turn.

Target: at most 1.1 times, at any size. Below ten minutes on two cores; `--upto 100000` below four.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bench.contest import Contestant
from bench.database import disk_bytes
from bench.duel import COSTS, Fighter, duel, ratios
from bench.layout import PATTERN, Layout
from bench.processes import end_like_ctrl_c
from bench.report import Figure
from bench.system import Protools
from bench.told import Told, verdict

SIZES = (1_000, 10_000, 100_000, 1_000_000)
AT_MOST = 1.1
REST_S = 3.0
"""Within it every read model has what the first saga told."""


class Aged(Protools):
    """Be given a past on request. Names come in random order, as people's do."""

    def _names(self) -> Iterator[str]:
        yield PATTERN
        while True:
            yield f"u{random.getrandbits(76):019x}"

    def start(self) -> None:
        super().start()
        with self._one_saga():
            self._layout, self._size = Layout(self._rig.settings), 1
        self._empty = disk_bytes(self._rig.postgres)

    @contextmanager
    def _one_saga(self) -> Iterator[None]:
        """Hold the first saga as it is to be copied."""
        self._load.sustained(1, 1)
        time.sleep(REST_S)
        yield

    def age(self, size: int) -> float:
        """Lay out finished sagas up to this number; return the seconds that took."""
        began = time.monotonic()
        self._layout.copy(self._size, size - 1)
        self._size = size
        return time.monotonic() - began

    def bytes_each(self) -> dict[str, float]:
        """Return what one finished saga takes on disk, by database."""
        full = disk_bytes(self._rig.postgres)
        short = {name: name.partition("_")[2] for name in full}
        return {short[name]: (full[name] - self._empty[name]) / self._size for name in full}


@click.command()
@click.option("--upto", default=SIZES[-1], show_default=True, help="Finished sagas to end with.")
@click.option("--sagas", default=2000, show_default=True, help="Sagas of one turn.")
@click.option("--rounds", default=3, show_default=True)
def main(upto: int, sagas: int, rounds: int) -> None:
    """Print the cost of a saga at each size, as a multiple of its cost in a system without a past."""
    end_like_ctrl_c()
    told = Told("history")
    rows: list[list[object]] = [["finished sagas", *COSTS.values()]]
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        with duel(_new, _new, Path(folder)) as (young, old):
            for size in (0, *(size for size in SIZES if size <= upto)):
                measured = _at(young, old, size, sagas, rounds)
                rows.append([f"{size:,}", *measured.values()])
                click.echo(" | ".join(str(cell) for cell in rows[-1]))
            kept = old.call("bytes_each")
    told.tell(rows, *(_judged(size, name, measured[name]) for name in ("all", "wall")), _kept(kept))


def _judged(size: int, name: str, figure: Figure) -> str:
    title = f"{COSTS[name]} at {size:,} finished sagas ÷ without a past"
    return verdict(title, f"≤ {AT_MOST}", figure, good=figure.median <= AT_MOST)


def _kept(kept: dict[str, float]) -> str:
    each = ", ".join(f"{name} {size:,.0f}" for name, size in sorted(kept.items(), key=lambda item: -item[1]))
    return f"On disk, indexes included, a finished saga takes {sum(kept.values()):,.0f} bytes: {each}."


def _new(folder: Path) -> Contestant:
    return Aged(folder)


def _at(young: Fighter, old: Fighter, size: int, sagas: int, rounds: int) -> dict[str, Figure]:
    if size:
        click.echo(f"{size:,} sagas laid out in {old.call('age', size):.0f} s")
    return ratios(young, old, sagas, rounds)


if __name__ == "__main__":
    main()
