"""Turn rounds into a file: for each figure its median, its spread and its rounds."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.rounds import Figures, Result

FEWEST_ROUNDS = 3
HERTZ = os.sysconf("SC_CLK_TCK")
WIDEST_SPREAD = 0.5
"""Beyond it (highest less lowest round, as a share of the median) the rounds give no figure."""
REQUIRED = (
    "sagas_per_s",
    "sagas_per_s_http",
    "p50_ms",
    "p99_ms",
    "commits_per_saga",
    "statements_per_saga",
    "cpu_s_per_1000",
)


@dataclass(frozen=True)
class Figure:
    """Hold one figure of one contestant: a value a round."""

    rounds: Sequence[float]

    @property
    def median(self) -> float:
        """Middle of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Highest less lowest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.median if self.median else 0.0

    @property
    def value(self) -> float | None:
        """Median, or None when the rounds are too few or too far apart to mean anything."""
        return self.median if len(self.rounds) >= FEWEST_ROUNDS and self.spread <= WIDEST_SPREAD else None

    def __str__(self) -> str:
        """Show the median with its spread; without a value, say why there is none."""
        if self.value is not None:
            return f"{_short(self.median)} ±{self.spread / 2:.0%}"
        why = "too few rounds" if len(self.rounds) < FEWEST_ROUNDS else "spread"
        return f"{why}: {_short(min(self.rounds))}–{_short(max(self.rounds))}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def content(results: Sequence[Result], machine: dict[str, Any]) -> dict[str, Any]:
    """Return all that was measured, as the file says it."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "rule": f"median of at least {FEWEST_ROUNDS} rounds; null when they spread over more than {WIDEST_SPREAD:.0%}",
        **{result.entry.key: _entry(result) for result in results},
    }


def write(path: Path, measured: dict[str, Any]) -> None:
    """Write it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")


def describe_machine() -> dict[str, Any]:
    """Describe the machine as far as it tells, and how busy it was before anything began."""
    cpu = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "cores": os.cpu_count(),
        "cpu": cpu[0] if cpu else platform.machine(),
        "memory_gib": round(memory[0] / 2**20) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def processor_time() -> tuple[float, float]:
    """Return seconds of all processors since the machine started: in all, and those that its host took (proc(5))."""
    lines = _lines("/proc/stat")
    ticks = [int(value) for value in lines[0].split()[1:9]] if lines else [0] * 8
    return sum(ticks) / HERTZ, ticks[7] / HERTZ


def stolen_percent(before: tuple[float, float]) -> float:
    """Return how much of the processors' time the machine's host has taken for others since `before`."""
    everything, stolen = (after - first for after, first in zip(processor_time(), before, strict=True))
    return round(100 * stolen / everything, 1) if everything else 0.0


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _entry(result: Result) -> dict[str, Any]:
    figures = _by_name(result.figures)
    return {
        "name": result.name,
        "peer": result.entry.peer,
        **{name: figures[name].value if name in figures else None for name in REQUIRED},
        "versions": result.versions,
        "settings": {**result.settings, "in flight": str(result.entry.in_flight)},
        "failure": result.failure,
        "figures": {name: _shown(figure) for name, figure in figures.items()},
        "cpu_s_per_1000_by_process": _medians(result.cpu_s_per_1000),
        "memory_mib_by_process": _medians(result.memory_mib),
        "outbox_depth": result.outbox_depth,
    }


def _by_name(rounds: Sequence[Figures]) -> dict[str, Figure]:
    names = {name: None for figures in rounds for name in figures}
    return {name: Figure([figures[name] for figures in rounds if name in figures]) for name in names}


def _shown(figure: Figure) -> dict[str, Any]:
    rounds = [round(value, 4) for value in figure.rounds]
    return {"median": round(figure.median, 4), "spread": round(figure.spread, 3), "rounds": rounds}


def _medians(rounds: Sequence[Figures]) -> dict[str, float]:
    return {name: round(figure.median, 3) for name, figure in _by_name(rounds).items()}
