"""Pass on what Pulsar's client says: at once, in our format, and what it repeats only now and then."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.patience import PATIENCE_S

from pulsaga.broker.pulsar_log import ELSEWHERE, read_line


def line(text: str, place: str = "ClientConnection:485", level: str = "ERROR") -> str:
    return f"2026-11-28 21:51:28.516 {level} [139706003089088] {place} | {text}"


def test_a_line_is_told_by_its_place_without_its_clock_and_thread() -> None:
    """Whoever looks at the log while the broker goes must see it go; a log line has a time of its own."""
    assert read_line(line("Connection refused")) == ("ClientConnection:485", "Connection refused")
    assert read_line(line("TimeOut", "ClientImpl:275", "WARN")) == ("ClientImpl:275", "TimeOut")


@pytest.mark.parametrize("text", ["", "no line of the client", "\x1b[2J", "x" * 100_000, line("x", "a" * 99 + ":1")])
def test_whatever_is_no_line_of_the_client_is_counted_together(text: str) -> None:
    """A name that strangers chose must not make a place of its own, of which there would be any number."""
    assert read_line(text) == (ELSEWHERE, text)


PROGRAM = """
import sys
from pulsaga.broker.pulsar import PulsarBroker
from pulsaga.errors import Unavailable
from pulsaga.telemetry.logs import configure_logging
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
