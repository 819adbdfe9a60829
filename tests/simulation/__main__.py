"""Run schedules by seed: `python -m tests.simulation --seeds 1000 --start 0 --processes 2`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.disks import open_disks
from tests.simulation.faults import Broken
from tests.simulation.simulator import Simulation


def broken_among(seeds: range) -> list[tuple[int, str]]:
    """Run every seed; return those that broke a promise, with the trace."""
    found = []
    with open_disks() as disks:
        for seed in seeds:
            try:
                Simulation(disks, seed).run()
            except Broken as broken:
                found.append((seed, str(broken)))
    return found


def main() -> int:
    """Spread the seeds over processes; print the traces of the broken ones and the rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    last, began = asked.start + asked.seeds, time.monotonic()
    shares = [range(asked.start + number, last, asked.processes) for number in range(asked.processes)]
    with ProcessPoolExecutor(asked.processes) as pool:
        found = sorted(one for share in pool.map(broken_among, shares) for one in share)
    seconds = time.monotonic() - began
    said = [trace + "\n" for _, trace in found[:3]]
    said += [f"broken: {' '.join(str(seed) for seed, _ in found)}"] if found else []
    said.append(f"{asked.seeds} schedules, {len(found)} broken, {asked.seeds / seconds * 60:.0f} schedules a minute")
    sys.stdout.write("\n".join(said) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
