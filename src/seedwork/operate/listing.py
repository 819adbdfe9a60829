"""Show a list: lines of text, a table that fits the terminal, or JSON; once, or again and again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import click

from pulsaga.text import printable

Row = Mapping[str, Any]
WATCH_S = "2"
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
            yield indent + "  ".join(shown(row[name]) for name in self.columns)

    def _table(self, rows: Sequence[Row], indent: str) -> Iterator[str]:
        from rich.console import Console
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table, console = Table(box=None, pad_edge=False, header_style="bold"), Console(highlight=False)
        for name in self.columns:
            table.add_column(name.replace("_", " "), no_wrap=name.endswith(WHOLE), overflow="fold")
        for row in rows:
            table.add_row(*(Text(shown(row[name])) for name in self.columns))
        with console.capture() as captured:
            console.print(Padding(table, (0, 0, 0, len(indent))) if rows else "", end="")
        yield from captured.get().rstrip("\n").split("\n") if rows else []


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
