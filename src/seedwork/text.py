"""Make text that others chose safe to keep and to show: in a row, a log line, a terminal, a mail or a page."""

from __future__ import annotations

import traceback

DETAIL_CHARACTERS = 500
"""Characters kept of what another party said, such as the status line of a server."""
LONGEST_ERROR = 2000
"""Characters kept of an error."""


def printable(text: str, limit: int | None = None) -> str:
    """Return `text` on one line of printable characters, at most `limit` of them.

    Every other character (NUL, newline, ESC, a lone surrogate, a mark that turns the direction of writing) becomes its
    escape as Python writes it, so that nothing is lost and nothing acts on a terminal, a log or a database.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit])
    return text[:limit]


def describe(error: Exception) -> str:
    """Name an error in one printable line with the place it came from.

    A database's error keeps its first line: those behind it tell the statement and, in PostgreSQL's DETAIL, what a row
    holds.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return printable(f"{type(error).__name__}: {_said(error)}{place}", LONGEST_ERROR)


def _said(error: Exception) -> str:
    is_of_database = getattr(error, "orig", None) is not None or hasattr(error, "sqlstate")
    return str(error).partition("\n")[0] if is_of_database else str(error)
