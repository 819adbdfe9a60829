"""Install the peers into a cache of their own, pinned, each apart from the others and from Protools.

`python -m bench.peers.install [PART…]`; what is there already is left alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pulsaga_program.local.distribution import cache_folder
from pulsaga_program.local.process import program

DBOS = ("dbos==3.4.0", "psycopg[binary,pool]==3.3.9", "sqlalchemy==2.1.9")
RESTATE = ("restate-sdk==1.3.0", "hypercorn==0.18.0", "aiohttp==3.14.5", "psycopg[binary,pool]==3.3.9")
TEMPORAL = ("temporalio==1.35.0", "psycopg[binary,pool]==3.3.9")
PLOTS = ("matplotlib==3.11.2",)
PYTHON = {"dbos": DBOS, "restate": RESTATE, "temporal": TEMPORAL, "plots": PLOTS}
RESTATE_SERVER = "1.7.12"
TEMPORAL_SERVER = "1.31.2"  # the newest that Go 1.26.8 builds


def folder() -> Path:
    """Return where the peers are kept."""
    return cache_folder() / "bench"


def python(name: str) -> Path:
    """Return the interpreter of one environment."""
    return folder() / f"{name}-venv" / "bin" / "python"


def restate_server() -> Path:
    """Return Restate's server, which npm brings ready built for this kind of machine."""
    modules = folder() / f"restate-server-{RESTATE_SERVER}" / "node_modules" / "@restatedev"
    return next(modules.glob("restate-server-*/bin/restate-server"))


def temporal(name: str) -> Path:
    """Return a program of Temporal's: `server`, or `sql`, which lays out its tables."""
    return folder() / f"temporal-server-{TEMPORAL_SERVER}" / name


def main(wanted: Sequence[str]) -> None:
    """Install what is missing of what is wanted, all when nothing is named, and say what that was."""
    folder().mkdir(parents=True, exist_ok=True)
    for name, (contents, install) in parts().items():
        if not wanted or name in wanted:
            _once(f"{name}.installed", contents, install)


def parts() -> dict[str, tuple[str, Callable[[], None]]]:
    """Return every part by name: what it is made of and how it is installed."""
    environments = {name: (" ".join(packages), partial(_venv, name, packages)) for name, packages in PYTHON.items()}
    servers = {
        "restate-server": (RESTATE_SERVER, _restate_server),
        "temporal-server": (TEMPORAL_SERVER, _temporal_server),
    }
    return {**environments, **servers}


def _once(name: str, contents: str, install: Callable[[], None]) -> None:
    """Run `install` unless the stamp says that exactly this was installed before."""
    stamp = folder() / name
    if not stamp.exists() or stamp.read_text() != contents:
        print(f"installing {contents} into {folder()}", flush=True)
        install()
        stamp.write_text(contents)


def _venv(name: str, packages: tuple[str, ...]) -> None:
    venv.create(folder() / f"{name}-venv", with_pip=True, clear=True)
    subprocess.run([python(name), "-m", "pip", "install", "--quiet", *packages], check=True)


def _restate_server() -> None:
    target = folder() / f"restate-server-{RESTATE_SERVER}"
    target.mkdir(exist_ok=True)
    npm = program("npm", "install Node.js 20 or later")
    options = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(target)]
    subprocess.run([npm, "install", *options, f"@restatedev/restate-server@{RESTATE_SERVER}"], cwd=target, check=True)


def _temporal_server() -> None:
    go = program("go", "install Go 1.26 or later")
    environment = {**os.environ, "GOBIN": str(folder() / f"temporal-server-{TEMPORAL_SERVER}")}
    parts = (f"go.temporal.io/server/cmd/{name}@v{TEMPORAL_SERVER}" for name in ("server", "tools/sql"))
    print("building it takes some minutes", flush=True)
    subprocess.run([go, "install", *parts], env=environment, cwd=folder(), check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
