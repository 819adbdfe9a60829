"""Run DBOS: a library in the worker's process, everything durable in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.contest import Run, Tally
from bench.database import bench_postgres, create_database, statements_and_commits, version
from bench.peers import install
from bench.peers.program import Program, run_on

PROCESSES = 2
THREADS = 16


class Dbos:
    """Start workflows directly in the process that runs them: no queue is polled, no other process is asked."""

    name = "DBOS"
    settings = {
        "processes": f"{PROCESSES}, each takes and runs its workflows",
        "threads and connections": f"{THREADS} a process",
        "steps": "@DBOS.step, the row written through a connection of the thread's own",
    }

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres = bench_postgres(folder / "postgres")
        self._programs: list[Program] = []

    def versions(self) -> Mapping[str, str]:
        return {"dbos": install.DBOS[0].partition("==")[2], "postgresql": version(self._postgres)}

    def start(self) -> None:
        self._postgres.start()
        arguments = (create_database(self._postgres, "dbos"), THREADS)
        for number in range(PROCESSES):
            program = Program("dbos", "dbos_program", arguments, self._folder / f"program-{number}.log")
            self._programs.append(program)
            program.await_ready()

    def stop(self) -> None:
        for program in self._programs:
            program.stop()
        self._postgres.remove()

    def pids(self) -> Mapping[str, int]:
        ours = {f"process {number}": program.pid for number, program in enumerate(self._programs)}
        return {**ours, "postgres": self._postgres.pid() or 0}

    def tally(self) -> Tally:
        return Tally(*statements_and_commits(self._postgres))

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
