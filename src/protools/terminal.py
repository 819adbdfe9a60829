"""Print what strangers may have chosen, so that nothing of it acts on a terminal."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from typing import Any

import click

from pulsaga.text import printable

SOME_ID = "01976f3c-8a4e-7c3b-9f52-3d1c0b8a7e61"
"""An id as it looks, for examples."""


class Time(click.ParamType[float]):
    """RFC 3339, or a duration before now; Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text, or fail with what is wrong about it."""
        from pulsaga.operate.verify.scope import time_of  # and all that checks with it

        try:
            return time_of(value)
        except ValueError as error:
            self.fail(f"{error}; say 2026-01-31T12:00:00Z, or 90s, 15m, 2h, 1d for so long ago", param, ctx)


def this_program() -> str:
    """Return how a shell calls this program, for commands that are shown to be typed."""
    return "protools" if shutil.which("protools") else f"{shlex.quote(sys.executable)} -m pulsaga_program"


def example(arguments: str) -> str:
    """Return what the help of a command ends with."""
    return f"\b\nExample: protools {arguments}"


def tell(line: str, *, err: bool = False) -> None:
    """Print one line of a table or a report: whatever is in it, it stays one line of printable characters."""
    click.echo(printable(line), err=err)


def tell_json(value: Any) -> None:
    """Print JSON in ASCII: orjson would leave C1 controls and marks of direction as they are."""
    click.echo(json.dumps(value, indent=2))
