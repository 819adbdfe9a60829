"""Compare two systems that differ in one thing: they take turns on the same load, and only ratios are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import processes
from bench.contest import Contestant
from bench.host import Host
from bench.report import Figure
from bench.rounds import FEWEST, START_S, per_saga

Costs = dict[str, float]
IN_FLIGHT = 500
BENCH = ("client", "HTTP client")
PATIENCE_S = 900.0
GROUPS = {"wall": "seconds", "all": "CPU, everything", "ours": "CPU, our processes", "postgres": "CPU, PostgreSQL"}
COSTS = {**GROUPS, "pulsar": "CPU, Pulsar", "statements_per_saga": "statements", "wal_bytes_per_saga": "PostgreSQL log"}
"""What one saga costs, by name, and what it is called."""


class Fighter:
    """Hold one of the two, in a process of its own; it stands still but for its turns."""

    def __init__(self, make: Callable[[Path], Contestant], folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o711)
        self._host = Host(make, folder)
        self._pids: dict[str, int] = {}

    def start(self) -> None:
        """Start it."""
        self._host.call("start", patience_s=START_S)
        self._pids = self._host.call("describe")[3]
        processes.pause(self._pids)

    def stop(self) -> None:
        """End it."""
        processes.resume({"host": self._host.pid, **self._pids})
        self._host.stop()

    def call(self, method: str, *arguments: Any) -> Any:
        """Wake it for one call."""
        processes.resume(self._pids)
        try:
            return self._host.call(method, *arguments, patience_s=PATIENCE_S)
        finally:
            processes.pause(self._pids)

    def costs(self, sagas: int) -> Costs:
        """Run sagas, and return what one cost; a few run before, so that every cache knows them."""
        processes.resume(self._pids)
        try:
            self._host.call("sustained", FEWEST, IN_FLIGHT)
            tally, cpu = self._host.call("tally"), processes.cpu_seconds(self._pids)
            run, _ = self._host.call("sustained", sagas, IN_FLIGHT)
            spent = {name: seconds - cpu[name] for name, seconds in processes.cpu_seconds(self._pids).items()}
            counted = per_saga(tally, self._host.call("tally"), sagas)
        finally:
            processes.pause(self._pids)
        return {"wall": run.seconds / sagas, **by_group(spent, sagas), **counted}


def by_group(spent: Costs, sagas: int) -> Costs:
    """Return CPU seconds a saga, of everything and of its parts; what asks for the sagas is left out."""
    each = {name: seconds / sagas for name, seconds in spent.items() if name not in BENCH}
    servers = {name: each[name] for name in ("pulsar", "postgres")}
    return {"all": sum(each.values()), "ours": sum(each.values()) - sum(servers.values()), **servers}


@contextmanager
def duel(
    left: Callable[[Path], Contestant], right: Callable[[Path], Contestant], folder: Path
) -> Iterator[tuple[Fighter, Fighter]]:
    """Start both, one after the other; end both."""
    with ExitStack() as stack:
        both = Fighter(left, folder / "left"), Fighter(right, folder / "right")
        for fighter in both:
            stack.callback(fighter.stop)
        for fighter in both:
            fighter.start()
        yield both


def ratios(left: Fighter, right: Fighter, sagas: int, rounds: int) -> dict[str, Figure]:
    """Return what a saga costs the right one, as a multiple of the left one's cost, by name of the cost."""
    pairs = [_round(left, right, sagas, left_first=number % 2 == 0) for number in range(rounds)]
    return {name: Figure([ours[name] / theirs[name] for theirs, ours in pairs]) for name in COSTS}


def _round(left: Fighter, right: Fighter, sagas: int, *, left_first: bool) -> tuple[Costs, Costs]:
    order: Sequence[Fighter] = (left, right) if left_first else (right, left)
    measured = {id(fighter): fighter.costs(sagas) for fighter in order}
    return measured[id(left)], measured[id(right)]
