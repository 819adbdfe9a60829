"""Run the real services through seeded schedules of faults, with every guard and without each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.simulation import guards
from tests.simulation.disks import Disks, open_disks
from tests.simulation.faults import Broken
from tests.simulation.simulator import Simulation

SEEDS = 500
ENOUGH = 400
"""Schedules within which the lack of any guard shows."""
ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus.txt")


@pytest.fixture(scope="module")
def disks() -> Iterator[Disks]:
    with open_disks() as opened:
        yield opened


def first_red(disks: Disks, removal: guards.Removal) -> str:
    """Run schedules without a guard; return what the first broken one says, or nothing."""
    with removal(disks):
        for seed in range(ENOUGH):
            try:
                Simulation(disks, seed).run()
            except Broken as broken:
                return str(broken)
    return ""


def corpus() -> list[int]:
    """Read the seeds that once went red."""
    lines = (line.partition("#")[0].strip() for line in CORPUS.read_text().splitlines())
    return [int(line) for line in lines if line]


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, SEEDS, 50))
def test_whatever_goes_wrong_every_command_ends_once(disks: Disks, start: int) -> None:
    """The promise of the whole system, on the real code, under faults that no other test would think of together."""
    for seed in range(start, start + 50):
        Simulation(disks, seed).run()


def test_no_seed_that_once_went_red_does_so_again(disks: Disks) -> None:
    """What was found once stays found."""
    for seed in corpus():
        Simulation(disks, seed).run()


TRACE = """
from tests.simulation.disks import open_disks
from tests.simulation.simulator import Simulation
with open_disks() as disks:
    for seed in (7, 8):
        (simulation := Simulation(disks, seed)).run()
        print(*simulation.trace, sep="\\n")
"""


def test_a_seed_is_a_schedule_in_every_process() -> None:
    """A red seed that took another way the next time could not be looked into."""
    traces = []
    for hashing in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": os.pathsep.join(["src", "."])}
        told = subprocess.run([sys.executable, "-c", TRACE], cwd=ROOT, env=environment, capture_output=True, check=True)
        traces.append(told.stdout.decode().splitlines())
    assert traces[0] == traces[1]
    assert len(traces[0]) > 200


def test_a_broken_schedule_tells_its_steps_and_how_to_run_it_again(disks: Disks) -> None:
    """A failure that nobody can replay is a rumour."""
    told = first_red(disks, guards.without_outbox).splitlines()
    assert told[-1].startswith("again: make simulate SEEDS=1 START=")
    assert any("takes" in line for line in told)


def red_without(disks: Disks, guard: str) -> str:
    """Run schedules without a guard and return the promise that the first red one broke."""
    return (first_red(disks, getattr(guards, guard)).splitlines() or ["", ""])[-2]


@pytest.mark.slow
def test_a_simulation_without_the_inbox_goes_red(disks: Disks) -> None:
    """Redelivery is normal; without a memory of what was handled, work is done twice."""
    assert "seed" in red_without(disks, "without_inbox")


def test_a_simulation_without_the_outbox_goes_red(disks: Disks) -> None:
    """A death between commit and publishing would lose what was said."""
    assert "seed" in red_without(disks, "without_outbox")


def test_a_simulation_that_clears_the_outbox_too_early_goes_red(disks: Disks) -> None:
    """A row that goes before the broker has confirmed is a message that may be nowhere."""
    assert "seed" in red_without(disks, "with_early_removal_from_outbox")


def test_a_simulation_that_acknowledges_before_the_commit_goes_red(disks: Disks) -> None:
    """A death between the two would lose the command."""
    assert "is lost" in red_without(disks, "with_ack_before_commit")


def test_a_simulation_in_which_ended_sagas_move_goes_red(disks: Disks) -> None:
    """A success that comes after giving up must not complete what was undone."""
    assert "seed" in red_without(disks, "without_end")


def test_a_simulation_without_tombstones_goes_red(disks: Disks) -> None:
    """An undo overtakes its do; the password would outlive its compensated saga."""
    assert "outlived its compensated saga" in red_without(disks, "without_tombstones")


def test_a_simulation_that_sends_again_under_new_ids_goes_red(disks: Disks) -> None:
    """A retry under a new id is a second command, which only the first one's effect refuses."""
    assert "under two ids" in red_without(disks, "with_new_ids_when_sent_again")


def test_a_simulation_that_keeps_what_a_failing_message_wrote_goes_red(disks: Disks) -> None:
    """Half a handler's rows are worse than none."""
    assert "seed" in red_without(disks, "without_undo_of_one_message")


@pytest.mark.slow
def test_a_simulation_without_the_senders_claim_goes_red(disks: Disks) -> None:
    """A sender that woke up after its claim has passed would overwrite what another reported."""
    assert "seed" in red_without(disks, "without_claim")


@pytest.mark.slow
def test_a_simulation_in_which_a_mail_sent_again_differs_goes_red(disks: Disks) -> None:
    """The one gap that SMTP leaves is closed by sending the identical mail."""
    assert "two versions" in red_without(disks, "with_a_new_date_on_each_mail")
