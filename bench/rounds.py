"""Let the contestants take turns, so that noise hits all alike; whoever is not at work stands still (SIGSTOP)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import processes
from bench.contest import Run, Tally
from bench.host import ContestantFailed, Host
from bench.lineup import Entry

Say = Callable[[str], None]
Figures = dict[str, float]
START_S = 150.0
WARM_S, WARM_MOST_S = 2.0, 40.0
"""Length of one run of the warm-up, and of all of it."""
STEADY = 1.1
"""The warm-up ends when a run is not faster than the one before by more than this."""
ALONE_S, FEWEST_ALONE, MOST_ALONE = 3.0, 20, 300
SETTLE_S, IDLE_S = 1.5, 10.0
"""What nobody asks for is measured for so long because the kernel tells each process's time in hundredths."""
NOT_OURS = ("pulsar", "postgres", "broker", "client", "HTTP client", "accept")
FEWEST, MOST = 100, 60_000
FULL = 3
"""Times that a loaded run passes its bound of sagas in flight at least: else it is all beginning and end."""


@dataclass
class Result:
    """Hold what one contestant showed: `figures` has a dict for each round."""

    entry: Entry
    name: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    figures: list[Figures] = field(default_factory=list)
    cpu_s_per_1000: list[Figures] = field(default_factory=list)
    memory_mib: list[Figures] = field(default_factory=list)
    outbox_depth: list[list[tuple[float, int]]] = field(default_factory=list)
    failure: str | None = None


