"""Keep a list of programs running: start in order, show what they print, start again what dies, stop in order.

One thread, one selector: nothing here waits by sleeping. What is to run is decided in `pulsaga_program.up`.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from typing import IO, Literal, TextIO

from pulsaga.text import printable
from pulsaga_program.child import PULSE
from pulsaga_program.local.process import LocalServerError

WRONG_SETTING = 2
"""Exit code by which a child says that starting it again would not help."""

STOP_SECONDS = 5.0
GATE_SECONDS = 30.0
GATE_POLL_SECONDS = 0.05
FIRST_DELAY, LAST_DELAY = 0.1, 5.0
LIVED_LONG_SECONDS = 10.0
LOOK_SECONDS = 1.0
SILENT_SECONDS = 10.0
LONGEST_LINE = 65536

Role = Literal["web", "worker", "broker", "once"]
STOP_ORDER: tuple[Role, ...] = ("web", "worker", "once", "broker")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOURS = (36, 32, 35, 34, 33, 96, 92, 95, 94, 93)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
READY_EVENT = re.compile(r"\]\s+ready(\s|$)")


@dataclass(frozen=True, kw_only=True)
class Program:
    """Describe one program; `once` runs to its end before the next starts, `gate` must hold before the next starts."""

    name: str
    command: Sequence[str]
    role: Role = "worker"
    environment: Mapping[str, str] = field(default_factory=dict)
    gate: Callable[[], bool] | None = None


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started: float
    heard: float
    has_pulse: bool = False
    ready: bool = False
    early_deaths: int = 0


@dataclass
class _Output:
    child: _Child
    stream: IO[bytes]
    rest: bytes = b""


def says_ready(line: str) -> bool:
    """Tell whether a line is the event `ready`: the bare word READY, JSON, or structlog's console form."""
    plain = ANSI.sub("", line).strip()
    if plain.startswith("{"):
        with suppress(ValueError):
            return bool(json.loads(plain).get("event") == "ready")
    return plain == "READY" or READY_EVENT.search(plain) is not None


def restart_delay(early_deaths: int) -> float:
    """Return the seconds to wait before the next start: doubled by each death in a row soon after a start."""
    return min(LAST_DELAY, FIRST_DELAY * 2.0 ** max(0, early_deaths - 1))


