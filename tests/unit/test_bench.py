"""Figures of the bench: a median is told only where the rounds agree, a ratio only within a round."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bench import chart, layout, publish, report, tables
from bench.duel import by_group
from bench.floor import parts, read_side, write_side
from bench.memory import growth_of
from bench.report import Figure
from bench.scenarios import availability
from bench.told import verdict
from sqlalchemy import Column, Double, LargeBinary, MetaData, String, Table

import bff.tables
import correo.tables
import generador.tables
import pulsaga.saga.tables
from pulsaga.delivery import tables as delivery
from pulsaga.web.front_door import tables as front_door

ROOT = Path(__file__).resolve().parents[2]


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


def test_the_embedded_system_is_judged_without_anybody_beside_it() -> None:
    """It is measured in a run of its own, in which nobody else takes part."""
    embedded = contestant("embedded", peer=False, sagas_per_s=[400.0] * 3, p50_ms=[30.0] * 3)

    told = tables.targets({"embedded": embedded})

    assert any("embedded: sagas/s" in line and "met" in line for line in told)
    assert any("embedded: alone p50" in line and "missed" in line for line in told)


def test_what_the_bench_itself_takes_is_no_cost_of_a_saga() -> None:
    """The client runs on the same cores, and would make every ratio look better than it is."""
    spent = {"client": 9.0, "bff.worker": 1.0, "correo.worker": 1.0, "postgres": 2.0, "pulsar": 4.0}

    assert by_group(spent, 1) == {"all": 8.0, "ours": 2.0, "postgres": 2.0, "pulsar": 4.0}


@pytest.mark.parametrize(
    ("values", "good", "said"),
    [([1.0, 1.0, 1.1], True, "met"), ([1.2, 1.2, 1.3], False, "missed"), ([1.0, 9.0, 1.0], True, "no figure")],
)
def test_a_verdict_is_given_only_where_there_is_a_figure(values: list[float], good: bool, said: str) -> None:
    """A median between rounds that disagree may lie on either side of the target by chance."""
    assert verdict("cost", "≤ 1.1", Figure(values), good=good).endswith(f": {said}.")


def test_a_copy_differs_in_its_ids_and_names_and_keeps_what_has_none() -> None:
    """Copies that shared a key would be refused; what is packed must stay readable, so no length may change."""
    values: dict[str, Any] = {}
    said = f"01a1fdcd-8919-7dc8-8e3c-686d8c2721af {layout.PATTERN}!"

    assert layout.copied(Column("said", String), said, values) == (
        "CAST(CAST(:given_0 AS text) || tail || CAST(:given_1 AS text) || name || CAST(:given_2 AS text) AS VARCHAR)"
    )
    assert values == {"given_0": said[:24], "given_1": " ", "given_2": "!"}
    assert "convert_to(tail" in layout.copied(Column("wire", LargeBinary), said.encode(), values)
    assert "sha256" in layout.copied(Column("hash", LargeBinary, unique=True), b"1", values)
    assert layout.copied(Column("at", Double), 7.0, values).endswith("- n * 0.001")
    assert layout.copied(Column("at", Double), None, values).startswith("CAST(:")


def test_a_copied_table_gets_all_rows_of_one_saga_after_the_other() -> None:
    """Rows of one saga lie together in a real table; scattered ones would cost more than what they stand for."""
    table = Table("thing", MetaData(), Column("id", String), Column("due_at", Double))

    sql, _ = layout.copying(table, [{"id": "a", "due_at": 1.0}, {"id": "b", "due_at": 2.0}], {"thing__due_at": "n + 5"})

    assert sql.count("n + 5") == 2
    assert sql.index("generate_series") < sql.index("LATERAL (VALUES (")


def test_growth_is_the_slope_between_the_looks() -> None:
    """One look that is too high by chance must not pass for a leak."""
    assert growth_of([100.0, 101.0, 102.0, 103.0], 50_000) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("written", "table", "left_null"),
    [
        (write_side.ACCEPTANCE, front_door.acceptance, {"idempotency_key"}),
        (write_side.PASSWORD, generador.tables.password, {"mailed_at"}),
        (write_side.SAGA, pulsaga.saga.tables.saga, set()),
        (parts.OUTBOX, delivery.outbox, set()),
        (parts.EVENT, delivery.event, set()),
        (read_side.SAGA_VIEW, pulsaga.saga.tables.saga_view, set()),
        (read_side.SAGA_MOVE, pulsaga.saga.tables.saga_move, set()),
        (read_side.PASSWORD_VIEW, generador.tables.password_view, set()),
        (read_side.MAIL_VIEW, correo.tables.mail_view, set()),
        (read_side.COMMAND, front_door.command, set()),
        (read_side.COMMAND_MOVE, front_door.command_move, set()),
        (read_side.BFF_PASSWORD, bff.tables.password, set()),
    ],
    ids=lambda value: value.name if isinstance(value, Table) else "",
)
def test_the_floor_writes_what_protools_writes(written: parts.Table, table: Table, left_null: set[str]) -> None:
    """A floor that writes less is no floor."""
    assert {column.name for column in table.columns} == {*written.names} | left_null


def test_what_the_host_took_from_this_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures from an hour in which others had the cores must say so: steal is the eighth number of proc(5)'s line."""
    said = ["cpu  100 0 100 700 0 0 0 100 0 0"]
    monkeypatch.setattr(report, "_lines", lambda _path: said)
    before = report.processor_time()
    said[0] = "cpu  150 0 120 800 0 0 0 130 0 0"
    assert report.stolen_percent(before) == 15.0
    assert report.stolen_percent(report.processor_time()) == 0.0


def test_a_chart_over_places_names_each_of_them() -> None:
    """A reader sees what the ends of an axis are, also where they are no seconds."""
    drawn = chart.lines("Rates", {"a": [1.0, 2.0, 4.0]}, "sagas/s", axis="seconds of thought", places=["5", "1", "0.5"])
    assert re.findall(r">(5|1|0\.5|seconds of thought)</text>", drawn)[:1] == ["seconds of thought"]
    assert all(f">{place}</text>" in drawn for place in ("5", "1", "0.5"))


def test_the_page_on_availability_has_a_row_for_all_that_is_taken_away() -> None:
    """A service that was added and never taken away would pass for one that may be away."""
    page = (ROOT / "docs" / "scenarios" / "08-availability.md").read_text()
    assert re.findall(r"^\| ([^|]+?) +\| +[0-9,]+ +\|", page, re.M) == list(availability.TARGETS)


def test_a_command_that_was_lost_is_told() -> None:
    """A table without losses must be one in which they would show."""
    row = availability.Row("bff", "killed", 60.0, 4.0, accepted=3, ends={"completed": 2}, lost=1)
    cells = dict(zip(availability.HEAD, availability.cells(row), strict=True))
    assert (cells["lost"], cells["ended"], cells["all ended after, s"]) == ("1", "2 completed", "never")
