"""Fetch Pulsar's binary distribution through Maven, once per machine."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pulsaga_program.local.process import LocalServerError, program, tail

VERSION = "4.0.8"
ARTIFACT = f"org.apache.pulsar:pulsar-server-distribution:{VERSION}:tar.gz:bin"


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return where downloads are kept: PROTOOLS_CACHE, else `protools` in XDG_CACHE_HOME, else in ~/.cache."""
    environment = os.environ if environment is None else environment
    if given := environment.get("PROTOOLS_CACHE"):
        return Path(given).expanduser().resolve()
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(base).expanduser() / "protools").resolve()


def pulsar_distribution(cache: Path | None = None) -> Path:
    """Return the folder of the unpacked distribution, fetching it first when this machine has none yet."""
    cache = cache or cache_folder()
    folder = cache / f"apache-pulsar-{VERSION}"
    if folder.is_dir():
        return folder
    if len(str(cache).split()) != 1:
        raise LocalServerError(f"Pulsar's own scripts cannot run from a path with spaces ({cache}): set PROTOOLS_CACHE")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _fetch(cache, folder)
    return folder


def _fetch(cache: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as temporary:
        _download(Path(temporary))
        archive = next(Path(temporary).glob("*.tar.gz"))
        subprocess.run(["tar", "xzf", archive.name], cwd=temporary, check=True)
        (Path(temporary) / folder.name).rename(folder)


def _download(target: Path) -> None:
    maven = program("mvn", "install Maven (apt-get install maven, brew install maven)")
    log = target / "mvn.log"
    with log.open("wb") as output:
        command = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={target}"]
        done = subprocess.run(command, cwd=target, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if done.returncode != 0:
        raise LocalServerError(f"Maven could not fetch {ARTIFACT}:\n{tail(log, 12)}")
