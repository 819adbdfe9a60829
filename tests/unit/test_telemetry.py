"""Text that others chose cannot act on the console or forge a line of the log."""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from tests.patience import PATIENCE_S

from pulsaga.errors import SettingError
from pulsaga.telemetry import logs, repeats
from pulsaga.telemetry.logs import configure_logging
from pulsaga_program.local.process import wait_until

HOSTILE = "HTTP/1.1 200 \x1b[2J\x9b\r\n2026-01-01T00:00:00Z [info     ] all is well\u202e\x00"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, level, root = structlog.get_config(), logging.root.level, logging.getLogger()
    logged_from = logs._logged_from
    yield
    structlog.configure(**before)
    logs._log, logs._logged_from = structlog.get_logger(), logged_from
    for handler in [handler for handler in root.handlers if isinstance(handler, logs._Libraries)]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    repeats._of_this_process.cache_clear()


def lines_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


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


# --- the level


@pytest.mark.parametrize(("level", "logged"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_leaves_out_what_is_below_it_but_not_that_a_process_is_ready(
    capsys: pytest.CaptureFixture[str], level: str, logged: int
) -> None:
    """A supervisor waits for `ready`, and whoever asked for less must not wait for ever."""
    configure_logging("json", level)
    for name in logs.LEVELS:
        getattr(structlog.get_logger(), name)("it happened")
        logs.Note(name, "it was committed", {}).write()  # type: ignore[arg-type]
    logs.announce("ready")
    told = [line["event"] for line in lines_of(capsys.readouterr().out)]
    assert Counter(told) == {"it happened": logged, "it was committed": logged, "ready": 1}
    assert logs.is_logged("info") is (logged >= 3)


def test_a_level_that_nobody_knows_is_refused_by_its_name() -> None:
    """Silence because of a misspelt word is found when a line is needed."""
    with pytest.raises(SettingError, match="LOG_LEVEL"):
        configure_logging("json", "loud")


def test_each_line_says_of_which_process_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of all processes end up in one place."""
    configure_logging("json", service="stock", process="worker")
    structlog.get_logger().info("ready")
    logging.getLogger("urllib3").warning("retrying")
    assert [(line["service"], line["process"]) for line in lines_of(capsys.readouterr().out)] == 2 * [
        ("stock", "worker")
    ]


# --- libraries


def test_what_libraries_say_is_a_line_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    """A page on stderr in another format is found by nobody, and acts on whoever's terminal it reaches."""
    configure_logging("json")
    logging.getLogger("urllib3.pool").warning("cannot reach %s", HOSTILE)
    logging.getLogger("alembic").info("not so important")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(HOSTILE, DeprecationWarning, stacklevel=1)
    pool, warned = lines_of(capsys.readouterr().out)
    assert (pool["logger"], pool["level"], warned["logger"]) == ("urllib3.pool", "warning", "py.warnings")
    assert pool["event"].startswith("cannot reach HTTP/1.1 200")
    assert all(str(line[name]).isprintable() for line in (pool, warned) for name in line)


def test_an_error_of_a_library_brings_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """An exporter that broke says no more than that, else."""
    configure_logging("json")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("opentelemetry").exception("broke")
    (line,) = lines_of(capsys.readouterr().out)
    assert (line["level"], line["event"]) == ("error", "broke")
    assert "ValueError" in line["exception"]
    assert all(part.isprintable() for part in line["exception"].splitlines())


def test_what_a_library_repeats_is_one_line_whatever_differs_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A collector that is away for a day must not fill the disk."""
    configure_logging("json")
    for number in range(1000):
        logging.getLogger("opentelemetry").warning("span %s was dropped", number)
        logging.getLogger("opentelemetry").warning("and another thing")
    assert [line["event"] for line in lines_of(capsys.readouterr().out)] == ["span 0 was dropped", "and another thing"]


def test_a_library_is_heard_more_closely_when_debugging_and_is_never_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever looks for a fault turns one thing; and a library that logs wrongly must go on with its work."""
    configure_logging("json", "debug")
    logging.getLogger("alembic").info("upgrading")
    logs._Libraries().handle(
        logging.makeLogRecord({"name": "alembic", "levelno": 30, "msg": "%d upgrades", "args": ("no number",)})
    )
    assert [line["event"] for line in lines_of(capsys.readouterr().out)] == ["upgrading", "%d upgrades"]


# --- what is said over and over


@pytest.fixture
def told() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def say(told: list[tuple[str, int]]) -> Callable[[str], repeats.Tell]:
    return lambda text: lambda times: told.append((text, times))


def test_an_outage_of_a_day_is_some_lines_an_hour(told: list[tuple[str, int]], say: Any) -> None:
    """2,754 lines in 43 seconds hid every line that mattered, and filled the disk."""
    heard = repeats.Repeats()
    for second in range(24 * 3600):
        for number in range(8):
            heard.hear("place", say(f"{number} of {second}"), second)
        heard.settle(second)
    assert len(told) <= 24 * 3600 / repeats.TOLD_EVERY_S + 1
    heard.settle(25 * 3600)
    assert sum(times for _, times in told) == 24 * 3600 * 8


def test_what_was_counted_is_told_with_the_newest_and_silence_is_forgotten(
    told: list[tuple[str, int]], say: Any
) -> None:
    """The last word says more than the first; after a quiet time the next line is news again."""
    heard = repeats.Repeats()
    for text in ("one", "two", "three"):
        heard.hear("place", say(text), 0)
    heard.hear("another", say("else"), 0)
    heard.settle(repeats.TOLD_EVERY_S - 1)
    assert told == [("one", 1), ("else", 1)]
    heard.settle(repeats.TOLD_EVERY_S)
    assert told[2:] == [("three", 2)]
    heard.settle(2 * repeats.TOLD_EVERY_S)
    assert not heard.is_counting
    heard.hear("place", say("four"), 2 * repeats.TOLD_EVERY_S)
    assert told[3:] == [("four", 1)]


def test_places_without_number_are_counted_together(told: list[tuple[str, int]], say: Any) -> None:
    """A text that strangers chose may be part of the name of a place."""
    heard = repeats.Repeats()
    for number in range(10 * repeats.MOST_PLACES):
        heard.hear(f"place {number}", say("x"), 0)
    assert len(told) == repeats.MOST_PLACES + 1


def test_what_this_process_counts_is_told_without_another_line(
    monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, int]], say: Any
) -> None:
    """The last thing that a library said before it fell silent may be the one that matters."""
    monkeypatch.setattr(repeats, "TOLD_EVERY_S", 0.01)
    monkeypatch.setattr(repeats, "LOOK_S", 0.01)
    for text in ("one", "two", "three"):
        repeats.hear("place", say(text))
    assert wait_until(lambda: told[-1][0] == "three", PATIENCE_S)
