"""Talk to programs of a peer that run in its own environment: a request a line, an answer a line."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.contest import Run, Tally
from bench.database import bench_postgres, database_tally
from bench.peers.install import python
from bench.processes import kill

PROGRAMS = Path(__file__).parent.parent / "programs"
READY_S = 60
ANSWER_S = 240


class Program:
    """Hold one process that runs sagas on request."""

    def __init__(self, peer: str, name: str, arguments: Sequence[object], log: Path) -> None:
        command = [str(python(peer)), str(PROGRAMS / f"{name}.py"), *map(str, arguments)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, cwd=log.parent, text=True
            )
        self._log = log

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def await_ready(self) -> None:
        """Return once it could run a saga."""
        self.answer(READY_S)

    def ask(self, sagas: int, in_flight: int) -> None:
        """Have it run sagas; `answer` tells when they have ended."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"sagas": sagas, "in_flight": in_flight}) + "\n")
        self._process.stdin.flush()

    def answer(self, patience_s: float = ANSWER_S) -> dict[str, Any]:
        """Wait for the answer to the request before."""
        assert self._process.stdout
        readable, _, _ = select.select([self._process.stdout], [], [], patience_s)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            raise RuntimeError(f"{self._log.name}: no answer; its log ends with:\n{self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End it."""
        end(self._process)


class Library:
    """Run sagas in programs that hold client and worker; what a contestant is asked beside its start and stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres = bench_postgres(folder / "postgres")
        self._programs: list[Program] = []

    def tally(self) -> Tally:
        return database_tally(self._postgres)

    def depth(self) -> int | None:
        return None

    def sustained(self, sagas: int, in_flight: int) -> Run:
        return run_on(self._programs, sagas, in_flight)

    def one_at_a_time(self, sagas: int) -> list[float]:
        return run_on(self._programs[:1], sagas, 1).latencies

    def preloaded(self, sagas: int) -> Run | None:  # noqa: ARG002 - part of the protocol
        return None

    def over_http(self, sagas: int) -> Run | None:  # noqa: ARG002 - part of the protocol
        return None


def run_on(programs: Sequence[Program], sagas: int, in_flight: int) -> Run:
    """Share sagas out over programs that run at the same time."""
    number = len(programs)
    for place, program in enumerate(programs):
        program.ask((sagas + place) // number, max(1, in_flight // number))
    answers = [program.answer() for program in programs]
    seconds = max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
    return Run(sagas, seconds, [latency for answer in answers for latency in answer["latencies"]])


def end(process: subprocess.Popen[Any]) -> None:
    """End a process of ours and its children."""
    kill(process.pid)
    process.wait()
