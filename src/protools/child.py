"""Tie a child process to its supervisor: end with it, even when that was killed with SIGKILL, and show it a pulse."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 1.0
BEAT_SECONDS = 3.0
PULSE = b"\0"
"""What a living child writes to its output every few seconds; the supervisor shows it to nobody."""


def show_pulse() -> None:
    """Write a pulse every few seconds: a process that was stopped in its tracks, perhaps with a lock in hand, has none.

    The first is written before this returns: who never had one is not missed.
    """
    os.write(sys.stdout.fileno(), PULSE)
    threading.Thread(target=_beat, daemon=True, name="pulse").start()


def _beat() -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        os.write(sys.stdout.fileno(), PULSE)


def end_with(supervisor: int) -> None:
    """Let the kernel kill this process with its parent (Linux), elsewhere a thread that looks every second."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _end_if_orphaned(supervisor)  # it may have died before the kernel was asked
    else:
        threading.Thread(target=_watch, args=(supervisor,), daemon=True, name="supervisor-watch").start()


def _watch(supervisor: int) -> None:
    while True:  # no call waits for the end of a process that is not a child
        _end_if_orphaned(supervisor)
        time.sleep(LOOK_SECONDS)


def _end_if_orphaned(supervisor: int) -> None:
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGKILL)
