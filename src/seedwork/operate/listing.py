"""Show a list: lines of text, a table that fits the terminal, or JSON; once, or again and again."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import click

from pulsaga.text import printable

Row = Mapping[str, Any]
WATCH_S = "2"
GAP = "  "
NARROWEST = 12
"""Characters of a column that is folded, at least."""
WHOLE = ("id", "at", "group", "status")
"""Columns, also as ends of their names, that a narrow terminal does not fold: they are to be copied, or compared."""


@dataclass(frozen=True)
class Section:
    """Rows with what they have in common; `more` is how many are not shown."""

    title: str
    rows: Sequence[Row]
    more: int = 0


@dataclass(frozen=True)
class Listing:
    """Rows by the names of their columns, and a line that counts them: what a command of a service shows.

    `document` is what JSON has instead of the rows.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    counted: str
    sections: Sequence[Section] = ()
    document: Any = None

    def json(self, indent: int | None) -> str:
        """Write it in ASCII: other writers would leave C1 controls and marks of direction as they are."""
        return json.dumps([dict(row) for row in self.rows] if self.document is None else self.document, indent=indent)

    def text(self) -> str:
        """Write it as a table on a terminal, else a row a line."""
        write = self._table if sys.stdout.isatty() else self._lines
        return "\n".join([*self._written(write), self.counted])

    def _written(self, write: Callable[[Sequence[Row], str], Iterator[str]]) -> Iterator[str]:
        for section in self.sections or [Section("", self.rows)]:
            indent = "  " if section.title else ""
            yield from [printable(section.title)] if section.title else []
            yield from write(section.rows, indent)
            yield from [f"{indent}… and {section.more} more"] if section.more else []

    def _lines(self, rows: Sequence[Row], indent: str) -> Iterator[str]:
        for row in rows:
            yield indent + GAP.join(shown(row[name]) for name in self.columns)

    def _table(self, rows: Sequence[Row], indent: str) -> Iterator[str]:
        """Write rows under their names; where the terminal is too narrow for that, fold each as a line of text."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        if not rows:
            return
        table, console = Table(box=None, pad_edge=False, header_style="bold"), Console(highlight=False)
        cells = [[_brief(shown(row[name])) for name in self.columns] for row in rows]
        titles = [name.replace("_", " ") for name in self.columns]
        least = [self._least(name, column) for name, *column in zip(self.columns, titles, *cells, strict=True)]
        space = console.width - len(indent)
        if sum(least) + len(GAP) * (len(least) - 1) > space:
            yield from _folded(map(GAP.join, cells), indent, space)
            return
        for name, title, width in zip(self.columns, titles, least, strict=True):
            table.add_column(title, no_wrap=name.endswith(WHOLE), min_width=width, overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        with console.capture() as captured:
            console.print(table, width=space)
        yield from (indent + line.rstrip() for line in captured.get().rstrip("\n").split("\n"))

    @staticmethod
    def _least(name: str, column: Sequence[str]) -> int:
        """Return how narrow a column may be, in the cells of a terminal."""
        from rich.cells import cell_len

        longest = max(map(cell_len, column))
        return longest if name.endswith(WHOLE) else min(longest, NARROWEST)


def _folded(lines: Iterable[str], indent: str, width: int) -> Iterator[str]:
    for line in lines:
        parts = textwrap.wrap(line, width - 2 * len(GAP), break_on_hyphens=False)
        yield from (indent + (GAP * 2 if number else "") + part for number, part in enumerate(parts))


def _brief(text: str) -> str:
    """Leave the milliseconds out of a time."""
    return re.sub(r"^(\d{4}-\d\d-\d\dT[\d:]{8})\.\d+Z$", r"\1Z", text)


def shown(value: Any) -> str:
    """Return a value on one line of printable characters, `-` where there is none."""
    return "-" if value in (None, "") else printable(str(value))


def lists(command: Callable[..., Listing]) -> Callable[..., None]:
    """Make a command that returns a Listing show it, with `--json` and `--watch`."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one document a line.")
    @click.option(
        "--watch",
        "watch_s",
        is_flag=False,
        flag_value=WATCH_S,
        type=click.FloatRange(min=0.1),
        metavar="[SECONDS]",
        help=f"Look again every SECONDS ({WATCH_S}), until Ctrl-C, and print what has changed.",
    )
    @wraps(command)
    def run(*arguments: Any, as_json: bool, watch_s: float | None, **options: Any) -> None:
        look = partial(command, *arguments, **options)
        if watch_s is None:
            click.echo(look().json(2) if as_json else look().text())
        else:
            watch(look, as_json=as_json, pause=partial(time.sleep, watch_s))

    return run


def watch(look: Callable[[], Listing], *, as_json: bool, pause: Callable[[], object]) -> None:
    """Show a list whenever it is another one than before, until Ctrl-C."""
    before = None
    with suppress(KeyboardInterrupt):
        while True:
            listing = look()
            now = listing.json(None) if as_json else listing.text()
            if now != before:
                click.clear()  # does nothing but on a terminal
                click.echo(now)
            before = now
            pause()
