"""Turn rounds into figures: the median with its spread, ratios within a round, a table and a file."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.rounds import Figures, Result

FEWEST_ROUNDS = 3
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

    rounds: list[float]

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
        if self.value is None:
            return f"({min(self.rounds):,.4g}-{max(self.rounds):,.4g})"
        return f"{self.median:,.0f}" if self.median >= 100 else f"{self.median:.3g}"


def figures_of(rounds: Sequence[Figures]) -> dict[str, Figure]:
    """Gather rounds by figure."""
    names = {name: None for figures in rounds for name in figures}
    return {name: Figure([figures[name] for figures in rounds if name in figures]) for name in names}


def ratio(above: Result, below: Result, name: str) -> Figure | None:
    """Return how many times `below` one contestant was `above`, round by round."""
    rounds = [
        a[name] / b[name] for a, b in zip(above.figures, below.figures, strict=False) if b.get(name) and name in a
    ]
    return Figure(rounds) if rounds else None


def best_peer(results: Sequence[Result]) -> Result | None:
    """Return the peer that finished most sagas per second."""
    peers = [result for result in results if result.entry.peer and result.figures]
    return max(peers, key=lambda peer: figures_of(peer.figures)["sagas_per_s"].median, default=None)


def machine() -> dict[str, Any]:
    """Describe the machine as far as it tells."""
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


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


# --- the file


def write(path: Path, results: Sequence[Result], described: dict[str, Any]) -> None:
    """Write everything that was measured as JSON."""
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": described,
        "rule": f"median of at least {FEWEST_ROUNDS} rounds; null when they spread over more than {WIDEST_SPREAD:.0%}",
        **{result.entry.key: _entry(result) for result in results},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _entry(result: Result) -> dict[str, Any]:
    figures = figures_of(result.figures)
    return {
        "name": result.name,
        **{name: figures[name].value if name in figures else None for name in REQUIRED},
        "versions": result.versions,
        "settings": {**result.settings, "in flight": str(result.entry.in_flight)},
        "failure": result.failure,
        "figures": {name: _shown(figure) for name, figure in figures.items()},
        "cpu_s_per_1000_by_process": _medians(result.cpu_s_per_1000),
        "memory_mib_by_process": _medians(result.memory_mib),
        "outbox_depth": result.outbox_depth,
    }


def _shown(figure: Figure) -> dict[str, Any]:
    rounds = [round(value, 4) for value in figure.rounds]
    return {"median": round(figure.median, 4), "spread": round(figure.spread, 3), "rounds": rounds}


def _medians(rounds: Sequence[Figures]) -> dict[str, float]:
    return {name: round(figure.median, 3) for name, figure in figures_of(rounds).items()}


# --- the table

ROWS = (
    ("sagas_per_s", "sagas/s, accepted in process"),
    ("preloaded_per_s", "sagas/s, preloaded"),
    ("sagas_per_s_http", "sagas/s, accepted over HTTP"),
    ("accepted_per_s_http", "accepted/s over HTTP"),
    ("p50_ms", "alone p50, ms"),
    ("p95_ms", "alone p95, ms"),
    ("p99_ms", "alone p99, ms"),
    ("loaded_p50_ms", "loaded p50, ms"),
    ("loaded_p95_ms", "loaded p95, ms"),
    ("loaded_p99_ms", "loaded p99, ms"),
    ("statements_per_saga", "statements per saga"),
    ("commits_per_saga", "commits per saga"),
    ("alone_commits_per_saga", "commits per saga, alone"),
    ("messages_per_saga", "messages per saga"),
    ("bytes_per_saga", "message bytes per saga"),
    ("cpu_s_per_1000", "CPU s per 1,000"),
)


def tell(results: Sequence[Result], described: dict[str, Any], say: Callable[[str], None]) -> None:
    """Print the table, the targets and what each process took."""
    shown = [result for result in results if result.figures]
    say(f"\nmachine: {', '.join(f'{name} {value}' for name, value in described.items())}")
    for line in table(shown):
        say(line)
    for line in targets(shown):
        say(line)
    for result in shown:
        say(_by_process(result))


def table(results: Sequence[Result]) -> list[str]:
    """Return the figures as a Markdown table, a column a contestant."""
    columns = [figures_of(result.figures) for result in results]
    rows = [["", *(result.name for result in results)]]
    for name, title in ROWS:
        if any(name in column for column in columns):
            rows.append([title, *(str(column.get(name, "-")) for column in columns)])
    rows.append(["memory, MiB", *(f"{sum(_medians(result.memory_mib).values()):,.0f}" for result in results)])
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows out as a Markdown table whose columns line up."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def targets(results: Sequence[Result]) -> list[str]:
    """Return the targets that one run of this can judge, as a Markdown table."""
    by_key = {result.entry.key: result for result in results}
    ours, floor, peer = by_key.get("protools"), by_key.get("floor"), best_peer(results)
    if ours is None:
        return []
    rows = [["figure", "target", "measured", ""]]
    if peer:
        rows.append(_judged(f"sagas/s ÷ best peer ({peer.name})", ratio(ours, peer, "sagas_per_s"), at_least=10))
        http = [{"sagas_per_s": round_["sagas_per_s_http"]} for round_ in ours.figures if "sagas_per_s_http" in round_]
        over_http = ratio(Result(ours.entry, figures=http), peer, "sagas_per_s")
        rows.append(_judged("sagas/s over HTTP ÷ best peer", over_http, at_least=4))
        quickest = min(_peers(results), key=lambda one: figures_of(one.figures)["p50_ms"].median)
        quick = ratio(ours, quickest, "p50_ms")
        rows.append(_judged(f"alone p50 ÷ quickest peer ({quickest.name})", quick, at_most=2))
    if floor:
        rows.append(_judged("sagas/s ÷ floor", ratio(ours, floor, "sagas_per_s"), at_least=0.5))
        rows.append(_judged("alone p50 ÷ floor", ratio(ours, floor, "p50_ms"), at_most=1.5))
    figures = figures_of(ours.figures)
    rows.append(_judged("accepted/s over HTTP", figures.get("accepted_per_s_http"), at_least=1500))
    rows.append(_judged("commits per saga", figures.get("commits_per_saga"), at_most=0.2))
    rows.append(_judged("statements per saga", figures.get("statements_per_saga"), at_most=1))
    workers = {name: size for name, size in _medians(ours.memory_mib).items() if name.endswith(".worker")}
    rows.append(_judged("largest worker, MiB", Figure([max(workers.values())] * FEWEST_ROUNDS), at_most=120))
    return markdown(rows)


def _peers(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.entry.peer and result.figures]


def _judged(title: str, figure: Figure | None, at_least: float = 0, at_most: float = float("inf")) -> list[str]:
    target = f"≥ {at_least:g}" if at_least else f"≤ {at_most:g}"
    if figure is None or figure.value is None:
        return [title, target, "-" if figure is None else str(figure), "no figure"]
    return [title, target, str(figure), "met" if at_least <= figure.value <= at_most else "missed"]


def _by_process(result: Result) -> str:
    memory = _medians(result.memory_mib)
    spent = sorted(_medians(result.cpu_s_per_1000).items(), key=lambda item: -item[1])
    parts = [f"  {name:<22} {seconds:8.3f} CPU s per 1,000  {memory[name]:6.0f} MiB" for name, seconds in spent]
    depths = [depth for samples in result.outbox_depth for _, depth in samples]
    outbox = [f"  outbox at most {max(depths):,} rows"] if depths else []
    settings = "; ".join(f"{name}: {value}" for name, value in result.settings.items())
    return "\n".join([f"\n{result.name} ({result.entry.in_flight} in flight; {settings})", *parts, *outbox])
