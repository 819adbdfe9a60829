"""Run a fixed sample of the crash matrix; the whole of it is `make crash-matrix`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from tests.faults.conftest import hurt
from tests.faults.crash_matrix import QUICK, doubles, singles
from tests.faults.matrix import Point, enumerate_points
from tests.system.conftest import Mode
from tests.system.harness import System
from tests.system.mailboxes import SmtpServer

SEED = 4
SINGLES, PAIRS = 8, 3


@pytest.fixture(scope="module")
def system(
    setup: tuple[Mode, int], mail_server: SmtpServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """One of every worker, so that whoever dies is missed."""
    with hurt(setup[0], 1, tmp_path_factory.mktemp("matrix"), mail_server, **QUICK) as system:
        yield system.up()


@pytest.fixture(scope="module")
def points(system: System) -> list[Point]:
    """Every pass of every seam by one happy and one compensated saga."""
    return enumerate_points(system)


def test_every_seam_of_a_worker_is_passed(points: list[Point]) -> None:
    """A seam that nothing passes would be a point at which nobody ever dies in a test."""
    seams = {point.seam for point in points}
    assert {"generador.handled", "correo.sent", "protools_saga.projected", "bff.telling", "bff.committed"} <= seams
    assert len(points) > 80


def test_a_kill_at_a_seam_loses_and_doubles_nothing(system: System, points: list[Point]) -> None:
    """Whatever a process held when it died is done by its successor, once."""
    sample = random.Random(SEED).sample(points, SINGLES)
    verdicts = list(singles(system, sample))
    assert [verdict for verdict in verdicts if verdict.wrong] == []
    assert sum(verdict.reached for verdict in verdicts) >= SINGLES - 1, "batches came together more than once"


def test_a_second_kill_inside_the_recovery_changes_nothing(system: System, points: list[Point]) -> None:
    """Recovery is the same code as work, so it may die, too."""
    assert [v for v in doubles(system, points, SEED, PAIRS) if v.wrong] == []
