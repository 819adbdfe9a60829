"""Hold what all commands have in common: help with an example, lists, what a mistyped one is told."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner
from tests.system.harness import SOURCES
from tests.unit.test_home import looks

from pulsaga.operate.listing import Listing, Section, lists, watch
from pulsaga_program.cli import commands
from pulsaga_program.supervisor import ANSI
from pulsaga_program.terminal import this_program

COLUMNS = ("at", "id", "reason")
ROWS = [{"at": "2026-01-31T12:00:00Z", "id": "01976f3c-8a4e-7c3b-9f52-3d1c0b8a7e61", "reason": "so many " * 30}]


def groups(group: click.Group, *names: str) -> Iterator[tuple[list[str], click.Command]]:
    """Find every group of commands."""
    yield [*names], group
    with click.Context(group) as context:
        for name in group.list_commands(context):
            if isinstance(found := group.get_command(context, name), click.Group):
                yield from groups(found, *names, name)


EVERY = [*groups(commands), *looks(commands)]


@pytest.mark.parametrize(("names", "command"), EVERY, ids=[" ".join(names) or "protools" for names, _ in EVERY])
def test_every_help_ends_with_an_example_of_this_very_command(names: list[str], command: click.Command) -> None:
    """Nobody reads a list of options at 3 a.m.; a line to change is typed at once."""
    if not command.hidden:
        assert f"Example: protools {' '.join(names)}".rstrip() in (command.epilog or "")


def test_the_help_says_what_exit_codes_mean() -> None:
    """A script decides by them."""
    shown = CliRunner().invoke(commands, ["--help"]).stdout
    assert all(f"{code} " in shown for code in ("Exit codes: 0", "1", "2", "3", "130"))


def test_the_version_is_that_of_the_package() -> None:
    """It is the first thing that a report of a fault has to name."""
    assert CliRunner().invoke(commands, ["--version"]).stdout.split()[-1] == version("pulsaga")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["dead-leters"], "dead-letters"), (["sagas", "shwo"], "show"), (["mails", "lst"], "list")],
)
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(typed: list[str], meant: str) -> None:
    """Also where the command is imported only when it is called for."""
    done = CliRunner().invoke(commands, typed)
    assert (done.exit_code, f"Did you mean '{meant}'" in done.stderr) == (2, True)


def test_a_shell_completes_what_is_typed() -> None:
    """Completion is the shell's own, by the variable that docs/operators.md names."""
    typed = {"_PROTOOLS_COMPLETE": "bash_complete", "COMP_WORDS": "protools dead-letters re", "COMP_CWORD": "2"}
    environment = {**os.environ, **typed, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-m", "pulsaga_program"], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["plain,replay"], this_program()


# --- lists


def test_a_list_is_a_row_a_line_where_no_terminal_is() -> None:
    """A script cuts it at two spaces, and nothing is folded or left out."""
    listing = Listing(COLUMNS, [{**ROWS[0], "reason": ""}], "1 rows")
    assert listing.text() == f"{ROWS[0]['at']}  {ROWS[0]['id']}  -\n1 rows"


def on_a_terminal(code: str, columns: int) -> str:
    """Run code whose output is a terminal of this width; return what it shows, without bold."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(SOURCES), "NO_COLOR": "1", "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # a terminal that nobody holds any more
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    return ANSI.sub("", shown.decode())


def test_a_table_fits_the_terminal_and_folds_no_id() -> None:
    """An id that is broken in two is copied wrong; a line that runs over makes a table unreadable."""
    code = f"from pulsaga.operate.listing import Listing; print(Listing({COLUMNS}, {ROWS}, '1 rows').text())"
    lines = on_a_terminal(code, 100).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["at", "id", "reason"]
    assert ROWS[0]["id"] in lines[1]
    assert lines[-1] == "1 rows"


def test_a_terminal_that_is_too_narrow_for_a_table_folds_each_row_and_no_id() -> None:
    """Columns of one letter's width, or left out, are worse than lines that are folded."""
    code = f"from pulsaga.operate.listing import Listing; print(Listing({COLUMNS}, {ROWS}, '1 rows').text())"
    first, second, *_ = lines = on_a_terminal(code, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert (first.split(), second) == ([ROWS[0]["at"]], f"    {ROWS[0]['id']}  so many so many so")


def test_what_is_left_out_of_a_section_is_counted() -> None:
    """Who sees ten of five hundred must not take them for all."""
    listing = Listing(("id",), [], "3 letters", [Section("3 × x", [{"id": "a"}], 2)])
    assert listing.text() == "3 × x\n  a\n  … and 2 more\n3 letters"


class Looks:
    """A list that is another one at each look, until somebody presses Ctrl-C."""

    def __init__(self, *counts: int) -> None:
        self.counts = iter(counts)

    def __call__(self) -> Listing:
        number = next(self.counts, None)
        if number is None:
            raise KeyboardInterrupt
        return Listing(("n",), [{"n": number}], f"{number} rows")


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_watched_is_shown_when_it_changes_until_ctrl_c(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """The same list again and again would push what happened out of sight."""
    watch(Looks(1, 1, 2), as_json=as_json, pause=lambda: None)
    shown = capsys.readouterr().out.splitlines()
    assert (
        [json.loads(line) for line in shown] == [[{"n": 1}], [{"n": 2}]]
        if as_json
        else shown == [*("1", "1 rows", "2", "2 rows")]
    )


def test_every_list_has_json_and_watch() -> None:
    """One mechanism: what is learned at one list holds at the next."""
    found = [(names, command) for names, command in looks(commands) if names[-1] in ("list", "seams")]
    assert len(found) >= 9
    for names, command in found:
        assert {"as_json", "watch_s"} <= {parameter.name for parameter in command.params}, names


def test_a_listed_command_keeps_its_own_help_and_options() -> None:
    """A decorator must not hide them."""

    @click.command()
    @click.option("--number", default=1)
    @lists
    def command(number: int) -> Listing:
        """Say something."""
        return Listing(("n",), [{"n": number}], "1 rows")

    arguments: Sequence[str] = ["--number", "3", "--json"]
    assert json.loads(CliRunner().invoke(command, arguments).stdout) == [{"n": 3}]
    assert command.help == "Say something."
