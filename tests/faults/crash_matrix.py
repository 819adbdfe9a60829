"""Kill at every point and print a table: `python -m tests.faults.crash_matrix --mode embedded --pairs 50`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from tests.faults.conftest import hurt
from tests.faults.matrix import Point, Verdict, draw_pairs, enumerate_points, kill_at, kill_twice
from tests.faults.stories import EMAILS, ORDERS, PASSWORDS, TRIPS, Story
from tests.system.conftest import Mode, on_servers
from tests.system.harness import SOURCES, System
from tests.system.mailboxes import SmtpServer, smtp_server
from tests.system.trips import new_key, prepare

from pulsaga_program.local import LocalPostgres, LocalPulsar
from pulsaga_program.local.process import free_ports

STORIES = {"passwords": PASSWORDS, "orders": ORDERS, "emails": EMAILS, "trips": TRIPS}
TRIES = 4
QUICK = {"SWEEP_AFTER": "1", "MAIL_CLAIM": "3", "FAILURE_DELAY": "0.2"}
"""What would else be waited for after every kill."""


@contextmanager
def running(name: str, story: str) -> Iterator[System]:
    """Run the system of a story on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="protools-matrix-") as text, smtp_server() as mailbox:
        folder = Path(text)
        folder.chmod(0o711)  # under root PostgreSQL runs as another user, who has to pass through
        with _mode(name, folder) as mode, told(mode, story, folder, mailbox) as system:
            yield system.up()


@contextmanager
def told(mode: Mode, story: str, folder: Path, mailbox: SmtpServer) -> Iterator[System]:
    """Prepare the system of a story, with one of every worker, so that whoever dies is missed."""
    if story != "trips":
        with hurt(mode, 1, folder, mailbox, only=(), **QUICK) as system:
            yield system
        return
    example = folder / "example"
    trips = prepare(example)
    given = {"PROTOOLS_SYSTEM": "trips.system:SYSTEM", "PYTHONPATH": f"{SOURCES}{os.pathsep}{example}"} | new_key()
    with hurt(mode, 1, folder, mailbox, trips, (), **QUICK, **given) as system:
        yield system


@contextmanager
def _mode(name: str, folder: Path) -> Iterator[Mode]:
    if name == "embedded":
        yield Mode("embedded", dict, lambda _home: smtp_server())
        return
    port, admin_port, postgres_port = free_ports(3)
    pulsar = LocalPulsar(folder / "pulsar", port=port, admin_port=admin_port, journal_sync=False)
    postgres = LocalPostgres(folder / "postgres", port=postgres_port)
    pulsar.start()
    postgres.start()
    try:
        yield Mode("pulsar", lambda: on_servers(pulsar, postgres), lambda _home: smtp_server())
    finally:
        pulsar.kill()
        postgres.remove()


def singles(system: System, story: Story, points: Sequence[Point]) -> Iterator[Verdict]:
    """Kill once at each point; one that a saga did not come by (two batches became one) is tried again."""
    for point in points:
        tried = (kill_at(system, story, point) for _ in range(TRIES))
        verdict = next((v for v in tried if v.reached), Verdict((point,), reached=False))
        word = "BAD" if verdict.wrong else "ok " if verdict.reached else "-- "
        print(f"  {word} {point}  {verdict.wrong}", flush=True)
        yield verdict


def doubles(system: System, story: Story, points: Sequence[Point], seed: int, wanted: int) -> Iterator[Verdict]:
    """Kill twice, until that many pairs were both reached."""
    pairs = draw_pairs(points, seed)
    reached = (v for first, second in pairs if (v := kill_twice(system, story, first, second)).reached)
    for verdict in islice(reached, wanted):
        pair = "  then  ".join(map(str, verdict.points))
        print(f"  {'BAD' if verdict.wrong else 'ok'}  {pair}  {verdict.wrong}", flush=True)
        yield verdict


def table(verdicts: Sequence[Verdict]) -> str:
    """Return one line for each seam: how many kills there ended well, and how many passes did not come again."""
    lines: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        lines[verdict.points[0].seam].append(verdict)
    return "\n".join(f"{seam:<26} {_tally(at)}" for seam, at in [*sorted(lines.items()), ("all", list(verdicts))])


def _tally(verdicts: Sequence[Verdict]) -> str:
    killed = [verdict for verdict in verdicts if verdict.reached]
    merged = len(verdicts) - len(killed)
    words = f"{sum(not verdict.wrong for verdict in killed)} of {len(killed)}"
    return words + (f", {merged} not passed again: batches came together" if merged else "")


def bad(verdicts: Sequence[Verdict]) -> int:
    """Count what went wrong, and the seams at which nobody was killed."""
    reached = {verdict.points[0].seam for verdict in verdicts if verdict.reached}
    missed = {verdict.points[0].seam for verdict in verdicts} - reached
    return sum(bool(verdict.wrong) for verdict in verdicts) + len(missed)


def main() -> int:
    """Run what was asked for; return 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", action="append", choices=["embedded", "pulsar"], required=True)
    parser.add_argument("--story", choices=list(STORIES), default="passwords")
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-pairs", action="store_true")
    options = parser.parse_args()
    wrong = 0
    for mode in options.mode:
        story = STORIES[options.story]
        with running(mode, options.story) as system:
            points = enumerate_points(system, story)
            print(f"{mode}: {len(points)} points of one happy and one compensated saga", flush=True)
            once = list(singles(system, story, [] if options.only_pairs else points))
            twice = list(doubles(system, story, points, options.seed, options.pairs))
        print(f"\n{mode}, killed once\n{table(once)}\n\n{mode}, killed twice (seed {options.seed})\n{table(twice)}\n")
        wrong += bad(once) + bad(twice)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
