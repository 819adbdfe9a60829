"""Run the linters of outsiders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.npm import brought

from pulsaga_program.local.process import program

HERE = Path(__file__).parent
LINT_S = 300


def installed() -> Path:
    """Return the folder of the linters, fetched first if need be; raise LocalServerError saying what is missing."""
    return brought(HERE)


def findings(folder: Path, document: Path) -> list[str]:
    """Return what the linters find in a document, a line each; raise CalledProcessError when they cannot run."""
    shutil.copy(HERE / "lint.js", folder)
    node = program("node", "install Node.js (apt-get install nodejs, brew install node)")
    done = subprocess.run([node, "lint.js", document], cwd=folder, capture_output=True, text=True, timeout=LINT_S)
    if done.stderr or done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done.stdout.splitlines()
