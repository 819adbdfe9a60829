"""Run one private PostgreSQL cluster in a folder of its own, as an unprivileged user even for root."""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pulsaga_program.local.process import (
    LocalServerError,
    MissingTool,
    PortInUse,
    command_line,
    only_one,
    port_is_free,
    recorded_process,
    send,
    spawn_detached,
    tail,
    wait_until,
)

USER = "protools"
SERVER_USER = "postgres"
ROOT_DATA = Path("/var/lib/protools")
START_SECONDS = 180.0
CRASH_SECONDS = 10.0
SOCKET_NAME_LIMIT = 90

DOORS = """\
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""

StopMode = Literal["smart", "fast", "immediate"]


@dataclass
class LocalPostgres:
    """Control one cluster whose data, log and passwords belong to `folder`; it outlives this object.

    Under root the server runs as `postgres`; where that user cannot reach the folder, `folder/data` is a link.
    """

    folder: Path
    port: int = 5433
    options: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the server, by name."""

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    @classmethod
    def recorded(cls, folder: Path) -> LocalPostgres:
        """Return the cluster of this folder with the port it runs on, else the usual one."""
        try:
            return cls(folder, port=int((folder / "data" / "postmaster.pid").read_text().split("\n")[3]))
        except (OSError, ValueError, IndexError):
            return cls(folder)

    @property
    def log(self) -> Path:
        """File that holds what the server printed."""
        return self.folder / "postgres.log"

    @property
    def url(self) -> str:
        """URL of the maintenance database as the role `protools`, as SQLAlchemy reads it, password included."""
        return f"postgresql+psycopg://{USER}:{self._password(USER)}@127.0.0.1:{self.port}/postgres"

    def environment(self) -> dict[str, str]:
        """Return the DB_* variables that point Protools at this cluster."""
        return {
            "DB_USERNAME": USER,
            "DB_PASSWORD": self._password(USER),
            "DB_HOSTNAME": f"127.0.0.1:{self.port}",
        }

    def pid(self) -> int | None:
        """Return the process id of this folder's server, or None when it does not run."""
        return recorded_process(self._data / "postmaster.pid", str(self._data))

    def is_ready(self) -> bool:
        """Tell whether this folder's server runs and takes connections on its port."""
        return self.pid() is not None and self._accepts()

    def start(self) -> None:
        """Return once the server takes connections; one that runs already is left alone.

        Raises PortInUse, MissingTool, or LocalServerError with the end of the log.
        """
        with only_one(self.folder / "start.lock", f"another start of {self.folder} is under way"):
            if self.pid() is None:
                self._start()
            elif (running := self.recorded(self.folder)).port != self.port:
                raise LocalServerError(f"it runs already, on port {running.port}: stop it first ({self.folder})")

    def stop(self, mode: StopMode = "fast") -> None:
        """End the server; `immediate` skips the checkpoint, as a crash would. Do nothing when it does not run."""
        if self.pid() is not None:
            self._run("pg_ctl", "stop", "-D", str(self._data), "-m", mode, "-w", "-t", "30")

    def kill(self) -> None:
        """End the server at once (SIGKILL); the next start recovers from its log."""
        pid = self.pid()
        if pid is not None:
            send(pid, signal.SIGKILL)
            wait_until(lambda: self.pid() is None, 10)

    def remove(self) -> None:
        """Stop the server and delete the cluster."""
        self.stop("immediate")
        place = self._place
        if place != self.folder and place.parent == ROOT_DATA:
            shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self._sockets, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return (self.folder / "data").resolve()

    @property
    def _place(self) -> Path:
        return self._data.parent

    @property
    def _sockets(self) -> Path:
        inside = self._place / "socket"
        if len(str(inside)) <= SOCKET_NAME_LIMIT:
            return inside
        return Path(tempfile.gettempdir()) / f"protools-postgres-{_short_name(self.folder)}"

    def _password(self, role: str) -> str:
        file = self.folder / f"{role}.password"
        if not file.exists():
            raise LocalServerError(f"there is no cluster in {self.folder} yet: start it first")
        return file.read_text().strip()

    def _create(self) -> None:
        """Make the cluster beside its final place and move it there once complete: half a cluster is never used."""
        _needs_server_user()
        self._make_folders()
        fresh = self._place / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        _make_folder(fresh)
        self._run("initdb", "-D", str(fresh), "-U", SERVER_USER, "-A", "reject", "-E", "UTF8", "--locale=C.UTF-8")
        (fresh / "pg_hba.conf").write_text(DOORS)
        self._make_roles(fresh)
        fresh.replace(self._data)

    def _make_folders(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        if os.geteuid() == 0 and not data.exists() and not _reachable(self.folder):
            place = ROOT_DATA / _short_name(self.folder)
            shutil.rmtree(place, ignore_errors=True)  # left by an older cluster whose folder was deleted
            for part in (ROOT_DATA, place):
                part.mkdir(exist_ok=True)
                part.chmod(0o711)  # the server's user goes through it
            data.unlink(missing_ok=True)
            data.symlink_to(place / "data")

    def _make_roles(self, fresh: Path) -> None:
        """Set both passwords before the server ever listens."""
        ours, servers = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        statements = (
            f"CREATE ROLE {USER} LOGIN CREATEDB CREATEROLE PASSWORD '{ours}'\n",
            f"ALTER ROLE {SERVER_USER} PASSWORD '{servers}'\n",
            f"GRANT pg_read_all_stats TO {USER}\n",
            "CREATE EXTENSION pg_stat_statements\n",
        )
        self._run("postgres", "--single", "-D", str(fresh), "postgres", typed="".join(statements))
        _write_secret(self.folder / f"{USER}.password", ours)
        _write_secret(self.folder / f"{SERVER_USER}.password", servers)

    def _start(self) -> None:
        # After a crash the server's children hold its port and its shared memory for a moment longer.
        patience = CRASH_SECONDS if (self._data / "postmaster.pid").exists() else 0
        if not wait_until(lambda: port_is_free(self.port), patience):
            raise PortInUse(self.port, "stop what listens there, or choose another one with --port")
        if not (self._data / "PG_VERSION").exists():
            self._create()
        if not wait_until(self._launch, patience):
            raise LocalServerError(f"PostgreSQL did not become ready; {self.log} ends with:\n{tail(self.log, 12)}")

    def _launch(self) -> bool:
        _make_folder(self._sockets)
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._sockets),
            "max_connections": "300",
            **self.options,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        pid = spawn_detached([binary("postgres"), "-D", str(self._data), *options], self.log, cwd="/", **_as_server())
        wait_until(lambda: self.is_ready() or not command_line(pid), START_SECONDS)
        return self.is_ready()

    def _accepts(self) -> bool:
        # The server writes this word into its pid file once it takes connections; no password is spent on asking.
        try:
            return (self._data / "postmaster.pid").read_text().split("\n")[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    def _run(self, name: str, *arguments: str, typed: str | None = None) -> None:
        done = subprocess.run(
            [binary(name), *arguments], cwd="/", input=typed or "", capture_output=True, text=True, **_as_server()
        )
        if done.returncode != 0:
            raise LocalServerError(f"{name} failed: {(done.stderr or done.stdout).strip()}")


def binary(name: str) -> str:
    """Return the path of one of PostgreSQL's programs: on PATH, else the newest of Debian's; raise MissingTool."""
    found = shutil.which(name) or max(
        (str(path) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), key=_version, default=None
    )
    if found is None:
        raise MissingTool(f"{name} is missing: install PostgreSQL 15 or later (package postgresql)")
    return found


def _version(path: str) -> float:
    number = Path(path).parts[-3]
    return float(number) if number.replace(".", "", 1).isdigit() else 0.0


def _as_server() -> dict[str, Any]:
    """Under root, run the child as the unprivileged user that PostgreSQL insists on."""
    return {"user": SERVER_USER, "group": SERVER_USER, "extra_groups": []} if os.geteuid() == 0 else {}


def _needs_server_user() -> None:
    if os.geteuid() == 0 and not any(entry.pw_name == SERVER_USER for entry in pwd.getpwall()):
        raise MissingTool(f"user {SERVER_USER} is missing: PostgreSQL does not run as root (install its package)")


def _make_folder(path: Path) -> None:
    """Make a folder that belongs to the server's user alone."""
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(path, SERVER_USER, SERVER_USER)


def _reachable(folder: Path) -> bool:
    return subprocess.run(["test", "-x", str(folder)], cwd="/", **_as_server()).returncode == 0


def _short_name(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:12]


def _write_secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
