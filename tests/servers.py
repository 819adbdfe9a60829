"""Start one real Pulsar and one real PostgreSQL per test session, on ports and in folders of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pulsaga_program.local import LocalPostgres, LocalPulsar, MissingTool
from pulsaga_program.local.process import command_line, free_ports

PREFIX = "protools-test-"


RECOVERY = {"recovery_init_sync_method": "syncfs"}
"""After a crash PostgreSQL flushes every file it has, one by one: with a hundred databases that takes half a minute."""


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder for this session's servers, removed at the end; what a killed session left is removed first."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o711)  # under root PostgreSQL runs as another user, who has to pass through
    (folder / "owner").write_text(str(os.getpid()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pulsar(servers_folder: Path) -> Iterator[LocalPulsar]:
    """A running broker; a test that stops or kills it must start it again."""
    port, admin_port = free_ports(2)
    broker = LocalPulsar(servers_folder / "pulsar", port=port, admin_port=admin_port, journal_sync=False)
    _start(broker.start)
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[LocalPostgres]:
    """A running cluster; a test that stops or kills it must start it again."""
    server = LocalPostgres(servers_folder / "postgres", port=free_ports(1)[0], options=RECOVERY)
    _start(server.start)
    yield server
    server.remove()


def _start(start: Callable[[], None]) -> None:
    try:
        start()
    except MissingTool as missing:
        cannot_run(str(missing))


def cannot_run(reason: str) -> NoReturn:
    """Skip on a laptop; in CI a test that did not run is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder / "owner"
        if owner.exists() and "pytest" not in command_line(int(owner.read_text())):
            LocalPulsar.recorded(folder / "pulsar").kill()
            LocalPostgres.recorded(folder / "postgres").remove()
            shutil.rmtree(folder, ignore_errors=True)
