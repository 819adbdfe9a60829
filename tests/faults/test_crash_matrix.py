"""Run a fixed sample of the crash matrix; the whole of it is `make crash-matrix`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.crash_matrix import doubles, singles, told
from tests.faults.matrix import Point, enumerate_points
from tests.faults.stories import ORDERS, PASSWORDS, TRIPS
from tests.system.conftest import Mode
from tests.system.harness import System
from tests.system.mailboxes import SmtpServer

SEED = 4
SINGLES, PAIRS, TRIP_SINGLES = 8, 3, 4


@pytest.fixture(scope="module")
def system(
    setup: tuple[Mode, int], mail_server: SmtpServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """The passwords, with one of every worker."""
    with told(setup[0], "passwords", tmp_path_factory.mktemp("matrix"), mail_server) as system:
        yield system.up()


@pytest.fixture(scope="module")
def points(system: System) -> list[Point]:
    """Every pass of every seam by one happy and one compensated saga."""
    return enumerate_points(system, PASSWORDS)


def test_every_seam_of_a_worker_is_passed(points: list[Point]) -> None:
    """A seam that nothing passes would be a point at which nobody ever dies in a test."""
    seams = {point.seam for point in points}
    assert {"generador.handled", "correo.sent", "protools_saga.projected", "bff.telling", "bff.committed"} <= seams
    assert len(points) > 80


def test_a_kill_at_a_seam_loses_and_doubles_nothing(system: System, points: list[Point]) -> None:
    """Whatever a process held when it died is done by its successor, once."""
    sample = random.Random(SEED).sample(points, SINGLES)
    verdicts = list(singles(system, PASSWORDS, sample))
    assert [verdict for verdict in verdicts if verdict.wrong] == []
    assert sum(verdict.reached for verdict in verdicts) >= SINGLES - 1, "batches came together more than once"


def test_a_kill_under_an_order_loses_neither_stock_nor_a_driver(system: System) -> None:
    """In the same system, by another of its workflows."""
    points = [point for point in enumerate_points(system, ORDERS) if point.service in ("productos", "conductores")]
    assert {"productos.handled", "conductores.committed"} <= {point.seam for point in points}
    sample = random.Random(SEED).sample(points, TRIP_SINGLES)
    assert [v for v in singles(system, ORDERS, sample) if v.wrong] == []


def test_a_second_kill_inside_the_recovery_changes_nothing(system: System, points: list[Point]) -> None:
    """Recovery is the same code as work, so it may die, too."""
    assert [v for v in doubles(system, PASSWORDS, points, SEED, PAIRS) if v.wrong] == []


def test_a_kill_under_any_kind_of_step_loses_and_doubles_nothing(
    embedded_mode: Mode, mail_server: SmtpServer, tmp_path: Path
) -> None:
    """Branches, items, a signal by a token, a child, a rest: forward, and back from the end."""
    with told(embedded_mode, "trips", tmp_path, mail_server) as system:
        system.up()
        points = enumerate_points(system, TRIPS)
        seams = {point.seam for point in points}
        assert {"trips.handled", "flights.committed", "desk.acking", "front_door.committed"} <= seams
        sample = random.Random(SEED).sample([p for p in points if p.service == "trips"], TRIP_SINGLES)
        assert [v for v in singles(system, TRIPS, sample) if v.wrong] == []
        assert [v for v in doubles(system, TRIPS, points, SEED, 1) if v.wrong] == []
