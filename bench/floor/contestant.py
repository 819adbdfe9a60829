"""Run the floor as a contestant of the bench: a process for each service, acceptance in the bench's own process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pulsar

from bench.contest import Run, Tally
from bench.counters import read_tally
from bench.floor.parts import GENERATE, GENERATED, ISSUE, MOVED, SEND, SENT, Channel, Desk, Options, connect, receive
from bench.floor.read_side import project_commands, project_mails, project_passwords, project_sagas
from bench.floor.write_side import accept, coordinate, generate, send
from bench.rig import Rig, servers
from pulsaga.delivery.messages import new_id
from pulsaga.settings import Settings
from pulsaga_program.local.process import wait_until

Work = Callable[[Desk, Sequence[Any]], None]


@dataclass(frozen=True)
class Loop:
    """Describe one loop: whose it is, what it reads, what it does."""

    service: str
    subscription: str
    topics: tuple[str, ...]
    work: Work

    @property
    def reads(self) -> bool:
        """Whether it is part of the read side."""
        return self.subscription != self.service


LOOPS: dict[str, tuple[Loop, ...]] = {
    "protools_saga": (
        Loop("protools_saga", "protools_saga", (ISSUE, GENERATED, SENT), coordinate),
        Loop("protools_saga", "protools_saga-projector", (MOVED,), project_sagas),
    ),
    "generador": (
        Loop("generador", "generador", (GENERATE,), generate),
        Loop("generador", "generador-projector", (GENERATED,), project_passwords),
    ),
    "correo": (
        Loop("correo", "correo", (SEND,), send),
        Loop("correo", "correo-projector", (SENT,), project_mails),
    ),
    "bff": (Loop("bff", "bff-projector", (MOVED, GENERATED), project_commands),),
}
"""The loops of each process; each runs in a thread of its own."""


def serve(process: str, settings: Settings, options: Options, ready: Any) -> None:
    """Run the loops of one process until it is ended."""
    sys.setswitchinterval(0.0005)
    channel = Channel(settings, options)
    for loop in LOOPS[process]:
        if options.read_side or not loop.reads:
            connection = connect(settings, loop.service, *(("read", "projector") if loop.reads else ("write", "owner")))
            desk = Desk(loop.service, settings, options, channel, connection, [])
            consumer = channel.subscribe(loop.subscription, loop.topics)
            threading.Thread(target=_turn, args=(loop.work, desk, consumer)).start()
    ready.set()


def _turn(work: Work, desk: Desk, consumer: Any) -> None:
    try:
        while True:
            batch = receive(consumer, desk.options.batch)
            if not batch:
                desk.clear()
                continue
            work(desk, batch)
            for message in batch:
                consumer.acknowledge(message)
    except BaseException:
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGKILL)  # what is measured must not go on with a part missing


# --- the contestant

READY_S, GIVE_UP_S, ACCEPT_BATCH = 60.0, 120.0, 100
ENDED = {
    True: "SELECT count(*) FROM command WHERE id >= %s AND status IN ('completed', 'refused', 'suspended')",
    False: "SELECT count(*) FROM saga WHERE id >= %s AND status = 'COMPLETED'",
}
"""What says how many have ended: the front door's read model, without a read side the sagas themselves."""


