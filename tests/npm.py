"""Bring programs of outsiders from npm, of the versions and hashes in a `package-lock.json`, once per lock."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from pulsaga_program.local.distribution import cache_folder
from pulsaga_program.local.process import LocalServerError, program

INSTALL_S = 300


def brought(declared: Path) -> Path:
    """Return the folder of what a folder's lock names, fetched first if need be.

    Raise LocalServerError saying what is missing.
    """
    lock = hashlib.sha256((declared / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = cache_folder() / declared.name / lock
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as temporary:
            _install(declared, Path(temporary) / "brought", folder)
    return folder


def _install(declared: Path, temporary: Path, folder: Path) -> None:
    npm = program("npm", "install Node.js (apt-get install npm, brew install node)")
    temporary.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(declared / name, temporary)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode != 0:
        raise LocalServerError(f"npm could not install what {declared.name} needs:\n{done.stderr or done.stdout}")
    temporary.rename(folder)
