"""Hold the supervisor to its word with tiny children: prefix, order, restart, and an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

from pulsaga_program.local.process import command_line, wait_until
from pulsaga_program.supervisor import SILENT_SECONDS, STOP_SECONDS, restart_delay, says_ready

LEAVE_S = 30.0
"""Five seconds are promised, by the supervisor's clock; the deaf sleep for ten minutes."""
DRIVER = """
import json, sys
from pathlib import Path
from pulsaga_program.logs import LogFolder
from pulsaga_program.supervisor import Program, Supervisor

def program(name, code, role="worker", gate=None):
    command = [sys.executable, "-c", code]
    return Program(name=name, command=command, role=role, gate=Path(gate).exists if gate else None)

programs = [program(**each) for each in json.loads(sys.argv[1])]
keep = LogFolder(Path(sys.argv[2])).write if sys.argv[2:] else None
sys.exit(Supervisor(programs, when_ready=lambda seconds: "all ready", keep=keep).run())
"""

FOR_EVER = "import time\nprint('READY')\ntime.sleep(600)"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('READY')\ntime.sleep(600)"
WITH_PULSE = """
import os, time
from pulsaga_program.child import show_pulse
print('pid', os.getpid())
show_pulse()
print('READY')
time.sleep(600)
"""
LAST_WORD = """
import signal, sys, time
def leave(*_):
    time.sleep(0.1)
    print('bye')
    sys.exit()
signal.signal(signal.SIGTERM, leave)
print('READY')
time.sleep(600)
"""


