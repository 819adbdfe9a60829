"""Keep what Protools stores to its owner, and make nothing where only a look was asked for."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.system.harness import Program

from pulsaga.errors import SettingError
from pulsaga_program.cli import commands
from pulsaga_program.home import keep_private

NOBODY = 65534


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """A home folder as older releases made it."""
    home = tmp_path / "home"
    for folder in ("db", "keys", "mail/new", "pulsar/data", "postgres"):
        (home / folder).mkdir(parents=True)
    for file in ("db/bff-write.sqlite", "db/bff-write.sqlite-wal", "keys/vault_key", "mail/new/1", "pulsar/data/log"):
        (home / file).touch(0o644)
    (home / "up.lock").touch(0o666)
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o666)
    return home


def open_to_others(folder: Path) -> set[str]:
    found = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)) for path in found if path.lstat().st_mode & 0o077 and not path.is_symlink()}


def test_a_home_that_an_older_release_left_open_is_closed(loose: Path) -> None:
    """Who has an account on the machine could read every sealed secret and the key beside it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(loose / "broker.sock"))
        (loose / "broker.sock").chmod(0o777)
        keep_private(loose)
    assert open_to_others(loose) == set()
    assert (loose / "db" / "bff-write.sqlite").stat().st_mode & stat.S_IRUSR


def test_a_home_that_cannot_be_made_is_a_wrong_setting() -> None:
    """Whoever mistyped it needs one line that names it."""
    with pytest.raises(SettingError, match="PROTOOLS_HOME: /proc/nowhere"):
        keep_private(Path("/proc/nowhere"))


@pytest.mark.parametrize(
    "given",
    [
        ("sagas", "resume", "01a2244a-2871-7837-8f7b-153e5406901d", "--why", "\udcff"),
        ("incidents", "list", "--as", "\udcff"),
        ("dead-letters", "show", "\udcff\x1b[31m"),
        ("webhook-secret", "\udcff"),
        ("\udcff",),
    ],
)
def test_an_argument_that_is_no_text_is_refused_in_one_line(given: tuple[str, ...]) -> None:
    """A terminal of another encoding sends such bytes: neither an audit nor a database could keep them."""
    result = CliRunner().invoke(commands, given)
    assert result.exit_code == 2
    assert "not UTF-8: \\udcff" in result.output


def test_a_home_that_is_not_there_is_made_private(tmp_path: Path) -> None:
    """Whatever umask the shell has."""
    before = os.umask(0)
    try:
        keep_private(tmp_path / "new" / "home")
    finally:
        os.umask(before)
    assert open_to_others(tmp_path / "new" / "home") == set()


def test_what_is_not_ours_is_left_as_it_is(loose: Path, tmp_path: Path) -> None:
    """PROTOOLS_HOME may be somebody's home folder, or /tmp; and a link leads anywhere."""
    (loose / "public_html").mkdir(mode=0o755)
    (tmp_path / "elsewhere").touch(0o644)
    (loose / "db" / "link").symlink_to(tmp_path / "elsewhere")
    keep_private(loose)
    assert open_to_others(loose) == {".", "public_html"}
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user_passes_through_to_what_is_its_own_and_sees_nothing_else(loose: Path) -> None:
    """Under root PostgreSQL runs as a user of its own, with its data in here."""
    data = loose / "postgres" / "data"
    data.mkdir(mode=0o700)
    os.chown(data, NOBODY, NOBODY)
    keep_private(loose)
    assert open_to_others(loose) == {".", "postgres"}
    assert {path.stat().st_mode & 0o777 for path in (loose, loose / "postgres")} == {0o711}
    assert data.stat().st_mode & 0o777 == 0o700


# --- looking


STARTS = {"up", "run", "bootstrap", "broker start", "broker embedded", "postgres start"}
"""What may make something where nothing was."""


def looks(group: click.Group, *names: str) -> Iterator[tuple[list[str], click.Command]]:
    """Find every command that is to start nothing."""
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from looks(command, *names, name)
            elif command is not None and " ".join((*names, name)) not in STARTS:
                yield [*names, name], command


def needed(command: click.Command) -> list[str]:
    """Give a command what it cannot be called without."""
    given: list[str] = []
    for parameter in command.params:
        if parameter.required:
            value = "01976f3c-8a4e-7c3b-9f52-3d1c0b8a7e61"
            if isinstance(parameter.type, click.Choice):
                value = parameter.type.choices[0]
            given += [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]
    return given


LOOKS = list(looks(commands))
OF_DATA = ("dead-letters", "sagas", "incidents", "keys", "verify", "retention", "vault", "mails", "webhooks")


@pytest.mark.parametrize(("names", "command"), LOOKS, ids=[" ".join(names) for names, _ in LOOKS])
def test_whoever_looks_in_the_wrong_folder_makes_nothing_and_is_told(
    tmp_path: Path, names: list[str], command: click.Command
) -> None:
    """An empty database would be asked, and would answer that all is well, or that there is `no such table`."""
    program = Program(tmp_path, {"PYTHONDONTWRITEBYTECODE": "1"})
    del program.environment["PROTOOLS_HOME"]
    more = ["--all"] if any(parameter.name == "everything" for parameter in command.params) else []
    more += ["--set", "a=b"] if names == ["dead-letters", "edit"] else []
    done = program.run(*names, *needed(command), *more, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in done.stderr
    if names[0] in OF_DATA:
        assert done.returncode in (1, 2)
        assert "there is no Protools data in" in done.stderr
        assert "PROTOOLS_HOME" in done.stderr
        assert len(done.stderr.splitlines()) == 1


READ_ONLY = ("list", "show", "graph", "check", "next", "status", "seams", "verify", "logs", "start")


@pytest.mark.parametrize(("names", "command"), [look for look in LOOKS if look[0][-1] in READ_ONLY])
def test_a_look_into_an_empty_home_leaves_it_empty(tmp_path: Path, names: list[str], command: click.Command) -> None:
    """A key or a database that a look has made would be taken for the system's own by whoever starts it later."""
    CliRunner().invoke(commands, [*names, *needed(command)], env={"PROTOOLS_HOME": str(tmp_path), "AUTH": "none"})
    assert list(tmp_path.iterdir()) == []
