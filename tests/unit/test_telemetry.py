"""Text that others chose cannot act on the console or forge a line of the log."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from pulsaga.telemetry import configure_logging

HOSTILE = "HTTP/1.1 200 \x1b[2J\x9b\r\n2026-01-01T00:00:00Z [info     ] all is well\u202e\x00"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_hostile_value_stays_on_its_line(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    """A receiver's status line cleared an operator's terminal and wrote lines that we never logged."""
    configure_logging(log_format)
    structlog.get_logger().warning("webhook not taken", error=HOSTILE)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    if log_format == "json":
        assert "all is well" in json.loads(line)["error"]


def test_a_traceback_keeps_its_lines_and_its_error_text_forges_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever looks for the cause needs it whole."""
    configure_logging("console")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        structlog.get_logger().exception("loop broke")
    first, *others = capsys.readouterr().out.splitlines()
    assert "loop broke" in first
    assert len(others) > 3
    assert all(line.isprintable() and not line.startswith("2026") for line in others)
