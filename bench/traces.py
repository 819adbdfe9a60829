"""Measure what spans and lines of the log cost, each by two systems that differ in nothing else and take turns.

Targets: hooks that find tracing off cost at most 1 % over hooks that are not there, a tenth of all sagas traced at most
5 %, and lines at `info` at most 2 % over `warning`. Twelve minutes on two cores.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from bench.contest import Contestant
from bench.duel import COSTS, duel, ratios
from bench.processes import end_like_ctrl_c
from bench.report import Figure
from bench.rig import Rig, rig
from bench.system import NOBODY_IS_REFUSED, Protools
from bench.told import Told, verdict
from pulsaga.telemetry import traces

SHARE = "0.1"
JUDGED = ("ours", "all", "wall")
Make = Callable[[Path], Contestant]


class Changed(Protools):
    """Run by another program, or in another environment."""

    def __init__(self, folder: Path, program: str = Rig.program, **changes: str) -> None:
        super().__init__(folder)
        self._program, self._changes = program, changes

    def _system(self) -> AbstractContextManager[Rig]:
        changes: dict[str, Any] = {"ACCEPT_WITHIN": NOBODY_IS_REFUSED, **self._changes}
        return rig(self._folder, program=self._program, **changes)


class Traced(Changed):
    """Export the spans of a share of all sagas to a collector that only takes them, this process's as well."""

    def start(self) -> None:
        from pulsaga.telemetry.otlp import OtlpRecorder

        self._changes = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": _collector(),
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": SHARE,
        }
        os.environ.update(self._changes)
        traces.start(OtlpRecorder("bench", "pulsar"))
        super().start()


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _collector() -> str:
    """Take spans in a thread of this process, whose time is not counted; return the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1/traces"


def _untraced(folder: Path) -> Contestant:
    return Changed(folder, "bench.untraced")


def _quiet(folder: Path) -> Contestant:
    return Changed(folder, LOG_LEVEL="warning")


PAIRS: Mapping[str, tuple[Make, Make, float]] = {
    "tracing off ÷ no hooks": (_untraced, Changed, 1.01),
    "a tenth traced ÷ tracing off": (Changed, Traced, 1.05),
    "lines at info ÷ at warning": (_quiet, Changed, 1.02),
}
"""What is compared with what, and at most which ratio is wanted."""


@click.command()
@click.option("--sagas", default=2000, show_default=True, help="Sagas of one turn.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--only", type=click.Choice(list(PAIRS)), multiple=True, help="Compare these alone.")
def main(sagas: int, rounds: int, only: tuple[str, ...]) -> None:
    """Print what a saga costs with each, as a multiple of its cost without."""
    end_like_ctrl_c()
    told = Told("traces")
    measured = {name: _measured(*PAIRS[name][:2], sagas, rounds) for name in only or PAIRS}
    rows: list[list[object]] = [["compared", *COSTS.values()]]
    rows += [[name, *figures.values()] for name, figures in measured.items()]
    told.tell(rows, "", *_judged(measured))


def _measured(left: Make, right: Make, sagas: int, rounds: int) -> dict[str, Figure]:
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        with duel(left, right, Path(folder)) as (without, beside):
            return ratios(without, beside, sagas, rounds)


def _judged(measured: Mapping[str, Mapping[str, Figure]]) -> Iterator[str]:
    for name, figures in measured.items():
        wanted = PAIRS[name][2]
        for cost in JUDGED:
            title, figure = f"{name}, {COSTS[cost]}", figures[cost]
            yield verdict(title, f"≤ {wanted:g}", figure, good=figure.median <= wanted)


if __name__ == "__main__":
    main()
