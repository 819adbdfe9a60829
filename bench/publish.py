"""Put the last run into the documentation: its tables into docs/performance.md, its plots into docs/img/.

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
PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "img"


def main() -> None:
    """Rewrite what stands between the page's marks, and draw."""
    measured = json.loads(LATEST.read_text())
    text = PAGE.read_text()
    for name, lines in _parts(measured).items():
        text = replaced(text, name, lines)
    PAGE.write_text(text)
    IMAGES.mkdir(exist_ok=True)
    drawing = Path(__file__).parent / "programs" / "plots.py"
    subprocess.run([python("plots"), drawing, LATEST, IMAGES], check=True)


def replaced(text: str, name: str, lines: list[str]) -> str:
    """Return the page with new lines between `<!-- name -->` and `<!-- /name -->`."""
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marks.search(text):
        raise ValueError(f"{PAGE.name} has no place for {name}")
    return marks.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text)


def _parts(measured: Measured) -> dict[str, list[str]]:
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured["machine"].items())
    return {
        "machine": [f"Measured {measured['at']} on: {machine}."],
        "comparison": tables.comparison(measured),
        "targets": tables.targets(measured),
        "processes": ["```", *tables.processes(measured)[:-1], "```"],
    }


if __name__ == "__main__":
    main()
