"""Keep what the processes of `protools up` print in files that stay small, and read it back."""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import merge
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal, get_args

MOST_BYTES, OLDER_FILES = 10_000_000, 2
"""Of a process: a file is begun anew when it is that long, and so many older ones are kept."""
Level = Literal["debug", "info", "warning", "error", "critical"]
LEVELS: tuple[Level, ...] = get_args(Level)
CONSOLE = re.compile(r"(\d{4}-\d\d-\d\d[T ][\d:.]+Z?) \[(\w+)\s*\]")
"""How a line of a log begins for people: its time and its level."""
MOST_LINES = 1000
"""Of a record: what goes on beyond them is a further record of the same time."""


class _File(RotatingFileHandler):
    """One log file. A disk that is full loses lines, and stops nobody."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Go on: the line was shown on the terminal."""


class LogFolder:
    """The files that one supervisor writes, `<process>.log` each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}

    def write(self, process: str, line: str) -> None:
        """Append a line of a process."""
        if process not in self._files:
            with suppress(
                OSError
            ):  # the file is opened by the first line, and what goes wrong then is one more line lost
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{process}.log"
            self._files[process] = _File(
                path, maxBytes=MOST_BYTES, backupCount=OLDER_FILES, encoding="utf-8", delay=True
            )
        self._files[process].emit(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


@dataclass(frozen=True, order=True)
class Record:
    """What was logged at once: a line with a time, and the lines of a traceback behind it."""

    at: str
    process: str
    level: str = field(compare=False)
    lines: tuple[str, ...] = field(compare=False)


@dataclass(frozen=True)
class Filter:
    """Which records are wanted."""

    process: str = ""
    """A service, or `service.kind`; every one where it is empty."""
    level: Level = "debug"
    saga_id: str = ""

    def takes(self, name: str) -> bool:
        """Tell whether a process is one of those that are asked for."""
        return not self.process or name == self.process or name.startswith(f"{self.process}.")

    def holds(self, record: Record) -> bool:
        """Tell whether a record is wanted."""
        severe = record.level not in LEVELS or LEVELS.index(_level(record.level)) >= LEVELS.index(self.level)
        return severe and any(self.saga_id in line for line in record.lines)


def _level(text: str) -> Level:
    return next(level for level in LEVELS if level == text)


def files_in(folder: Path, wanted: Filter) -> list[Path]:
    """Return the files that are written to now."""
    return [path for path in sorted(folder.glob("*.log")) if wanted.takes(path.name.removesuffix(".log"))]


def last(folder: Path, wanted: Filter, number: int) -> list[Record]:
    """Return the newest records of all processes, oldest first."""
    each = (deque(_wanted(_older_first(path), path, wanted), maxlen=number) for path in files_in(folder, wanted))
    return list(merge(*each))[-number:]


def _older_first(path: Path) -> Iterator[str]:
    older = (path.with_name(f"{path.name}.{number}") for number in range(OLDER_FILES, 0, -1))
    for file in [*older, path]:
        with suppress(FileNotFoundError), file.open(encoding="utf-8", errors="replace") as lines:
            yield from (line.rstrip("\n") for line in lines)


def _wanted(lines: Iterable[str], path: Path, wanted: Filter) -> Iterator[Record]:
    return (record for record in records(lines, path.name.removesuffix(".log")) if wanted.holds(record))


def records(lines: Iterable[str], process: str) -> Iterator[Record]:
    """Put the lines of one process together: one without a time goes on from the one before."""
    at, level, kept = "", "", list[str]()
    for line in lines:
        begun = _beginning(line)
        if kept and (begun or len(kept) == MOST_LINES):
            yield Record(at, process, level, tuple(kept))
            kept = []
        at, level = begun or (at, level)
        kept.append(line)
    if kept:
        yield Record(at, process, level, tuple(kept))


def _beginning(line: str) -> tuple[str, str] | None:
    """Return time and level of a line that begins a record."""
    if found := CONSOLE.match(line):
        return found[1], found[2]
    if not line.startswith("{"):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return str(said.get("timestamp", "")), str(said.get("level", ""))


def follow(folder: Path, wanted: Filter, pause: Callable[[], object]) -> Iterator[Record]:
    """Yield what is written from now on, for ever; `pause` is called between two looks."""
    read = {path: _size(path) for path in files_in(folder, wanted)}
    while True:
        for path in files_in(folder, wanted):
            lines, read[path] = _behind(path, read.get(path, 0))
            yield from _wanted(lines, path, wanted)
        pause()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _behind(path: Path, offset: int) -> tuple[list[str], int]:
    """Return the whole lines behind a place of a file, and the place behind them; a shorter file was begun anew.

    A file that was rotated away is not there until its process says something.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return [], 0
    with file:
        if file.seek(0, 2) < offset:
            offset = 0
        file.seek(offset)
        whole = file.read().rpartition(b"\n")[0]
    lines = whole.decode(errors="replace").split("\n") if whole else []
    return lines, offset + (len(whole) + 1 if whole else 0)
