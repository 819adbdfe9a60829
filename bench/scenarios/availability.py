"""Take each service, the broker and the databases away for a minute under a steady load, and count what became of it.

Every row begins ten seconds before the absence. A service is taken away by SIGKILL to all its processes, and started
again; nobody supervises, so it stays away. Rows are kept in `bench/out/availability.json`: run them in parts with
`--only`. Exit code 1 when a command was lost or `protools verify` finds anything.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import click

from bench import chart
from bench.processes import end_like_ctrl_c
from bench.report import describe_machine
from bench.rig import Rig
from bench.scenarios.callers import Callers
from bench.scenarios.whole import defects, whole
from bench.tables import markdown
from pulsaga_program.bootstrap import bootstrap
from pulsaga_program.local import LocalPulsar
from pulsaga_program.up import processes_of
from system import SYSTEM

OUT = Path(__file__).parents[1] / "out" / "availability.json"
IMAGES = Path(__file__).parents[2] / "docs" / "img"
CALM_S, DRAIN_S = 10.0, 240.0
LOADED_S = 30.0
"""Seconds for which the load goes on after the return, unless all that it is about has ended."""
STOPPED_BEFORE = ("correo", "conductores")
"""Without these sagas pile up that are in flight when the broker's data goes."""


@dataclass
class Row:
    """What one absence came to."""

    target: str
    how: str
    away_s: float
    per_second: float
    accepted: int = 0
    accepted_while_away: int = 0
    refused_while_away: int = 0
    unanswered_while_away: int = 0
    refused_else: int = 0
    """Before it went, and while and after it was started again."""
    unanswered_else: int = 0
    accept_p95_ms: float = 0.0
    accept_p95_away_ms: float | None = None
    open_at_return: int = 0
    start_s: float = 0.0
    """How long it took until what was started again was ready."""
    died: list[str] = field(default_factory=list)
    """Further processes that ended meanwhile; they are started again with it, as the supervisor would at once."""
    recovered_s: float | None = None
    """From the same moment until all that had been accepted before was shown as ended."""
    ends: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    defects: list[str] = field(default_factory=list)
    open_by_second: list[int] = field(default_factory=list)


Absence = Callable[[Rig], Iterator[None]]


def without(*services: str) -> Absence:
    """Return what ends all processes of services, and starts them again."""

    def absence(system: Rig) -> Iterator[None]:
        kinds = [(service, kind) for service, kind in processes_of(SYSTEM, ()) if service in services]
        for service, kind in kinds:
            system.processes[f"{service}.{kind}"].kill()
            system.processes.pop(f"{service}.{kind}").wait()
        yield
        for service, kind in kinds:
            system.start(service, kind)

    return absence


def broker_stopped(system: Rig) -> Iterator[None]:
    """Stop the broker as an operator would."""
    _pulsar(system).stop()
    yield
    _pulsar(system).start()


def broker_killed(system: Rig) -> Iterator[None]:
    """End the broker as a crash would."""
    _pulsar(system).kill()
    yield
    _pulsar(system).start()


def databases_stopped(system: Rig) -> Iterator[None]:
    """Stop the server that holds all databases."""
    system.postgres.stop()
    yield
    system.postgres.start()


def broker_wiped(system: Rig) -> Iterator[None]:
    """Lose all that the broker holds, and make topics and subscriptions anew."""
    pulsar = _pulsar(system)
    pulsar.kill()
    shutil.rmtree(pulsar.folder / "data")
    yield
    pulsar.start()
    bootstrap(SYSTEM, system.settings)


def _pulsar(system: Rig) -> LocalPulsar:
    server = system.servers["pulsar"]
    assert isinstance(server, LocalPulsar)
    return server


TARGETS: Mapping[str, tuple[str, Absence]] = {
    **{name: ("all its processes killed", without(name)) for name in SYSTEM.names},
    "broker, stopped": ("SIGTERM", broker_stopped),
    "broker, killed": ("SIGKILL", broker_killed),
    "databases": ("PostgreSQL stopped, all 14 databases", databases_stopped),
    "broker's data": ("killed, data removed, bootstrapped anew", broker_wiped),
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(TARGETS)), help="Of all, only these.")
@click.option("--seconds", default=60.0, show_default=True, help="Of absence.")
@click.option("--rate", default=4.0, show_default=True, help="Commands asked for each second.")
@click.option("--draw/--no-draw", default=False, help="Draw docs/img/availability-*.svg from all rows there are.")
def main(only: tuple[str, ...], seconds: float, rate: float, draw: bool) -> None:
    """Print a row for each absence."""
    end_like_ctrl_c()
    rows = [Row(**known) for known in json.loads(OUT.read_text())["rows"]] if OUT.exists() else []
    machine = describe_machine()
    with whole() as system:
        for number, target in enumerate(only or TARGETS):
            row = measured(system, target, seconds, rate, f"a{number}-{int(time.time())}")
            rows = [one for one in rows if one.target != target] + [row]
            _keep(rows, machine)
            click.echo("\n".join(table([row])))
    if draw:
        _draw(rows)
    sys.exit(1 if any(row.lost or row.defects for row in rows) else 0)


