"""Run storms over a system with hundreds of sagas in flight: `python -m tests.faults.chaos --mode pulsar --seed 7`.

A round is quiet until enough sagas are open; then comes one kind of trouble; then it is healed and nobody asks any
more: every saga must end, and `protools verify` must find nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from tests.faults.feeder import Census, Feeder
from tests.faults.matrix import settle
from tests.faults.stage import SETTINGS, NotRun, Stage, staged
from tests.faults.troubles import TROUBLES, Trouble

from pulsaga_program.local.process import wait_until

IN_FLIGHT = 330
FILL_S, DRAIN_S = 30.0, 240.0
ENOUGH = 0.95
"""Share of the sagas wanted in flight with which trouble begins: clients need a moment to replace what ends."""
GOAL_S = 10.0
"""The retry interval of a step (5 s), and 5 s more."""
LONGEST_S = 360.0


@dataclass
class Round:
    """Tell what one round of trouble came to; `drain_s` is None when not everything ended."""

    trouble: str
    in_flight: int = 0
    accepted: int = 0
    ended: int = 0
    drain_s: float | None = None
    not_run: str = ""
    defects: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Write the row of the table."""
        if self.not_run:
            return f"{self.trouble:<15} not run: {self.not_run}"
        drain = "never" if self.drain_s is None else f"{self.drain_s:.1f}"
        late = " LATE" if self.drain_s is None or self.drain_s > GOAL_S else ""
        counts = f"{self.in_flight:>9} {self.accepted:>9} {self.ended:>6} {drain:>8} {len(self.defects):>8}"
        return f"{self.trouble:<15}{counts}{late}"


HEAD = f"{'trouble':<15}{'in flight':>9} {'accepted':>9} {'ended':>6} {'drain s':>8} {'defects':>8}"


class Storm:
    """Hold one storm over one system."""

    def __init__(self, stage: Stage, seed: int, in_flight: int = IN_FLIGHT) -> None:
        self.stage, self._in_flight = stage, in_flight
        self.census = Census(stage.direct)
        self.feeder = Feeder(stage.system, self.census, seed, in_flight)
        stage.ask = self.feeder.ask_once

    def round(self, name: str, seconds: float) -> Round:
        """Let enough sagas be in flight, make trouble, heal, drain, verify."""
        row, trouble = Round(name), TROUBLES[name]
        try:
            trouble.needs(self.stage)
            self._hurt(row, trouble, seconds)
        except NotRun as reason:
            row.not_run = str(reason)
        self.stage.note(f"round {row.line()}")
        return row

    def _hurt(self, row: Round, trouble: Trouble, seconds: float) -> None:
        accepted, ended = self.census.accepted(), self.census.ended()
        self.stage.note(f"round {row.trouble}: quiet")
        with self.feeder.flowing() if trouble.under_load else nullcontext():
            enough = self._in_flight * ENOUGH * trouble.under_load
            wait_until(lambda: self.census.open() >= enough, FILL_S)
            row.in_flight = self.census.open()
            try:
                trouble.make(self.stage, seconds)
            finally:
                healed = time.monotonic()
        self._drain(row, healed)
        row.accepted, row.ended = self.census.accepted() - accepted, self.census.ended() - ended
        row.defects += [*self.stage.wrong, *findings(self.stage)]
        self.stage.wrong.clear()

    def _drain(self, row: Round, healed: float) -> None:
        if not wait_until(self._all_ended, healed + GOAL_S - time.monotonic()):
            for text in self.census.whereabouts(self.stage.direct):
                self.stage.note(f"late: {text}")
        if wait_until(self._all_ended, DRAIN_S):
            row.drain_s = time.monotonic() - healed
            return
        left = self.census.open_ids()
        row.defects.append(f"{len(left)} not ended {DRAIN_S:.0f} s after the heal, such as {left[:3]}")

    def _all_ended(self) -> bool:
        try:
            return self.census.open() == 0
        except SQLAlchemyError:
            return False

    def at_the_end(self) -> list[str]:
        """Return what is wrong between the clients, the front door and the mailbox."""
        found = [*self.feeder.at_the_front_door(), *self.feeder.in_the_mailbox()]
        self.census.close()
        return found


def findings(stage: Stage) -> list[str]:
    """Return what `protools verify` finds once nothing is left to be said, by check."""
    try:
        settle(stage.system)
    except AssertionError:
        return ["an outbox or failure row is left"]
    last: list[str] = []

    def clean() -> bool:
        report = json.loads(stage.system.run("verify", "--json").stdout)
        last[:] = [_told(found) for found in report["findings"] if found["isDefect"]]
        return not last

    wait_until(clean, 60)
    return last


def _told(found: dict[str, object]) -> str:
    ids = found["ids"]
    assert isinstance(ids, list)
    return f"{found['class']} {found['check']}: {found['count']}, such as {ids[:2]}"


def plan(chance: random.Random, wanted: Sequence[str], count: int) -> list[str]:
    """Return the kinds of trouble in a seeded order, all of them before any comes twice."""
    order: list[str] = []
    while len(order) < count:
        order += chance.sample(sorted(wanted), len(wanted))
    return order[:count]


@contextmanager
def folder_of(given: Path | None) -> Iterator[Path]:
    """Use the given folder and leave it, or one that goes."""
    folder = given or Path(tempfile.mkdtemp(prefix="protools-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # under root PostgreSQL runs as another user, who has to pass through
    try:
        yield folder
    finally:
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run a storm; return 1 when anything was lost, doubled, stuck or otherwise wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["embedded", "pulsar"], default="pulsar")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--rounds", type=int, default=len(TROUBLES))
    parser.add_argument("--only", nargs="+", choices=sorted(TROUBLES), default=sorted(TROUBLES))
    parser.add_argument("--seconds", type=float, default=8.0, help="of trouble in a round")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    parser.add_argument("--folder", type=Path, help="kept, with every log")
    options = parser.parse_args()
    print(f"seed {options.seed}, mode {options.mode}, {SETTINGS}", flush=True)
    with folder_of(options.folder) as folder, staged(options.mode, folder, options.seed) as stage:
        storm = Storm(stage, options.seed, options.in_flight)
        rounds: list[Round] = []
        for name in plan(stage.chance, options.only, options.rounds):
            if time.monotonic() - stage.began > LONGEST_S:
                rounds.append(Round(name, not_run=f"{LONGEST_S:.0f} s are over"))
            else:
                rounds.append(storm.round(name, options.seconds))
        wrong = storm.at_the_end()
    print("\n".join([f"\n{HEAD}", *(round.line() for round in rounds)]))
    for text in [*(f"{round.trouble}: {defect}" for round in rounds for defect in round.defects), *wrong]:
        print(f"DEFECT {text}")
    return 1 if wrong or any(round.defects for round in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