class Run:
    """A supervisor under test, whose lines are read as they come."""

    def __init__(self, programs: Sequence[dict[str, str]], keep: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(programs), *([str(keep)] if keep else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> list[str]:
        """Read lines until one holds the text; what was read so far is returned."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines
        raise AssertionError(f"{text!r} was never printed: {self.lines}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Signal it, read the rest, and return how many seconds the end took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        return self.wait(begun)

    def wait(self, begun: float) -> float:
        """Read the rest until it has ended; return the seconds since `begun`."""
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        self.lines += rest.splitlines()
        return time.monotonic() - begun


@pytest.fixture
def supervised() -> Iterator[Callable[..., Run]]:
    """Start supervisors that are gone at the end of the test, with their children."""
    runs: list[Run] = []

    def start(*programs: dict[str, str]) -> Run:
        runs.append(Run(programs))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.stop()
        if run.process.stdout:
            run.process.stdout.close()


def test_every_line_of_a_child_carries_its_name(supervised: Callable[..., Run]) -> None:
    """Eight processes share one terminal: who said what must be plain."""
    run = supervised({"name": "generador.worker.2", "code": "print('one\\ntwo'); " + FOR_EVER.replace("\n", ";")})
    lines = run.read_until("READY")
    assert lines[:2] == ["generador.worker.2 | one", "generador.worker.2 | two"]


def test_a_line_of_a_child_does_nothing_to_the_terminal(supervised: Callable[..., Run]) -> None:
    """Libraries print what strangers chose: a name must not clear the screen, or stand there as another's line."""
    hostile = "'a\\x1b]P;owned\\x07\\r\\x9bJ\\u202eb'"
    run = supervised({"name": "a", "code": f"print({hostile}); {FOR_EVER.replace(chr(10), ';')}"})
    assert run.read_until("READY")[0] == r"a | a\x1b]P;owned\x07\r\x9bJ\u202eb"


def test_says_ready_once_all_are_ready(supervised: Callable[..., Run]) -> None:
    """The commands to try next must work when they are shown."""
    run = supervised({"name": "a", "code": FOR_EVER}, {"name": "b", "code": FOR_EVER, "role": "web"})
    assert sum("READY" in line for line in run.read_until("all ready")) == 2


def test_a_child_that_dies_is_started_again(supervised: Callable[..., Run]) -> None:
    """A crash of one worker must not need a person."""
    run = supervised({"name": "mortal", "code": "import os; print('pid', os.getpid()); " + FOR_EVER.replace("\n", ";")})
    first = run.read_until("pid ")[-1]
    os.kill(int(first.split()[-1]), signal.SIGKILL)
    assert "SIGKILL" in run.read_until("ended with")[-1]
    assert run.read_until("pid ")[-1] != first


def test_a_child_that_was_stopped_in_its_tracks_is_killed_and_started_again(supervised: Callable[..., Run]) -> None:
    """Stopped inside a transaction it would hold SQLite's one write lock for as long as it is stopped."""
    run = supervised({"name": "sleeper", "code": WITH_PULSE})
    (told,) = (line for line in run.read_until("all ready") if "pid " in line)
    os.kill(int(told.rpartition(" ")[2]), signal.SIGSTOP)
    lines = run.read_until("sleeper ended with SIGKILL")
    assert any("silent" in line for line in lines)
    assert run.read_until("READY")
    assert not any("\0" in line for line in run.lines)


def test_a_supervisor_that_was_stopped_itself_kills_nobody_for_it(supervised: Callable[..., Run]) -> None:
    """Somebody presses Ctrl-Z and fg: all were silent to it, and none of them was."""
    ticking = WITH_PULSE.replace("time.sleep(600)", "for tick in range(600): print('tick', tick); time.sleep(0.2)")
    run = supervised({"name": "patient", "code": ticking})
    run.read_until("all ready")
    run.process.send_signal(signal.SIGSTOP)
    wake_at = time.monotonic() + SILENT_SECONDS + 2
    while time.monotonic() < wake_at:
        time.sleep(0.1)  # nothing can be seen of it meanwhile
    run.process.send_signal(signal.SIGCONT)
    run.read_until("tick 75")
    run.stop()
    assert not any("silent" in line for line in run.lines)


def test_restarts_grow_slower_up_to_five_seconds() -> None:
    """A child that dies at once, again and again, must not burn a core."""
    delays = [restart_delay(deaths) for deaths in range(12)]
    assert delays == sorted(delays)
    assert delays[0] < 0.5
    assert delays[-1] == 5.0


def test_a_wrong_setting_stops_everything_with_exit_code_2(supervised: Callable[..., Run]) -> None:
    """Starting again would not help, and the message must not scroll away."""
    run = supervised({"name": "fine", "code": FOR_EVER}, {"name": "wrong", "code": "raise SystemExit(2)"})
    run.wait(time.monotonic())
    assert run.process.returncode == 2
    assert "wrong" in "".join(line for line in run.lines if "stopping everything" in line)


def test_nothing_starts_before_bootstrap_has_ended_well(supervised: Callable[..., Run]) -> None:
    """A worker without its tables would only fail."""
    run = supervised({"name": "bootstrap", "role": "once", "code": "print('done')"}, {"name": "a", "code": FOR_EVER})
    lines = run.read_until("READY")
    assert [line.split("|")[1].strip() for line in lines] == ["done", "READY"]


def test_a_failed_bootstrap_ends_the_run(supervised: Callable[..., Run]) -> None:
    """Half a system must not look like one."""
    run = supervised({"name": "bootstrap", "role": "once", "code": "raise SystemExit(3)"}, {"name": "a", "code": ""})
    run.wait(time.monotonic())
    assert run.process.returncode == 3


def test_the_next_program_waits_for_the_gate(supervised: Callable[..., Run], tmp_path: Path) -> None:
    """Services start once the broker takes connections, not before."""
    gate = tmp_path / "open"
    code = f"import pathlib, time; time.sleep(0.3); print('open'); pathlib.Path({str(gate)!r}).touch(); time.sleep(600)"
    run = supervised(
        {"name": "broker", "role": "broker", "code": code, "gate": str(gate)}, {"name": "a", "code": FOR_EVER}
    )
    assert [line.split("|")[1].strip() for line in run.read_until("READY")] == ["open", "READY"]


def test_webs_stop_first_then_workers_then_the_broker(supervised: Callable[..., Run]) -> None:
    """No request is taken that nobody would answer, no message that could not be acked."""
    names = {"broker": "broker", "worker": "worker", "web": "web"}
    run = supervised(*({"name": name, "role": role, "code": LAST_WORD} for name, role in names.items()))
    for _ in range(3):
        run.read_until("READY")
    run.stop()
    assert [line.split()[0] for line in run.lines if line.endswith("bye")] == ["web", "worker", "broker"]
    assert run.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_end_even_the_deaf(supervised: Callable[..., Run], number: signal.Signals) -> None:
    """Ctrl-C is a promise: the prompt comes back and no port stays taken."""
    code = "import os; print('pid', os.getpid())\n" + DEAF
    run = supervised({"name": "deaf", "code": code}, {"name": "web", "role": "web", "code": FOR_EVER})
    run.read_until("all ready")
    assert run.stop(number) < LEAVE_S
    pid = int(next(line for line in run.lines if "pid " in line).split()[-1])
    assert command_line(pid) == ""
    assert STOP_SECONDS == 5.0, "what the manual says"


def test_children_end_with_a_supervisor_that_was_killed(supervised: Callable[..., Run]) -> None:
    """After kill -9 the next `protools up` must find its ports and its home free."""
    code = (
        "import os; from pulsaga_program.child import end_with; end_with(os.getppid()); print('pid', os.getpid())\n"
        + DEAF
    )
    run = supervised({"name": "child", "code": code})
    run.read_until("all ready")
    pid = int(next(line for line in run.lines if "pid " in line).split()[-1])
    run.stop(signal.SIGKILL)
    assert wait_until(lambda: not command_line(pid), PATIENCE_S)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("READY", True),
        ('{"event": "ready", "level": "info"}', True),
        ("\x1b[2m2026-01-01T00:00:00\x1b[0m [\x1b[32minfo     \x1b[0m] \x1b[1mready    \x1b[0m kind=web", True),
        ("2026-01-01T00:00:00 [info     ] ready kind=web", True),
        ('{"event": "already there"}', False),
        ("2026-01-01T00:00:00 [info     ] getting ready", False),
        ("{not json", False),
    ],
)
def test_readiness_is_read_from_plain_json_and_console_lines(line: str, expected: bool) -> None:
    """The log format is a setting; being ready is not."""
    assert says_ready(line) is expected
