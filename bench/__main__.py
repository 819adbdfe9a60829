"""Measure Protools beside the floor and its peers, all in one run: PostgreSQL and Pulsar flush every commit to disk."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

import click

from bench import report, tables
from bench.lineup import ENTRIES
from bench.processes import end_like_ctrl_c
from bench.rounds import Contest

KEYS = [entry.key for entry in ENTRIES]
OUT = Path(__file__).parent / "out" / "latest.json"
GRACE_S = 60


@click.command()
@click.option("--only", multiple=True, type=click.Choice(KEYS), help="Take these (again and again); else all.")
@click.option("--rounds", default=3, show_default=True, help="Turns of each.")
@click.option("--seconds", default=12.0, show_default=True, help="Length of a loaded run, about.")
@click.option("--minutes", default=20.0, show_default=True, help="No turn begins that would last longer than this.")
@click.option("--out", default=OUT, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(only: tuple[str, ...], rounds: int, seconds: float, minutes: float, out: Path) -> None:
    """Print sagas per second, latency, and what one saga costs; write it all to a file."""
    end_like_ctrl_c()
    signal.alarm(int(minutes * 60 + GRACE_S))
    entries = [entry for entry in ENTRIES if entry.key in only or not (only or entry.apart)]
    machine, before = report.describe_machine(), report.processor_time()
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        contest = Contest(entries, Path(folder), seconds, time.monotonic() + minutes * 60, click.echo)
        try:
            contest.run(rounds)
        finally:
            contest.close()
    machine["stolen_percent"] = report.stolen_percent(before)
    measured = report.content(contest.results, machine)
    report.write(out, measured)
    click.echo(f"\nmachine: {', '.join(f'{name} {value}' for name, value in machine.items())}\n")
    for show in (tables.processes, tables.comparison, tables.targets):
        click.echo("\n".join(show(measured)) + "\n")
    click.echo(f"written to {out}")
    raise SystemExit(any(result.failure for result in contest.results))


if __name__ == "__main__":
    main()
