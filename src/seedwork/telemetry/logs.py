"""Log in one line per event: for people on a console, as JSON elsewhere. What libraries say comes out the same way."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple

import structlog

from pulsaga.errors import SettingError
from pulsaga.telemetry import repeats
from pulsaga.text import printable

Level = Literal["debug", "info", "warning", "error"]
Line = MutableMapping[str, Any]

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
ENCODER = json.JSONEncoder(default=repr)
"""One for all lines: `json.dumps` makes another for each, which is a third of what a line costs."""
RENDERERS: dict[str, Any] = {
    "console": structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
    "json": structlog.processors.JSONRenderer(lambda line, **_: ENCODER.encode(line)),
}
SAID_CHARACTERS = 2000
"""Characters kept of what a library says."""
NAMELESS = ("%s", "%r")
"""Templates of libraries that name no kind of line: its text does."""

_logged_from = LEVELS["info"]
_log = structlog.get_logger()


def configure_logging(log_format: str, level: str = "info", **process: str) -> None:
    """Send log lines from a level on to standard output, as `console` or `json`; each says which `process` it is of.

    Raise SettingError for another format or level.
    """
    global _logged_from, _log
    _check("LOG_FORMAT", log_format, RENDERERS)
    _check("LOG_LEVEL", level, LEVELS)
    _logged_from = LEVELS[level]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            partial(_name_process, process),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            escape,
            RENDERERS[log_format],
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_logged_from),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    _log = structlog.get_logger()
    _hear_libraries()


def _check(variable: str, value: str, known: Mapping[str, object]) -> None:
    if value not in known:
        raise SettingError(variable, f"{value!r} is not one of {', '.join(known)}")


def _name_process(process: Mapping[str, str], _logger: Any, _method: str, line: Line) -> Line:
    line.update(process)
    return line


def escape(_logger: Any, _method: str, line: Line) -> Line:
    """Make every value printable: text of others must not act on a terminal, nor look like a line of ours.

    A traceback keeps its lines, indented.
    """
    for name, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            shown = value.splitlines() if name == "exception" else [value]
            line[name] = "\n    ".join(map(printable, shown))
    return line


def is_logged(level: Level) -> bool:
    """Tell whether lines of a level are logged: those of a hot path are not made where they are not."""
    return LEVELS[level] >= _logged_from


def announce(event: str) -> None:
    """Log a line whatever LOG_LEVEL says, for a supervisor that waits for it."""
    logger = structlog.PrintLogger(sys.stdout)
    structlog.wrap_logger(logger, wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)).info(event)


class Note(NamedTuple):
    """A line that is logged once what it tells is committed."""

    level: Level
    event: str
    about: Mapping[str, Any]

    def write(self) -> None:
        """Log it."""
        getattr(_log, self.level)(self.event, **self.about)


# --- what libraries say


def _hear_libraries() -> None:
    """Take over what Python's `logging` and `warnings` are told: from `warning` on, or `info` on when debugging."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    level = logging.INFO if is_logged("debug") else max(logging.WARNING, _logged_from)
    root.addHandler(_Libraries(level))
    root.setLevel(level)
    logging.captureWarnings(capture=True)


class _Libraries(logging.Handler):
    """Log what a library says; of one kind of line the first at once, the others now and then, with a count."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, or count it."""
        with suppress(Exception):  # whatever it is: a library must not fail for a line of its own
            said = printable(_said(record), SAID_CHARACTERS)
            kind = said if record.msg in NAMELESS else str(record.msg)
            repeats.hear(f"{record.name} {kind[:100]}", _telling(record, said))


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # what is to be put into its text does not fit there
        return str(record.msg)


def _telling(record: logging.LogRecord, said: str) -> Callable[[int], None]:
    level = next((name for name in reversed(LEVELS) if record.levelno >= LEVELS[name]), "debug")

    def tell(times: int) -> None:
        repeated = {"times": times} if times > 1 else {}
        getattr(_log, level)(said, logger=record.name, exc_info=record.exc_info, **repeated)

    return tell
