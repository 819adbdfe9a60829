"""Change the key that the vault lies under while it is used, and start with a wrong one."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.exceptions import InvalidTag
from sqlalchemy import Engine, delete, func, select, text, update
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, deliver, make_desk
from tests.service.stage import BOTH, POSTGRESQL, Gate, settings_on

from generador import keys
from generador.commands import vault
from generador.keys import check_vault_key, reseal
from generador.messages import GeneratePassword, GenerateSuccessor
from generador.tables import key_check, password, rotation
from generador.vault import Sealed, new_token, open_password
from pulsaga.delivery.database import open_database
from pulsaga.errors import SettingError
from pulsaga.sealing import seal_text, unseal_text
from pulsaga.settings import Settings
from pulsaga_program.local.process import wait_until

OLD, NEW, WRONG = (secrets.token_bytes(32) for _ in range(3))
SOURCES = Path(__file__).parents[2] / "src"
NAMES = ("ada", "bob", "cyd")


def keyed(settings: Settings, *given: bytes) -> Settings:
    """Settings with these keys: the one in force, and the one before."""
    names = {name: b64(key) for name, key in zip(("VAULT_KEY", "VAULT_KEY_OLD"), given, strict=False)}
    return replace(settings, environment={**settings.environment, "VAULT_KEY_OLD": "", **names})


@pytest.fixture(params=BOTH)
def generador(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A vault under the old key, with three passwords, one of which is being rotated."""
    desk = make_desk(keyed(settings_on(request, tmp_path), OLD), "generador")
    check_vault_key(desk.runtime)
    desk.worker.settle([deliver(GeneratePassword(name)) for name in NAMES])
    desk.worker.settle([deliver(GenerateSuccessor("ada"))])
    yield desk
    desk.runtime.write.dispose()


def opened(desk: Desk, *by: bytes) -> int:
    """Count the secrets that these keys open."""
    return sum(_opens(row, by) for table in (password, rotation) for row in desk.rows(table))


def _opens(row: dict[str, bytes], by: tuple[bytes, ...]) -> bool:
    try:
        return len(open_password(Sealed(row["sealed_key"], row["sealed_secret"]), by, str(row["username"]))) == 25
    except InvalidTag:
        return False


def started(desk: Desk, *given: bytes) -> None:
    """Start a process with these keys: the one in force, and the one before."""
    check_vault_key(replace(desk.runtime, settings=keyed(desk.runtime.settings, *given)))


@pytest.mark.parametrize("generador", [POSTGRESQL], indirect=True)
def test_two_processes_that_start_first_note_one_key(generador: Desk) -> None:
    """Replicas start together: the second one ended, or noted another key as the vault's."""
    with generador.runtime.write.begin() as tx:
        tx.execute(delete(key_check))
    gate = Gate(generador)
    rival = open_database(generador.runtime.settings, "generador", "write", "owner")
    others = [replace(generador, runtime=replace(generador.runtime, write=rival)) for _ in range(2)]
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(started, generador, OLD)
        assert gate.reached.wait(PATIENCE_S)
        second, wrong = (threads.submit(started, desk, key) for desk, key in zip(others, (OLD, WRONG), strict=True))
        assert wait_until(lambda: waiting_for_locks(rival) == 2, PATIENCE_S)
        gate.open.set()
        for same in (first, second):
            same.result(PATIENCE_S)
        with pytest.raises(SettingError):
            wrong.result(PATIENCE_S)
    rival.dispose()


def waiting_for_locks(engine: Engine) -> int:
    here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    with engine.connect() as connection:
        held_up = (
            f"SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND (locktype = 'transactionid' OR {here})"
        )
        return int(connection.execute(text(held_up)).scalar_one())


def test_every_secret_comes_under_the_new_key_and_the_old_one_opens_none(generador: Desk) -> None:
    """Else a key that leaked could never be got rid of; the secrets of a running rotation are among them."""
    assert reseal(generador.runtime.write, (NEW, OLD)) == 4
    assert (opened(generador, NEW), opened(generador, OLD)) == (4, 0)
    assert reseal(generador.runtime.write, (NEW, OLD)) == 0
    started(generador, NEW)


