"""Figures of the bench: a median is told only where the rounds agree, a ratio only within a round."""

from __future__ import annotations

from typing import Any

import pytest
from bench import publish, tables
from bench.report import Figure


def contestant(name: str, *, peer: bool, **rounds: list[float]) -> dict[str, Any]:
    figures = {figure: {"median": sorted(values)[1], "rounds": values} for figure, values in rounds.items()}
    return {"name": name, "peer": peer, "figures": figures, "memory_mib_by_process": {"a.worker": 100.0}}


def test_rounds_that_agree_give_their_median() -> None:
    """One figure stands for several rounds only when they tell the same."""
    assert Figure([100.0, 110.0, 90.0]).value == 100.0


@pytest.mark.parametrize("rounds", [[100.0, 160.0, 90.0], [100.0, 101.0]])
def test_rounds_far_apart_or_too_few_give_no_figure(rounds: list[float]) -> None:
    """A noisy machine must not pass for a measurement; the range is shown instead."""
    figure = Figure(rounds)

    assert figure.value is None
    assert "–" in str(figure)


def test_a_ratio_is_taken_round_by_round() -> None:
    """Noise that hits both in the same round cancels out."""
    ours = contestant("ours", peer=False, sagas_per_s=[1000.0, 500.0, 2000.0])
    theirs = contestant("theirs", peer=True, sagas_per_s=[100.0, 50.0, 200.0])

    found = tables.ratio(ours, theirs, "sagas_per_s")

    assert found is not None
    assert found.rounds == [10.0, 10.0, 10.0]


def test_targets_are_judged_against_the_best_peer() -> None:
    """Being faster than a slow peer says nothing."""
    ours = contestant("Protools", peer=False, sagas_per_s=[900.0] * 3, p50_ms=[10.0] * 3)
    slow = contestant("DBOS", peer=True, sagas_per_s=[50.0] * 3, p50_ms=[4.0] * 3)
    best = contestant("Restate", peer=True, sagas_per_s=[100.0] * 3, p50_ms=[8.0] * 3)

    told = tables.targets({"protools": ours, "dbos": slow, "restate": best})

    rate = next(line for line in told if "best peer (Restate)" in line)
    assert "| 9 " in rate
    assert "missed" in rate
    assert any("quickest peer (DBOS)" in line and "missed" in line for line in told)


def test_a_page_without_a_mark_is_refused() -> None:
    """A table that silently went nowhere would leave old figures standing."""
    assert publish.replaced("<!-- x -->\nold\n<!-- /x -->", "x", ["new"]) == "<!-- x -->\nnew\n<!-- /x -->"
    with pytest.raises(ValueError, match="no place"):
        publish.replaced("nothing here", "x", ["new"])
