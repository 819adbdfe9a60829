"""Run the program in the repository of a system that is not ours, as its author would."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.patience import PATIENCE_S
from tests.system.conftest import FAST_FAILURES
from tests.system.harness import SOURCES, Program, command, eventually

from pulsaga_program.local.process import free_ports


class Repository(Program):
    """A folder that holds a system, and the program in it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], coordinator: str) -> None:
        super().__init__(folder / ".protools", environment)
        del self.environment["PROTOOLS_SYSTEM"]  # pyproject.toml says it
        self.folder, self.log = folder, folder / "up.log"
        door, sagas = free_ports(2)
        ports = {"FRONT_DOOR_PORT": str(door), f"{coordinator.upper()}_PORT": str(sagas)}
        self.environment |= {**ports, **FAST_FAILURES}
        self.door = f"localhost:{door}"

    def python(self, *arguments: str) -> str:
        """Run Python in the folder; return what it printed."""
        environment = {**self.environment, "PYTHONPATH": os.pathsep.join((str(SOURCES), ".")), "MYPYPATH": str(SOURCES)}
        words = [sys.executable, *arguments]
        done = subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def do(self, line: str) -> str:
        """Run one command of a guide; return what it printed."""
        words = shlex.split(line.replace("localhost:3000", self.door))
        if words[0] == "protools":
            done = self.run(*words[1:], folder=self.folder)
        else:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def up(self) -> Iterator[None]:
        """Run the whole system while the block runs."""
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                command("up"), cwd=self.folder, env=self.environment, stdout=output, stderr=output
            )
        try:
            eventually(lambda: b"ready in " in self.log.read_bytes() or process.poll() is not None, log=self.log)
            assert process.poll() is None, self.log.read_text()
            yield
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0

    def is_clean(self) -> str | None:
        """Return what `protools verify` prints once it finds nothing."""
        done = self.run("verify", folder=self.folder)
        return done.stdout if done.returncode == 0 else None


def is_in_house_style(folder: Path) -> None:
    """Fail where the linter would send back whoever copies an example."""
    for check in (["check"], ["format", "--check"]):
        words = [sys.executable, "-m", "ruff", *check, "--no-cache", "--line-length", "120", "."]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