class Supervisor:
    """Run programs until a signal; `run` returns the exit code. Use it once, in the main thread."""

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        when_ready: Callable[[float], str] | None = None,
        out: TextIO | None = None,
        keep: Callable[[str, str], None] | None = None,
    ) -> None:
        self.programs = programs
        self.when_ready = when_ready
        self.out = out or sys.stdout
        self.keep = keep
        self.children: dict[str, _Child] = {}
        self.due: dict[str, tuple[float, int]] = {}
        self.selector = selectors.DefaultSelector()
        self.began = time.monotonic()
        self.stopping = False
        self.impatient = False
        self.exit_code = 0
        self.width = max((len(program.name) for program in programs), default=0)
        colours = cycle(COLOURS)
        self.colours = {program.name: next(colours) for program in programs}

    def run(self) -> int:
        """Start everything, keep it running until SIGINT or SIGTERM (or a wrong setting), stop everything."""
        with self._signals():
            try:
                self._start_all()
                while not self.stopping:
                    self._pump(self._until_next_start())
                    self._kill_silent()
            finally:
                self._stop_all()
        return self.exit_code

    def say(self, text: str, name: str = "protools") -> None:
        """Print one line under a prefix, and keep it; a reader that went away ends the run."""
        if self.keep:
            self.keep(name, text if name != "protools" else f"{_now()} [info     ] {text}")
        prefix = f"{name.ljust(self.width)} |"
        if self.out.isatty():
            prefix = f"\x1b[{self.colours.get(name, 1)}m{prefix}\x1b[0m"
        try:
            print(prefix, text, file=self.out, flush=True)
        except (BrokenPipeError, ValueError):
            self.stopping = True

    def _start_all(self) -> None:
        for program in self.programs:
            if not self.stopping:
                self._start(program)
                self._wait_for(program)

    def _start(self, program: Program, early_deaths: int = 0) -> None:
        process = subprocess.Popen(
            list(program.command),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C in the terminal reaches us only, and we stop the children in order
        )
        now = time.monotonic()
        child = _Child(program, process, started=now, heard=now, early_deaths=early_deaths)
        self.children[program.name] = child
        if process.stdout is not None:
            self.selector.register(process.stdout, selectors.EVENT_READ, _Output(child, process.stdout))

    def _wait_for(self, program: Program) -> None:
        """Keep everything going until a `once` program ended well or a gate holds."""
        deadline = time.monotonic() + GATE_SECONDS
        while program.role == "once" and program.name in self.children and not self.stopping:
            self._pump(self._until_next_start())
        while program.gate and not self.stopping and not program.gate():
            if time.monotonic() > deadline:
                raise LocalServerError(f"{program.name} did not become ready within {GATE_SECONDS:.0f} s")
            self._pump(GATE_POLL_SECONDS)

    def _until_next_start(self) -> float:
        """Return the seconds until a start is due, at most those between two looks at who is silent."""
        starts = (at - time.monotonic() for at, _ in self.due.values())
        return max(0.0, min([LOOK_SECONDS, *starts]))

    def _pump(self, timeout: float) -> None:
        """Wait for output, a signal or the time-out; show what was printed, note deaths, start what is due."""
        for key, _ in self.selector.select(timeout):
            if isinstance(key.data, _Output):
                self._read(key)
            else:
                os.read(key.fd, 4096)
        for child in list(self.children.values()):
            if child.process.poll() is not None:
                self._ended(child)
        if not self.stopping:
            self._start_due()

    def _kill_silent(self) -> None:
        """Kill who has shown no pulse for long: stopped in its tracks, it may hold what the others need."""
        if self._silent():
            self._pump(0)  # who was stopped may be we: what they said meanwhile is still to be read
        for child in self._silent():
            self.say(f"{child.program.name} has been silent for {SILENT_SECONDS:.0f} s: killing it")
            child.heard = time.monotonic()
            child.process.kill()

    def _silent(self) -> list[_Child]:
        before = time.monotonic() - SILENT_SECONDS
        return [child for child in self.children.values() if child.has_pulse and child.heard < before]

    def _start_due(self) -> None:
        now = time.monotonic()
        for name, (at, early_deaths) in list(self.due.items()):
            if at <= now:
                del self.due[name]
                self._start(next(program for program in self.programs if program.name == name), early_deaths)

    def _read(self, key: selectors.SelectorKey) -> None:
        output: _Output = key.data
        chunk = os.read(key.fd, 65536)
        output.child.heard, output.child.has_pulse = time.monotonic(), output.child.has_pulse or PULSE in chunk
        *lines, output.rest = (output.rest + chunk.replace(PULSE, b"")).split(b"\n")
        if output.rest and (not chunk or len(output.rest) > LONGEST_LINE):
            lines, output.rest = [*lines, output.rest], b""
        for line in lines:
            self._line(output.child, line.decode(errors="replace").rstrip("\r"))
        if not chunk:
            self.selector.unregister(key.fileobj)
            output.stream.close()

    def _line(self, child: _Child, line: str) -> None:
        self.say(printable(line), child.program.name)
        if not child.ready and says_ready(line):
            child.ready = True
            self._perhaps_all_ready()

    def _perhaps_all_ready(self) -> None:
        asked = [program for program in self.programs if program.role in ("web", "worker")]
        ready = {name for name, child in self.children.items() if child.ready}
        if self.when_ready and all(program.name in ready for program in asked):
            for line in self.when_ready(time.monotonic() - self.began).splitlines():
                self.say(line)
            self.when_ready = None

    def _ended(self, child: _Child) -> None:
        code = child.process.returncode
        del self.children[child.program.name]
        if self.stopping or (child.program.role == "once" and code == 0):
            return
        if code == WRONG_SETTING or child.program.role == "once":
            self.say(f"{child.program.name} ended with exit code {code}: stopping everything")
            self.stopping, self.exit_code = True, code if code > 0 else 1
            return
        early = child.early_deaths + 1 if time.monotonic() - child.started < LIVED_LONG_SECONDS else 0
        delay = restart_delay(early)
        self.say(f"{child.program.name} ended with {_outcome(code)}; starting it again in {delay:.1f} s")
        self.due[child.program.name] = (time.monotonic() + delay, early)

    def _stop_all(self) -> None:
        """End every child, role by role, with SIGTERM; what is left after STOP_SECONDS in all gets SIGKILL."""
        self.stopping = True
        self.due.clear()
        self.impatient = False
        begun = time.monotonic()
        for step, role in enumerate(STOP_ORDER, start=1):
            self._stop_role(role, begun + STOP_SECONDS * 0.9 * step / len(STOP_ORDER))
        self._wait_until_gone(list(self.children.values()), begun + STOP_SECONDS * 0.9)
        for child in self.children.values():
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
        self._wait_until_gone(list(self.children.values()), begun + STOP_SECONDS + 1.0, patient=True)
        while self.selector.select(0):  # the last words
            self._pump(0)
        self.selector.close()

    def _stop_role(self, role: Role, deadline: float) -> None:
        children = [child for child in self.children.values() if child.program.role == role]
        for child in children:
            child.process.terminate()
        self._wait_until_gone(children, deadline)

    def _wait_until_gone(self, children: Sequence[_Child], deadline: float, *, patient: bool = False) -> None:
        while (patient or not self.impatient) and any(child.process.poll() is None for child in children):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._pump(left)
        self._pump(0)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.impatient = self.stopping and number == signal.SIGINT  # Ctrl-C twice: at once
        self.stopping = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into selector events while the block runs: a death of a child wakes us, too."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.selector.register(ours, selectors.EVENT_READ)
        before = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _outcome(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
