"""Make the keys of embedded mode: every process of a service starts in the same moment and wants the same one."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from pulsaga.settings import Settings

TOGETHER = 8


def test_processes_that_start_together_have_one_key(tmp_path: Path) -> None:
    """None finds it half written: it would say that the key is empty, and end."""

    def keys(home: Path) -> set[bytes]:
        home.mkdir()
        settings, barrier = Settings.read({"PROTOOLS_HOME": str(home)}), Barrier(TOGETHER)

        def key(_number: int) -> bytes:
            barrier.wait(10)
            return settings.key("INTERNAL_TOKEN")

        return set(threads.map(key, range(TOGETHER)))

    with ThreadPoolExecutor(TOGETHER) as threads:
        assert {len(keys(tmp_path / str(number))) for number in range(50)} == {1}


def test_a_key_is_for_its_owner_only(tmp_path: Path) -> None:
    """And nothing lies beside it."""
    settings = Settings.read({"PROTOOLS_HOME": str(tmp_path)})
    assert settings.key("VAULT_KEY") == settings.key("VAULT_KEY")
    file = settings.key_file("VAULT_KEY")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