class Contest:
    """Start the contestants one by one and let them take turns until the rounds or the minutes are over."""

    def __init__(self, entries: Sequence[Entry], folder: Path, seconds: float, ends_at: float, say: Say) -> None:
        self.results = [Result(entry) for entry in entries]
        self._folder, self._seconds, self._ends_at, self._say = folder, seconds, ends_at, say
        self._hosts: dict[str, Host] = {}
        self._pids: dict[str, dict[str, int]] = {}
        self._longest_turn_s = 0.0

    def run(self, rounds: int) -> None:
        """Take turns; what a contestant breaks ends its own part only."""
        for result in self.results:
            with self._blamed(result):
                self._start_at_last(result)
        for number in range(rounds):
            for result in self.results:
                if result.failure is None and self._has_time():
                    with self._blamed(result), self._awake(result):
                        self._turn(result, number)

    def close(self) -> None:
        """End everybody."""
        for key in list(self._hosts):
            self._end(key)

    def _end(self, key: str) -> None:
        host = self._hosts.pop(key)
        processes.resume({"host": host.pid, **self._pids.get(key, {})})
        host.stop()

    def _has_time(self) -> bool:
        return time.monotonic() + self._longest_turn_s < self._ends_at

    @contextmanager
    def _blamed(self, result: Result) -> Iterator[None]:
        try:
            yield
        except ContestantFailed as error:
            result.failure = str(error)
            self._say(f"{result.entry.key}: {error}")
            self._end(result.entry.key)

    def _start_at_last(self, result: Result) -> None:
        """Start, and once more in a fresh folder when that failed: another program may have taken a port."""
        try:
            self._start(result, "")
        except ContestantFailed as error:
            self._say(f"{result.entry.key}, again: {error}")
            self._end(result.entry.key)
            self._start(result, "-again")

    def _start(self, result: Result, suffix: str) -> None:
        key, began = result.entry.key, time.monotonic()
        folder = self._folder / f"{key}{suffix}"
        folder.mkdir()
        folder.chmod(0o711)
        host = self._hosts[key] = Host(result.entry.make, folder)
        host.call("start", patience_s=START_S)
        described = host.call("describe")
        result.name, result.versions, result.settings, self._pids[key] = described
        self._say(f"{key}: ready after {time.monotonic() - began:.0f} s: {_listed(result.versions)}")
        processes.pause(self._pids[key])

    @contextmanager
    def _awake(self, result: Result) -> Iterator[None]:
        began, pids = time.monotonic(), self._pids[result.entry.key]
        processes.resume(pids)
        try:
            yield
        finally:
            processes.pause(pids)
            self._longest_turn_s = max(self._longest_turn_s, time.monotonic() - began)

    def _turn(self, result: Result, number: int) -> None:
        host = self._hosts[result.entry.key]
        rate = _warm_up(host, result.entry.in_flight)
        sagas = int(min(MOST, max(FEWEST, rate * self._seconds)))
        figures = self._loaded(result, host, max(sagas, FULL * result.entry.in_flight))
        figures |= _alone(host) | self._idle(result)
        figures |= _preloaded(host, sagas) | _over_http(host, sagas // 2)
        result.figures.append(figures)
        shown = (f"{name} {figures[name]:,.1f}" for name in SHOWN if name in figures)
        self._say(f"round {number + 1}  {result.entry.key:<15} {'  '.join(shown)}")

    def _loaded(self, result: Result, host: Host, sagas: int) -> Figures:
        pids = self._pids[result.entry.key]
        tally, cpu = host.call("tally"), processes.cpu_seconds(pids)
        run, depths = host.call("sustained", sagas, result.entry.in_flight)
        spent = {name: seconds - cpu[name] for name, seconds in processes.cpu_seconds(pids).items()}
        by_process = {name: seconds * 1000 / sagas for name, seconds in spent.items()}
        result.cpu_s_per_1000.append(by_process)
        result.memory_mib.append(memory := processes.memory_mib(pids))
        result.outbox_depth.append(depths)
        return {
            "sagas_per_s": run.per_second,
            **_quantiles("loaded_", run.latencies),
            **per_saga(tally, host.call("tally"), sagas),
            "cpu_s_per_1000": sum(by_process.values()),
            "memory_mib": sum(memory.values()),
        }

    def _idle(self, result: Result) -> Figures:
        """Measure what its processes take while nobody asks for anything; servers and whoever asks are left out."""
        pids = {name: pid for name, pid in self._pids[result.entry.key].items() if name not in NOT_OURS}
        time.sleep(SETTLE_S)
        before = sum(processes.cpu_seconds(pids).values())
        time.sleep(IDLE_S)
        return {"idle_cpu_percent": (sum(processes.cpu_seconds(pids).values()) - before) * 100 / IDLE_S}


SHOWN = ("sagas_per_s", "preloaded_per_s", "sagas_per_s_http", "p50_ms", "cpu_s_per_1000")


def _warm_up(host: Host, in_flight: int) -> float:
    """Run until it becomes no faster (a JVM takes its time); return sagas per second at the end."""
    ends_at, rate, before = time.monotonic() + WARM_MOST_S, 0.0, 0.0
    sagas = FEWEST
    while rate > STEADY * before or before == 0.0:
        run: Run = host.call("sustained", sagas, in_flight)[0]
        rate, before = run.per_second, rate
        sagas = int(max(FEWEST, rate * WARM_S))
        if time.monotonic() > ends_at:
            break
    return rate


def _alone(host: Host) -> Figures:
    first = max(host.call("one_at_a_time", 5))
    sagas = int(min(MOST_ALONE, max(FEWEST_ALONE, ALONE_S / first)))
    before = host.call("tally")
    times = host.call("one_at_a_time", sagas)
    cost = per_saga(before, host.call("tally"), sagas)
    return {**_quantiles("", times), **{f"alone_{name}": value for name, value in cost.items()}}


def _preloaded(host: Host, sagas: int) -> Figures:
    before = host.call("tally")
    run: Run | None = host.call("preloaded", sagas)
    if run is None:
        return {}
    cost = per_saga(before, host.call("tally"), sagas)
    return {"preloaded_per_s": run.per_second, **{f"preloaded_{name}": value for name, value in cost.items()}}


def _over_http(host: Host, sagas: int) -> Figures:
    run: Run | None = host.call("over_http", sagas)
    if run is None:
        return {}
    accepted = {"accepted_per_s_http": run.accepted_per_s} if run.accepted_per_s else {}
    return {"sagas_per_s_http": run.per_second, **accepted, **_quantiles("http_", run.latencies)}


def _quantiles(prefix: str, seconds: Sequence[float]) -> Figures:
    ordered = sorted(seconds)
    places = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in QUANTILES if ordered}
    return {f"{prefix}{name}_ms": value * 1000 for name, value in places.items()}


QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def per_saga(before: Tally, after: Tally, sagas: int) -> Figures:
    """Return what one of these sagas took of everything that was counted."""
    counted: dict[str, tuple[Any, Any]] = {
        "statements_per_saga": (before.statements, after.statements),
        "commits_per_saga": (before.commits, after.commits),
        "wal_bytes_per_saga": (before.wal_bytes, after.wal_bytes),
        "messages_per_saga": (before.messages, after.messages),
        "bytes_per_saga": (before.message_bytes, after.message_bytes),
    }
    return {name: (last - first) / sagas for name, (first, last) in counted.items() if last is not None}


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
