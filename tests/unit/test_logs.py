"""Keep what processes print, and read it back: together, filtered, and as it comes."""

from __future__ import annotations

import stat
from contextlib import closing, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.test_supervisor import Run

from pulsaga_program import logs
from pulsaga_program.cli import commands
from pulsaga_program.logs import Filter, LogFolder, follow, last, records

CONSOLE = "2026-01-31T12:00:0{}.000000Z [{:8}] {}"
FAILED = [CONSOLE.format(2, "error", "failed saga=s-1"), "    Traceback:", "    boom"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two processes that have spoken in turn."""
    with closing(LogFolder(tmp_path / "logs")) as kept:
        kept.write("stock.worker", CONSOLE.format(1, "info", "ready"))
        for line in FAILED:
            kept.write("stock.worker", line)
        kept.write("shop.web", '{"event": "asked", "level": "warning", "timestamp": "2026-01-31T12:00:01.500000Z"}')
        kept.write("stockroom.web", CONSOLE.format(3, "info", "ready"))
    return tmp_path / "logs"


def test_the_processes_are_told_together_in_the_order_of_their_times(folder: Path) -> None:
    """What led to what is seen only so, whether they log for people or in JSON."""
    found = last(folder, Filter(), 100)
    assert [record.process for record in found] == ["stock.worker", "shop.web", "stock.worker", "stockroom.web"]
    assert found[2].lines == tuple(FAILED), "a traceback stays together"
    assert [record.process for record in last(folder, Filter(), 2)] == ["stock.worker", "stockroom.web"]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (Filter("stock"), 2),
        (Filter("stock.web"), 0),
        (Filter("stockroom.web"), 1),
        (Filter(level="warning"), 2),
        (Filter(saga_id="s-1"), 1),
    ],
)
def test_what_is_not_asked_for_is_left_out(folder: Path, wanted: Filter, number: int) -> None:
    """Seven processes say a lot in a minute."""
    assert len(last(folder, wanted, 100)) == number


def test_a_file_stays_small_and_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that runs for a year must not fill the disk; usernames stand in logs."""
    monkeypatch.setattr(logs, "MOST_BYTES", 1000)
    with closing(LogFolder(tmp_path / "logs")) as kept:
        for number in range(200):
            kept.write("stock.worker", CONSOLE.format(1, "info", f"line {number}"))
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["stock.worker.log", "stock.worker.log.1", "stock.worker.log.2"]
    assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) <= 3000
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    found = last(tmp_path / "logs", Filter(), 1000)
    assert found[-1].lines[0].endswith("line 199")
    assert len(found) > 20, "older files are read, too"


def test_a_line_that_cannot_be_kept_stops_nobody(tmp_path: Path) -> None:
    """A full disk must not take the whole system down with its logs."""
    (tmp_path / "logs").write_text("a file is in the way")
    with closing(LogFolder(tmp_path / "logs")) as kept:
        kept.write("stock.worker", "a word")
    assert (tmp_path / "logs").read_text() == "a file is in the way"


def test_what_comes_is_followed_also_into_a_file_that_was_begun_anew(folder: Path) -> None:
    """Whoever watches must not be left behind by a rotation."""
    file, heard, deeds = folder / "stock.worker.log", list[str](), iter((0, 1, 2))

    def pause() -> None:
        match next(deeds, None):
            case 0:
                with file.open("a") as end:
                    end.write(CONSOLE.format(4, "info", "more") + "\n" + "half a line")
            case 1:
                file.write_text(CONSOLE.format(5, "info", "anew") + "\n")
            case 2:
                raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        heard.extend(record.lines[0].rpartition(" ")[2] for record in follow(folder, Filter("stock"), pause))
    assert heard == ["more", "anew"]


def test_a_file_that_is_away_for_a_moment_ends_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation renames it before the next line makes it anew."""
    file, deeds = folder / "stock.worker.log", iter((0, 1, 2))
    monkeypatch.setattr(logs, "files_in", lambda *_: [file, folder / "never.log"])

    def pause() -> None:
        match next(deeds):
            case 0:
                file.rename(folder / "stock.worker.log.1")
            case 1:
                file.write_text(CONSOLE.format(5, "info", "anew") + "\n")
            case 2:
                pytest.fail("nothing was heard")

    assert next(follow(folder, Filter(), pause)).lines[0].endswith("anew")
    assert len(last(folder, Filter(), 100)) == 3, "the older file is read, and what is not there is none"


def test_a_record_has_so_many_lines_at_most() -> None:
    """Some programs print no times: a file of them must not be one record, nor take its lines' square to read."""
    started = CONSOLE.format(1, "info", "ready")
    found = list(records([started, *["no time"] * 2499, started], "stock.worker"))
    assert [len(record.lines) for record in found] == [1000, 1000, 500, 1]
    assert {record.at for record in found} == {"2026-01-31T12:00:01.000000Z"}


def test_lines_before_the_first_time_are_shown_too() -> None:
    """A process may die before its log is set up."""
    (record,) = records(["ModuleNotFoundError: x"], "stock.worker")
    assert record.lines == ("ModuleNotFoundError: x",)


def test_logs_that_are_not_there_are_told_in_one_line(tmp_path: Path) -> None:
    """Elsewhere than on the machine of `up` nobody writes files."""
    done = CliRunner().invoke(commands, ["logs"], env={"PROTOOLS_HOME": str(tmp_path)})
    assert "there are no logs" in str(done.exception)


def test_the_command_line_shows_them_with_the_name_of_the_process(folder: Path) -> None:
    """As `up` shows them on its terminal."""
    done = CliRunner().invoke(
        commands, ["logs", "shop", "--level", "warning"], env={"PROTOOLS_HOME": str(folder.parent)}
    )
    assert done.stdout.startswith('shop.web | {"event": "asked"')


def test_the_supervisor_keeps_what_its_programs_print(tmp_path: Path) -> None:
    """A terminal that was closed is no record."""
    run = Run([{"name": "talker", "code": "print('READY'); print('a word')"}], keep=tmp_path)
    run.read_until("starting it again")
    run.stop()
    assert "a word" in (tmp_path / "talker.log").read_text()
    assert "starting it again" in (tmp_path / "protools.log").read_text()