def test_it_goes_on_where_it_was_stopped(generador: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault may be large, and a terminal may be closed."""
    monkeypatch.setattr(keys, "PAGE", 1)
    next(keys._pages(generador.runtime.write, password, (NEW, OLD)))
    assert (opened(generador, NEW), opened(generador, NEW, OLD)) == (1, 4)
    started(generador, NEW, OLD)
    assert reseal(generador.runtime.write, (NEW, OLD)) == 3


def test_what_was_written_meanwhile_under_the_old_key_is_found_by_the_next_run(generador: Desk) -> None:
    """Processes are started anew one by one; the last word is a run that finds nothing."""
    reseal(generador.runtime.write, (NEW, OLD))
    generador.worker.settle([deliver(GeneratePassword("late"))])
    assert reseal(generador.runtime.write, (NEW, OLD)) == 1


def test_a_wrong_key_is_refused_at_the_start_and_nothing_is_touched(generador: Desk) -> None:
    """Going on would seal new secrets under a key that nobody keeps, beside old ones that nobody can open."""
    before = generador.rows(password), generador.rows(key_check)
    with pytest.raises(SettingError, match="^VAULT_KEY: is not the key"):
        started(generador, WRONG)
    with pytest.raises(SettingError, match="^VAULT_KEY: is not the key"):
        reseal(generador.runtime.write, (NEW, WRONG))
    assert (generador.rows(password), generador.rows(key_check)) == before
    started(generador, OLD)
    started(generador, NEW, OLD)


def test_one_secret_that_no_key_opens_stops_it_by_name(generador: Desk) -> None:
    """It must not be said that the old key can go while something lies under a third."""
    with generador.runtime.write.begin() as tx:
        tx.execute(update(password).where(password.c.username == "bob").values(sealed_key=b"x" * 60))
    with pytest.raises(SettingError):
        reseal(generador.runtime.write, (NEW, OLD))


def test_mails_that_wait_are_read_by_the_link_key_before() -> None:
    """Tokens under way are sealed for an hour or so: the old LINK_KEY need only be kept that long."""
    token = new_token()
    sealed = seal_text(token, OLD, "ada")
    assert unseal_text(sealed, (NEW, OLD), "ada") == token
    with pytest.raises(InvalidTag):
        unseal_text(sealed, (NEW,), "ada")


# --- the program


def b64(key: bytes) -> str:
    """Write a key as settings take it."""
    return base64.b64encode(key).decode()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Desk]:
    """A vault whose key is kept in the home folder."""
    desk = make_desk(Settings.read({"PROTOOLS_HOME": str(tmp_path)}), "generador")
    check_vault_key(desk.runtime)
    desk.worker.settle([deliver(GeneratePassword(name)) for name in NAMES])
    yield desk
    desk.runtime.write.dispose()


def test_the_program_makes_the_next_key_where_it_keeps_them(kept: Desk) -> None:
    """Embedded mode asks nobody for keys; it must not need anybody to rotate them either."""
    home = kept.runtime.settings.home
    first = CliRunner().invoke(vault, ["rotate"], env={"PROTOOLS_HOME": str(home)})
    assert first.output.startswith("sealed anew: 3\n"), first.output
    assert kept.runtime.settings.keys("VAULT_KEY")[0] != kept.runtime.settings.keys("VAULT_KEY")[1]
    assert opened(kept, kept.runtime.settings.key("VAULT_KEY")) == 3
    again = CliRunner().invoke(vault, ["rotate"], env={"PROTOOLS_HOME": str(home)})
    old = home / "keys" / "vault_key_old"
    assert again.output == f"sealed anew: 0\nnothing lies under the old key any more: {old} can be dropped\n"
    old.unlink()
    check_vault_key(kept.runtime)


def test_the_program_needs_both_keys_where_they_are_given(kept: Desk) -> None:
    """One key cannot be rotated from nothing."""
    home = {"PROTOOLS_HOME": str(kept.runtime.settings.home), "VAULT_KEY": b64(NEW)}
    refused = CliRunner().invoke(vault, ["rotate"], env=home)
    assert isinstance(refused.exception, SettingError)
    given = {**home, "VAULT_KEY_OLD": b64(kept.runtime.settings.key("VAULT_KEY"))}
    done = CliRunner().invoke(vault, ["rotate"], env=given)
    assert done.output.startswith("sealed anew: 3\n"), done.output


def test_a_process_with_a_wrong_key_ends_and_says_so(kept: Desk) -> None:
    """Exit code 2 tells a supervisor that starting it again does not help."""
    environment = {"PROTOOLS_HOME": str(kept.runtime.settings.home), "VAULT_KEY": b64(WRONG)}
    environment |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-m", "pulsaga_program", "run", "generador", "worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 2
    assert "VAULT_KEY: is not the key that this vault is sealed under" in ended.stderr
    with kept.runtime.write.connect() as connection:
        assert connection.execute(select(func.count()).select_from(key_check)).scalar() == 1
