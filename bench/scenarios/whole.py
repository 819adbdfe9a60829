"""Start the whole system, every service of it, with so many replicas of every worker and of the front door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rig import Rig, servers
from pulsaga_program.up import processes_of
from system import SYSTEM

DOOR = "bff"


@contextmanager
def whole(replicas: int = 1, **changes: str) -> Iterator[Rig]:
    """Run everything in a folder that goes with it; nobody supervises, so that what is ended stays away."""
    with tempfile.TemporaryDirectory(prefix="protools-scenario-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # under root PostgreSQL runs as another user, who has to pass through
        with servers(folder, SYSTEM, **changes) as system:
            try:
                for service, kind in processes_of(SYSTEM, ()):
                    wanted = replicas if kind == "worker" or service == DOOR else 1
                    for number in range(wanted):
                        system.start(service, kind, f".{number + 1}" if number else "")
                yield system
            finally:
                system.stop()


def defects(system: Rig) -> list[str]:
    """Return what `protools verify` finds wrong, by class and check."""
    command = [sys.executable, "-m", "pulsaga_program", "verify", "--json"]
    done = subprocess.run(command, env={**os.environ, **system.environment}, capture_output=True, text=True)
    found = json.loads(done.stdout)["findings"]
    return [f"{one['class']} {one['check']}: {one['count']}" for one in found if one["isDefect"]]
