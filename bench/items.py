"""Measure what an item of a `ForEach` costs in a saga of 1, 10, 100 and 1,000 of them, from the front door to the end.

One saga runs at a time, sizes in turn. Target: an item costs no more in a saga of a thousand than twice what it costs
in one of a hundred, so that a saga costs in proportion to its items. Three minutes on two cores.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import urllib3

from bench.inventory import SYSTEM
from bench.processes import cpu_seconds, end_like_ctrl_c
from bench.report import Figure
from bench.rig import Rig, rig
from bench.told import Told, verdict

SIZES = (1, 10, 100, 1000)
SAGAS = {1: 20, 10: 10, 100: 4, 1000: 1}
"""Of one round, by size: several small ones, as they end soon."""
AT_MOST = 2.0
WAIT_S = 60
COORDINATOR = f"{SYSTEM.name}.worker"
Cost = dict[str, float]
COLUMNS = {"wall": "ms an item", "coordinator": "ms of CPU of the coordinator", "all": "ms of CPU of all"}


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--embedded", is_flag=True, help="On the embedded broker and SQLite, instead of Pulsar and PostgreSQL.")
def main(rounds: int, *, embedded: bool) -> None:
    """Print what an item costs by the size of its saga."""
    end_like_ctrl_c()
    told = Told("items")
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        with rig(Path(folder), SYSTEM, embedded=embedded, PROTOOLS_SYSTEM="bench.inventory:SYSTEM") as system:
            door = urllib3.PoolManager(retries=False, timeout=WAIT_S)
            _costs(system, door, 10)
            costs = {size: [_costs(system, door, size) for _ in range(rounds)] for size in SIZES}
    figures = {size: _figures(rounds_of) for size, rounds_of in costs.items()}
    told.tell([["items", *COLUMNS.values()], *([size, *figures[size].values()] for size in SIZES)], *_judged(costs))


def _costs(system: Rig, door: urllib3.PoolManager, size: int) -> Cost:
    """Run some sagas of a size one after the other; return milliseconds for each item."""
    before, began, number = cpu_seconds(system.pids()), time.monotonic(), SAGAS[size]
    for _ in range(number):
        _run(system, door, size)
    wall_s, after = time.monotonic() - began, cpu_seconds(system.pids())
    cpu_s = {name: after[name] - before[name] for name in after}
    spent = {"wall": wall_s, "coordinator": cpu_s[COORDINATOR], "all": sum(cpu_s.values())}
    return {name: 1000 * seconds / (number * size) for name, seconds in spent.items()}


def _run(system: Rig, door: urllib3.PoolManager, size: int) -> None:
    assert SYSTEM.door
    url = f"http://127.0.0.1:{system.environment[f'{SYSTEM.door.name.upper()}_PORT']}/workflows/take-stock"
    body: Any = {"shelves": [{"name": f"shelf-{number}"} for number in range(size)]}
    headers = {"Content-Type": "application/json", "Prefer": f"wait={WAIT_S}"}
    answer = door.request("POST", url, body=json.dumps(body), headers=headers)
    ended = answer.json()
    if answer.status >= 400 or ended["status"] != "completed":
        raise RuntimeError(f"a saga of {size} items did not complete: {answer.status} {ended}")


def _figures(costs: list[Cost]) -> Mapping[str, Figure]:
    return {name: Figure([cost[name] for cost in costs]) for name in COLUMNS}


def _judged(costs: Mapping[int, list[Cost]]) -> Iterator[str]:
    for name, said in COLUMNS.items():
        pairs = zip(costs[1000], costs[100], strict=True)
        ratio = Figure([large[name] / small[name] for large, small in pairs])
        yield verdict(f"{said}, 1,000 ÷ 100 items", f"≤ {AT_MOST:g}", ratio, good=ratio.median <= AT_MOST)


if __name__ == "__main__":
    main()
