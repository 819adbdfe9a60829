"""Pass on what Pulsar's client says: at once, in our format, and what it repeats only now and then."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.patience import PATIENCE_S

from pulsaga.broker.pulsar_log import TOLD_EVERY_S, Sayings

Told = list[tuple[str, str, int]]


def line(text: str, place: str = "ClientConnection:485", level: str = "ERROR") -> str:
    return f"2026-11-28 21:51:28.516 {level} [139706003089088] {place} | {text}"


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def sayings(told: Told) -> Sayings:
    return Sayings(lambda *said: told.append(said))


def test_the_first_line_of_a_place_is_told_at_once_without_its_clock_and_thread(sayings: Sayings, told: Told) -> None:
    """Whoever looks at the log while the broker goes must see it go; a log line has a time of its own."""
    sayings.hear(line("Connection refused"), 0)
    sayings.hear(line("TimeOut", "ClientImpl:275"), 0)
    assert told == [("ClientConnection:485", "Connection refused", 1), ("ClientImpl:275", "TimeOut", 1)]


def test_an_outage_of_a_day_is_some_lines_an_hour_however_much_the_client_says(sayings: Sayings, told: Told) -> None:
    """2,754 lines in 43 seconds hid every line that mattered, and filled the disk."""
    for second in range(24 * 3600):
        for number in range(8):
            sayings.hear(line(f"connection {number} of {second} refused"), second)
        sayings.settle(second)
    assert len(told) <= 24 * 3600 / TOLD_EVERY_S + 1
    assert sum(times for *_, times in told) + sayings._resting["ClientConnection:485"].times == 24 * 3600 * 8


def test_what_was_counted_is_told_with_the_newest_line_and_silence_is_forgotten(sayings: Sayings, told: Told) -> None:
    """The last word says more than the first; after a quiet time the next line is news again."""
    for text in ("one", "two", "three"):
        sayings.hear(line(text), 0)
    sayings.settle(TOLD_EVERY_S - 1)
    assert len(told) == 1
    sayings.settle(TOLD_EVERY_S)
    assert told[1:] == [("ClientConnection:485", "three", 2)]
    sayings.settle(2 * TOLD_EVERY_S)
    assert not sayings.is_counting
    sayings.hear(line("four"), 2 * TOLD_EVERY_S)
    assert told[2:] == [("ClientConnection:485", "four", 1)]


@pytest.mark.parametrize("text", ["", "no line of the client", "\x1b[2J", "x" * 100_000, line("x", "a" * 99 + ":1")])
def test_whatever_is_no_line_of_the_client_is_counted_together(sayings: Sayings, told: Told, text: str) -> None:
    """A name that strangers chose must not make a place of its own, of which there would be any number."""
    for _ in range(3):
        sayings.hear(text, 0)
    assert [(place, times) for place, _, times in told] == [("client", 1)]


PROGRAM = """
import sys
from pulsaga.broker.pulsar import PulsarBroker
from pulsaga.errors import Unavailable
from pulsaga.telemetry import configure_logging
configure_logging("json")
broker = PulsarBroker("pulsar://127.0.0.1:1", {}, "none")
try:
    broker.listen("x\\x1b[2J")
except Unavailable as down:
    print("down", file=sys.stderr)
broker.close()
"""


def test_a_client_without_a_broker_writes_lines_of_ours_and_few() -> None:
    """The client's own threads write them; nothing of it reaches the terminal as it is, and nothing stands still."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "down\n")
    lines = done.stdout.splitlines()
    assert 1 <= len(lines) <= 6
    assert [line for line in lines if not line.startswith("{") or '"event": "pulsar client"' not in line] == []
    assert "\x1b" not in done.stdout
