"""Find ports and programs, and signal only those processes that are verifiably ours."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pulsaga.errors import ProtoolsError

POLL_SECONDS = 0.05
EXEC_SECONDS = 2.0


class LocalServerError(ProtoolsError):
    """Say why a local server cannot be started or stopped."""


class MissingTool(LocalServerError):
    """Say which program is missing on this machine and how to get it."""


class PortInUse(LocalServerError):
    """Say which port another program listens on, and how to choose a different one."""

    def __init__(self, port: int, advice: str) -> None:
        super().__init__(f"port {port} is in use: {advice}")
        self.port = port


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on this port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return that many different ports on which nothing listens now."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def program(name: str, advice: str) -> str:
    """Return the path of a program on PATH; raise MissingTool with the advice when it is not there."""
    found = shutil.which(name)
    if found is None:
        raise MissingTool(f"{name} is missing: {advice}")
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll the condition until it holds or the time is over; return whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def command_line(pid: int) -> str:
    """Return the command line of a live process, or nothing when it is gone (a zombie counts as gone).

    A process that is becoming another program (execve) has none for a moment; that is waited for.
    """
    if not Path("/proc/self/cmdline").exists():  # macOS and the BSDs
        shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
        return shown.stdout.strip()
    deadline = time.monotonic() + EXEC_SECONDS
    while not (said := _read(f"/proc/{pid}/cmdline")) and _lives(pid) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 10)
    return said.replace(b"\0", b" ").decode(errors="replace").strip()


def _lives(pid: int) -> bool:
    state = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return bool(state) and state[0] not in (b"Z", b"X")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def recorded_process(file: Path, mark: str) -> int | None:
    """Return the pid on the file's first line if that process lives and its command line holds the mark."""
    try:
        pid = int(file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if pid > 1 and mark in command_line(pid) else None


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process; one that is gone already is no error."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def spawn_detached(command: Sequence[str], log: Path, **options: Any) -> int:
    """Start a program that outlives us, in a session of its own, printing to the log; return its pid.

    The options are those of `subprocess.run`. The shell in between leaves no child of ours behind to be reaped.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    shell = ["/bin/sh", "-c", '"$@" </dev/null >&2 & echo $!', "sh"]
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        done = subprocess.run(
            [*shell, *command], stdout=subprocess.PIPE, stderr=output, start_new_session=True, check=True, **options
        )
    return int(done.stdout)


@contextmanager
def only_one(file: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the block runs; raise LocalServerError(busy) when another process holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalServerError(busy) from None
        yield


def tail(file: Path, lines: int) -> str:
    """Return the last lines of a text file, or nothing when there is none."""
    try:
        with file.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - 400 * lines))
            return "\n".join(handle.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
