"""Pause, resume and count the processes of a contestant, each with all its children."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
AT_REST_S = 1.5
"""Before it is paused a system gets this long to write down what it still has in hand."""


def pause(pids: Mapping[str, int]) -> None:
    """Stop everything but this process; clients before servers, so that no server hears half a request."""
    time.sleep(AT_REST_S)
    for pid in _all_others(pids):
        _send(pid, signal.SIGSTOP)


def resume(pids: Mapping[str, int]) -> None:
    """Let everything go on, in the order opposite to `pause`."""
    for pid in reversed(list(_all_others(pids))):
        _send(pid, signal.SIGCONT)


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return CPU seconds by process since its start, ended children included."""
    return {name: sum(map(_cpu, _family(pid))) for name, pid in pids.items()}


def memory_mib(pids: Mapping[str, int]) -> dict[str, float]:
    """Return resident memory by process; pages that several share are shared out (PSS) where the kernel tells."""
    return {name: sum(map(_memory, _family(pid))) / 1024 for name, pid in pids.items()}


def _all_others(pids: Mapping[str, int]) -> Iterator[int]:
    for pid in pids.values():
        if pid != os.getpid():
            yield from _family(pid)


def _family(pid: int) -> Iterator[int]:
    yield pid
    if pid == os.getpid():
        return
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


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
    own, ended_children = map(int, fields[11:13]), map(int, fields[13:15])
    return (sum(own) + (0 if pid == os.getpid() else sum(ended_children))) / TICKS


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
