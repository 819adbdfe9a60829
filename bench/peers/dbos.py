"""Run DBOS: a library in the worker's process, everything durable in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping

from bench.database import create_database, version
from bench.peers import install
from bench.peers.program import Library, Program

PROCESSES = 2
THREADS = 16


class Dbos(Library):
    """Start workflows directly in the process that runs them: no queue is polled, no other process is asked."""

    name = "DBOS"
    settings = {
        "processes": f"{PROCESSES}, each takes and runs its workflows",
        "threads and connections": f"{THREADS} a process",
        "steps": "@DBOS.step, the row written through a connection of the thread's own",
    }

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