def measured(system: Rig, target: str, seconds: float, rate: float, name: str) -> Row:
    """Take one target away, and wait until nothing is open any more."""
    how, absence = TARGETS[target]
    row = Row(target, how, seconds, rate)
    callers = Callers(system, name)
    callers.prepare(drivers=int(rate * (seconds + CALM_S * 2 + LOADED_S + 30)))
    with callers.looking():
        with callers.asking(rate):
            time.sleep(CALM_S)
            began, started = _absent(system, absence, seconds, row, callers)
            accepted = [one.id for one in list(callers.asked) if one.id and one.at < started]
            callers.wait_for(accepted, LOADED_S)
        has_ended = callers.wait_for(accepted, DRAIN_S)
        row.recovered_s = callers.ended_at(accepted) - started if has_ended else None
        callers.wait_for(callers.accepted(), DRAIN_S)
    _count(row, callers, began, started)
    row.defects = _settled_defects(system)
    return row


def _absent(system: Rig, absence: Absence, seconds: float, row: Row, callers: Callers) -> tuple[float, float]:
    """Have something be away for a while; return when it went, and when it was started again."""
    before = without(*STOPPED_BEFORE) if row.target == "broker's data" else _nothing
    with _within(before, system):
        time.sleep(CALM_S if before is not _nothing else 0)
        began = time.time()
        row.open_at_return = len(callers.open()) if before is not _nothing else 0
        with _within(absence, system):
            time.sleep(seconds)
            if before is _nothing:
                row.open_at_return = len(callers.open())
            started = time.time()
    row.died = [name for name, process in system.processes.items() if process.poll() is not None]
    for name in row.died:
        system.start(*name.split(".")[:2])
    row.start_s = time.time() - started
    return began, started


def _nothing(_: Rig) -> Iterator[None]:
    yield


@contextmanager
def _within(absence: Absence, system: Rig) -> Iterator[None]:
    steps = absence(system)
    next(steps)
    yield
    next(steps, None)


def _count(row: Row, callers: Callers, began: float, started: float) -> None:
    away, whole_row = callers.answers(began, started), callers.answers(0, time.time())
    row.accepted, row.accepted_while_away = whole_row["accepted"], away["accepted"]
    row.refused_while_away, row.unanswered_while_away = away["refused"], away["no answer"]
    row.refused_else = whole_row["refused"] - away["refused"]
    row.unanswered_else = whole_row["no answer"] - away["no answer"]
    taken = [one for one in callers.asked if one.answer == "accepted"]
    row.accept_p95_ms = _p95_ms([one.seconds for one in taken if not began <= one.at < started]) or 0.0
    row.accept_p95_away_ms = _p95_ms([one.seconds for one in taken if began <= one.at < started])
    row.lost = len(callers.open())
    row.ends = dict(Counter(callers.statuses[one] for one in callers.accepted() if one in callers.statuses))
    row.open_by_second = callers.open_by_second


def _p95_ms(seconds: list[float]) -> float | None:
    return round(quantiles(seconds, n=20)[-1] * 1000, 1) if len(seconds) >= 20 else None


def _settled_defects(system: Rig) -> list[str]:
    """Return what is still wrong when what was left to be said has been said."""
    deadline = time.monotonic() + 60
    while found := defects(system):
        if time.monotonic() > deadline:
            return found
        time.sleep(1)
    return []


HEAD = ["away for 60 s", "accepted", "while away", "refused (503)", "no answer", "before and after",
        "open at return", "ready after, s", "all ended after, s", "ended", "lost", "verify"]  # fmt: skip


def table(rows: list[Row]) -> list[str]:
    """Return the rows as Markdown."""
    return markdown([HEAD, *(cells(row) for row in rows)])


def cells(row: Row) -> list[str]:
    """Return the row's cells under HEAD."""
    recovered = "never" if row.recovered_s is None else f"{row.recovered_s:.1f}"
    ended = ", ".join(f"{count} {status}" for status, count in sorted(row.ends.items()))
    counts = (row.accepted, row.accepted_while_away, row.refused_while_away, row.unanswered_while_away)
    outside = f"{row.refused_else} refused, {row.unanswered_else} no answer"
    found = "; ".join(row.defects) or "nothing"
    after = [f"{row.start_s:.1f}", recovered, ended, str(row.lost), found]
    return [row.target, *map(str, counts), outside, str(row.open_at_return), *after]


def _keep(rows: list[Row], machine: dict[str, Any]) -> None:
    rows.sort(key=lambda row: list(TARGETS).index(row.target))
    OUT.parent.mkdir(exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    OUT.write_text(json.dumps({"at": at, "machine": machine, "rows": [asdict(row) for row in rows]}) + "\n")
    OUT.with_suffix(".md").write_text("\n".join(table(rows)) + "\n")


def _draw(rows: list[Row]) -> None:
    parts = {"services": [], "servers": []}  # type: dict[str, list[Row]]
    for row in rows:
        parts["services" if row.target in SYSTEM.names else "servers"].append(row)
    for name, drawn in parts.items():
        series = {row.target: row.open_by_second for row in drawn}
        title = f"Commands accepted and not ended; {name} away for a minute"
        (IMAGES / f"availability-{name}.svg").write_text(chart.lines(title, series, "commands"))


if __name__ == "__main__":
    main()
