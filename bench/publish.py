"""Put the last runs into the documentation: their tables into docs/performance.md, their plots into docs/img/.

`python -m bench.publish`; the plots are drawn by an environment of their own (`bench.peers.install`).
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from bench import tables
from bench.peers.install import python
from bench.tables import Measured

ROOT = Path(__file__).parent.parent
LATEST = ROOT / "bench" / "out" / "latest.json"
EMBEDDED = LATEST.with_name("embedded.json")
PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "img"


def main() -> None:
    """Rewrite what stands between the page's marks, and draw."""
    measured = json.loads(LATEST.read_text())
    text = PAGE.read_text()
    for name, lines in (_parts(measured) | _told()).items():
        text = replaced(text, name, lines)
    PAGE.write_text(text)
    IMAGES.mkdir(exist_ok=True)
    drawing = Path(__file__).parent / "programs" / "plots.py"
    subprocess.run([python("plots"), drawing, LATEST, IMAGES], check=True)


def _told() -> dict[str, list[str]]:
    """Return what the measurements of their own told, by the name of their file (`bench.told`)."""
    told = {path.stem: path.read_text().splitlines() for path in sorted(LATEST.parent.glob("*.md"))}
    if EMBEDDED.exists():
        measured = json.loads(EMBEDDED.read_text())
        tabled = [*tables.comparison(measured), "", *tables.targets(measured)]
        told["embedded"] = [_machine(measured), "", *tabled]
    return told


def replaced(text: str, name: str, lines: list[str]) -> str:
    """Return the page with new lines between `<!-- name -->` and `<!-- /name -->`."""
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marks.search(text):
        raise ValueError(f"{PAGE.name} has no place for {name}")
    return marks.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text)


def _parts(measured: Measured) -> dict[str, list[str]]:
    return {
        "machine": [_machine(measured)],
        "comparison": tables.comparison(measured),
        "targets": tables.targets(measured),
        "processes": ["```", *tables.processes(measured)[:-1], "```"],
    }


def _machine(measured: Measured) -> str:
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured["machine"].items())
    return f"Measured {measured['at']} on: {machine}."


if __name__ == "__main__":
    main()
