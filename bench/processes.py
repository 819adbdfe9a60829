"""Pause, resume and count the processes of a contestant, each with its children."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
AT_REST_S = 1.0
"""Before it is paused a system gets this long to write down what it still has in hand."""


def end_like_ctrl_c() -> None:
    """Let SIGTERM, SIGHUP and SIGALRM end this process as Ctrl-C does, so that what it started is ended."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.default_int_handler)


def pause(pids: Mapping[str, int]) -> None:
    """Stop everything."""
    time.sleep(AT_REST_S)
    for pid in _everything(pids):
        _send(pid, signal.SIGSTOP)


def resume(pids: Mapping[str, int]) -> None:
    """Let everything go on."""
    for pid in _everything(pids):
        _send(pid, signal.SIGCONT)


def kill(pid: int) -> None:
    """End a process and its children at once: what they hold is thrown away with the run."""
    for one in list(_family(pid, set())):
        _send(one, signal.SIGKILL)


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return CPU seconds by process since its start, ended children included."""
    return {name: sum(map(_cpu, family)) for name, family in _families(pids)}


def memory_mib(pids: Mapping[str, int]) -> dict[str, float]:
    """Return resident memory by process; pages that several share are shared out (PSS) where the kernel tells."""
    return {name: sum(map(_memory, family)) / 1024 for name, family in _families(pids)}


def _everything(pids: Mapping[str, int]) -> Iterator[int]:
    for _, family in _families(pids):
        yield from family


def _families(pids: Mapping[str, int]) -> Iterator[tuple[str, list[int]]]:
    """Give every process and its children once: a child that is named itself is not its parent's."""
    named = set(pids.values())
    for name, pid in pids.items():
        yield name, list(_family(pid, named))


def _family(pid: int, named: set[int]) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        if child not in named:
            yield from _family(child, named)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def _memory(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))
    except (OSError, StopIteration):
        return _resident(pid)


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB
    except OSError:
        return 0.0
