"""Bring the linters of outsiders from npm, of the versions and hashes in `package-lock.json`, once per lock."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from pulsaga_program.local.distribution import cache_folder
from pulsaga_program.local.process import LocalServerError, program

HERE = Path(__file__).parent
INSTALL_S, LINT_S = 300, 300


def installed() -> Path:
    """Return the folder of the linters, fetched first if need be; raise LocalServerError saying what is missing."""
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = cache_folder() / "linters" / lock
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as temporary:
            _install(Path(temporary) / "linters", folder)
    return folder


def _install(temporary: Path, folder: Path) -> None:
    npm = program("npm", "install Node.js (apt-get install npm, brew install node)")
    temporary.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, temporary)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode != 0:
        raise LocalServerError(f"npm could not install the linters:\n{done.stderr or done.stdout}")
    temporary.rename(folder)


def findings(folder: Path, document: Path) -> list[str]:
    """Return what the linters find in a document, a line each; raise CalledProcessError when they cannot run."""
    shutil.copy(HERE / "lint.js", folder)
    node = program("node", "install Node.js (apt-get install nodejs, brew install node)")
    done = subprocess.run([node, "lint.js", document], cwd=folder, capture_output=True, text=True, timeout=LINT_S)
    if done.stderr or done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done.stdout.splitlines()
