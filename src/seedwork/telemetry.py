"""Log in one line per event: for people on a console, as JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from pulsaga.errors import SettingError
from pulsaga.text import printable

RENDERERS: dict[str, Any] = {
    "console": structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
    "json": structlog.processors.JSONRenderer(),
}


def escape(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every value printable: text of others must not act on a terminal, nor look like a line of ours.

    A traceback keeps its lines, indented.
    """
    for name, value in line.items():
        if isinstance(value, str):
            shown = value.splitlines() if name == "exception" else [value]
            line[name] = "\n    ".join(map(printable, shown))
    return line


def configure_logging(log_format: str) -> None:
    """Send log lines to standard output as `console` or `json`; raise SettingError for another format."""
    if log_format not in RENDERERS:
        raise SettingError("LOG_FORMAT", f"{log_format!r} is not one of {', '.join(RENDERERS)}")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            escape,
            RENDERERS[log_format],
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
