"""Two releases side by side: what only one of them declares is left to that one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.service.desk import Desk, make_desk, sit_down
from tests.service.stage import BOTH, answer, pass_time, settings_on, start_sagas

from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.rotate_password import ROTATE_PASSWORD
from pulsaga.delivery.tables import dead_letter, failure, incident
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import UNMOVED_S, resend_to_silent, wake_due_sagas
from pulsaga.settings import Settings
from system import SYSTEM

NEXT = replace(SYSTEM, workflows=[ISSUE_PASSWORD, replace(ISSUE_PASSWORD, version=2), ROTATE_PASSWORD])


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


@pytest.fixture
def desks(settings: Settings) -> Iterator[tuple[Desk, Desk]]:
    """Coordinators of this release and of the next, on one database."""
    old = make_desk(settings, "protools_saga")
    new = sit_down(settings, "protools_saga", None, NEXT)
    yield old, new
    for desk in (old, new):
        desk.runtime.write.dispose()


def moves(desk: Desk) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in desk.rows(saga):
        found.setdefault(row["workflow"], []).append(row["seq"])
    return found


def test_a_reply_to_a_saga_of_the_next_release_waits_for_a_coordinator_of_it(desks: tuple[Desk, Desk]) -> None:
    """The others of its batch go on, nothing fails, and nobody is called."""
    old, new = desks
    replies = [answer(command) for command in start_sagas(old, 3)]
    replies[1:1] = [answer(command) for command in start_sagas(new, 2)]
    old.worker.settle(replies)
    assert moves(old) == {"issue-password@1": [2, 2, 2], "issue-password@2": [1, 1]}
    assert [row["attempts"] for row in old.rows(failure)] == [0, 0]
    for _ in range(10):
        old.make_due()
        old.worker.retry_failures()
    assert [row["attempts"] for row in old.rows(failure)] == [0, 0]
    old.make_due()
    new.worker.retry_failures()
    assert moves(old) == {"issue-password@1": [2, 2, 2], "issue-password@2": [2, 2]}
    assert old.count(failure) == old.count(dead_letter) == old.count(incident) == 0


@pytest.mark.parametrize(("duty", "late_s"), [(wake_due_sagas, 901.0), (resend_to_silent, 6.0)])
def test_what_is_due_of_the_next_release_is_left_to_it_for_a_minute(
    desks: tuple[Desk, Desk], duty: Any, late_s: float
) -> None:
    """Longer, and it is nobody's: then an operator is told."""
    old, new = desks
    start_sagas(new, 1)
    for desk in desks:
        pass_time(desk, late_s)
    duty(old.runtime).work()
    assert moves(old) == {"issue-password@2": [1]}
    assert old.count(incident) == 0
    duty(new.runtime).work()
    assert moves(old) == {"issue-password@2": [2]}
    pass_time(old, 2000.0 + UNMOVED_S)
    duty(old.runtime).work()
    assert [row["kind"] for row in old.rows(incident)] == ["unmoved"]
