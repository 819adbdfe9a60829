"""Ask for more than can be done, at two front doors: who is told when to come back is let in, what is accepted ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.system.conftest import Mode
from tests.system.harness import Answer, System, at_once

PER_SECOND = 60
SECONDS = 8
WARM = 60
"""So many first: a system just started is slower than its next seconds, and makes longer promises than it must."""
MOST = 0.7
"""Share of the second tries that is let in at least; how many it is on a machine that nobody holds up, k6 measures."""
SLOW_S = 0.05
"""For which generador works at each password: it ends at most twenty a second."""


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two front doors, and a promise that is soon broken."""
    settings = {"PROTOOLS_FAULTS": "on", "ACCEPT_WITHIN": "20", "BATCH_LIMIT": "20"}
    with mode.prepared(tmp_path_factory.mktemp(mode.name), ["bff.web=2"], **settings) as system:
        yield system.up()


@dataclass(frozen=True)
class Tries:
    """Hold the answers one caller got: two if it was refused and came back."""

    name: str
    answers: list[Answer]


@pytest.mark.slow
def test_in_a_rush_whoever_comes_back_in_turn_is_let_in_and_all_accepted_end(system: System) -> None:
    """Three times too many: a door that said yes to all would make all late, one that said no to all would be idle."""

    def call(number: int) -> Tries:
        while time.monotonic() < begun + number / PER_SECOND:
            time.sleep(0.005)  # the arrival rate is what is asked for here
        first = ask(system, f"rush-{number}")
        if first.status != 503:
            return Tries(f"rush-{number}", [first])
        time.sleep(float(first.headers["Retry-After"]))
        turn = first.headers["Set-Cookie"].partition(";")[0]
        return Tries(f"rush-{number}", [first, ask(system, f"rush-{number}", Cookie=turn)])

    with system.fault(f"generador.handled action=sleep={SLOW_S} times=forever"):
        system.outcomes(at_once(system.accept, [f"warm-{number}" for number in range(WARM)]))
        begun = time.monotonic()
        tries = at_once(call, range(PER_SECOND * SECONDS), threads=PER_SECOND * SECONDS)
        assert {answer.status for one in tries for answer in one.answers} <= {202, 503}
        second = Counter(one.answers[1].status for one in tries if len(one.answers) == 2)
        assert sum(second.values()) > 50, "there was no rush"
        assert second[202] >= MOST * sum(second.values())
        assert system.get("/livez").status == 200
    accepted = [one.answers[-1].json["id"] for one in tries if one.answers[-1].status == 202]
    ended = Counter(command["status"] for command in system.outcomes(accepted))
    assert ended == {"completed": len(accepted)}
    shown = system.get("/metrics").body.decode()
    assert "protools_commands_backlog" in shown
    assert system.accept("afterwards")


def ask(system: System, name: str, **headers: str) -> Answer:
    """Ask once, over a connection of its own, so that both doors are asked."""
    return system.post("/passwords", {"username": name}, Connection="close", **headers)
