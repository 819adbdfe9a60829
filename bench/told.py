"""Tell what a measurement showed: on the terminal, and in a file that `make bench-docs` puts into the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from bench.report import Figure, describe_machine
from bench.tables import markdown

OUT = Path(__file__).parent / "out"


class Told:
    """Hold the machine as it was before the measurement, and tell what came of it."""

    def __init__(self, name: str) -> None:
        self._path = OUT / f"{name}.md"
        self._machine = describe_machine()

    def tell(self, rows: Sequence[Sequence[object]], *remarks: str) -> None:
        """Print a table, its head first, and the remarks below it; keep both."""
        lines = [*self._before(), *markdown([[str(cell) for cell in row] for row in rows]), "", *remarks]
        click.echo("\n".join(lines))
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text("\n".join(lines).rstrip() + "\n")

    def _before(self) -> Iterator[str]:
        machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self._machine.items())
        yield f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on: {machine}."
        yield ""


def verdict(title: str, target: str, figure: Figure, *, good: bool) -> str:
    """Return one sentence: what was asked, what was measured, and whether that is enough."""
    said = ("met" if good else "missed") if figure.value is not None else "no figure"
    return f"{title}: {figure} (target {target}): {said}."
