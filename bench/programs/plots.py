"""Draw a run: `plots.py latest.json FOLDER` writes peers.svg, latency.svg, cpu.svg and outbox.svg."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {
    "svg.hashsalt": "protools",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
from matplotlib import pyplot  # noqa: E402 - the backend is chosen first

KEYS = ("floor", "protools", "dbos", "restate", "temporal", "temporal-local")
OURS, FLOOR, PEER = "#1f6f54", "#9aa5a1", "#c9803a"


def main(source: Path, folder: Path) -> None:
    """Draw all plots."""
    measured = json.loads(source.read_text())
    present = [measured[key] for key in KEYS if measured.get(key, {}).get("figures")]
    _bars(present, "sagas_per_s", "sagas per second, in process", folder / "peers.svg")
    _bars(present, "p50_ms", "one saga alone, median, ms", folder / "latency.svg")
    _cpu(present, folder / "cpu.svg")
    _outbox(present, folder / "outbox.svg")


def _colour(contestant: dict[str, Any]) -> str:
    if contestant["peer"]:
        return PEER
    return OURS if contestant["name"] == "Protools" else FLOOR


def _bars(contestants: list[dict[str, Any]], name: str, title: str, path: Path) -> None:
    """Draw medians as bars, pale where they are no figure, and each round as a dot."""
    figure, axes = pyplot.subplots(figsize=(7, 0.5 * len(contestants) + 1))
    for place, contestant in enumerate(contestants):
        shown = contestant["figures"][name]
        meant = contestant[name] is not None  # else the rounds lie too far apart for a figure
        axes.barh(place, shown["median"], color=_colour(contestant), height=0.6, alpha=1 if meant else 0.3)
        axes.plot(shown["rounds"], [place] * len(shown["rounds"]), "k.", markersize=4)
        said = f"{shown['median']:,.4g}" if meant else "spread"
        axes.annotate(said, (max(shown["rounds"]), place), (6, -4), textcoords="offset points")
    axes.set_yticks(range(len(contestants)), [contestant["name"] for contestant in contestants])
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.set_xlabel(title)
    _save(figure, path)


def _cpu(contestants: list[dict[str, Any]], path: Path) -> None:
    """Draw CPU seconds stacked by process."""
    figure, axes = pyplot.subplots(figsize=(7, 0.5 * len(contestants) + 1))
    shades = pyplot.get_cmap("tab20").colors
    names = sorted({name for contestant in contestants for name in contestant["cpu_s_per_1000_by_process"]})
    colours = {name: shades[place % len(shades)] for place, name in enumerate(names)}
    for place, contestant in enumerate(contestants):
        left = 0.0
        spent = sorted(contestant["cpu_s_per_1000_by_process"].items(), key=lambda item: -item[1])
        for name, seconds in spent:
            axes.barh(place, seconds, left=left, color=colours[name], height=0.6)
            left += seconds
        largest = ", ".join(f"{name} {seconds:.2g}" for name, seconds in spent[:3])
        axes.annotate(f"{left:.2g}  ({largest})", (left, place), (6, -4), textcoords="offset points", fontsize=8)
    axes.set_yticks(range(len(contestants)), [contestant["name"] for contestant in contestants])
    axes.margins(x=0.9)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.set_xlabel("CPU seconds per 1,000 sagas, by process")
    _save(figure, path)


def _outbox(contestants: list[dict[str, Any]], path: Path) -> None:
    """Draw what waited in the outboxes while 1,000 sagas were in flight, a line a round."""
    figure, axes = pyplot.subplots(figsize=(7, 3))
    for contestant in contestants:
        for number, samples in enumerate(samples for samples in contestant["outbox_depth"] if samples):
            times, depths = zip(*samples, strict=True)
            label = contestant["name"] if number == 0 else None
            axes.plot(times, depths, color=_colour(contestant), label=label, linewidth=1.2)
    axes.set_xlabel("seconds into the loaded run")
    axes.set_ylabel("outbox rows")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