class Floor:
    """Run the floor's processes and accept in this one."""

    name = "floor"

    def __init__(self, options: Options | None = None) -> None:
        self.options = options = options or Options()
        self._stack = ExitStack()
        self.settings = {
            "batch": f"up to {options.batch} messages, two round trips",
            "ordering": f"{options.buckets} buckets",
            "read side": "yes" if options.read_side else "no",
        }

    def versions(self) -> dict[str, str]:
        """Return the versions of what it is made of."""
        return {name: version(name) for name in ("pulsar-client", "psycopg", "fastavro")}

    def start(self) -> None:
        """Start servers and processes."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="protools-bench-")))
        folder.chmod(0o711)
        self._rig: Rig = self._stack.enter_context(servers(folder))
        self._processes = self._spawn()
        settings, read_side = self._rig.settings, self.options.read_side
        self._channel = Channel(settings, self.options)
        self._stack.callback(self._channel.close)
        connection = connect(settings, "bff", "write", "owner")
        self._desk = Desk("bff", settings, self.options, self._channel, connection, [])
        self._ends = (
            connect(settings, "bff", "read", "reader")
            if read_side
            else connect(settings, "protools_saga", "write", "owner")
        )
        self._listener = self._channel.listen()

    def _spawn(self) -> dict[str, Any]:
        context = multiprocessing.get_context("spawn")
        names = [name for name, loops in LOOPS.items() if self.options.read_side or not all(one.reads for one in loops)]
        processes = {}
        for name in names:
            ready = context.Event()
            process = context.Process(target=serve, args=(name, self._rig.settings, self.options, ready), daemon=True)
            process.start()
            self._stack.callback(process.join, 5)
            self._stack.callback(process.kill)
            processes[name] = process
            if not _became_ready(process, ready):
                raise RuntimeError(f"{name} did not become ready")
        return processes

    def stop(self) -> None:
        """End processes and servers."""
        self._stack.close()

    def pids(self) -> dict[str, int]:
        """Return process ids by name; this process accepts."""
        ours = {name: process.pid for name, process in self._processes.items()}
        return self._rig.pids() | ours | {"accept": os.getpid()}

    def tally(self) -> Tally:
        """Read the servers' counters."""
        return read_tally(self._rig)

    def depth(self) -> int:
        """Count the outbox rows of all services."""
        total = 0
        for service in LOOPS:
            with connect(self._rig.settings, service, "write", "owner") as connection:
                total += connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        return total

    def sustained(self, sagas: int, in_flight: int) -> Run:
        """Keep up to `in_flight` sagas going."""
        return self._drive(sagas, in_flight, {})

    def preloaded(self, sagas: int) -> Run:
        """Accept while every process stands still, then let them run."""
        time.sleep(1.1)  # what waits in `receive` comes back
        accepted: dict[str, float] = {}
        self._signal(signal.SIGSTOP)
        try:
            first = _first_id()
            while len(accepted) < sagas:
                self._accept(min(self.options.batch, sagas - len(accepted)), accepted)
        finally:
            self._signal(signal.SIGCONT)
        return self._drive(sagas, 0, accepted, first)

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            os.kill(process.pid, number)

    def _accept(self, number: int, accepted: dict[str, float]) -> None:
        began = time.perf_counter()
        accepted.update(dict.fromkeys(accept(self._desk, [f"u{new_id()[9:]}" for _ in range(number)]), began))

    def _drive(self, sagas: int, in_flight: int, accepted: dict[str, float], first: str = "") -> Run:
        """Accept what there is room for, and hear the broadcasts, until the database says that all have ended."""
        heard: dict[str, float] = {}
        first, done, began = first or _first_id(), 0, time.perf_counter()
        while done < sagas:
            room = min(in_flight - (len(accepted) - done), sagas - len(accepted))
            if room >= min(ACCEPT_BATCH, sagas - len(accepted)) > 0:
                self._accept(min(room, self.options.batch), accepted)
            if self._hear(heard, 20):
                ended = self._ends.execute(ENDED[self.options.read_side], (first,))
                done = ended.fetchone()[0]
            if time.perf_counter() - began > GIVE_UP_S or not all(one.is_alive() for one in self._processes.values()):
                raise TimeoutError(f"{done} of {sagas} sagas ended within {GIVE_UP_S} s")
        seconds = time.perf_counter() - began
        self._hear(heard, 20)
        self._desk.clear()
        return Run(sagas, seconds, [heard[one] - at for one, at in accepted.items()] if in_flight else [])

    def _hear(self, heard: dict[str, float], wait_ms: int) -> bool:
        news = False
        with suppress(pulsar.Timeout):
            while True:
                message = self._listener.receive(0 if news else wait_ms)
                self._listener.acknowledge(message)
                heard |= dict.fromkeys(message.data().decode().split("\n"), time.perf_counter())
                news = True
        return news

    def one_at_a_time(self, sagas: int) -> list[float]:
        """Run sagas alone."""
        times = []
        for _ in range(sagas):
            run = self._drive(1, 1, {})
            times += [run.seconds]
        return sorted(times)

    def over_http(self, sagas: int) -> None:
        """Do nothing: it has no HTTP."""


def _became_ready(process: Any, ready: Any) -> bool:
    return wait_until(lambda: ready.is_set() or not process.is_alive(), READY_S) and bool(ready.is_set())


def _first_id() -> str:
    """Return the lowest id that can be made from now on."""
    return f"{new_id()[:14]}7000-8000-000000000000"
