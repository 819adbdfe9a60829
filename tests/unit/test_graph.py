"""Draw workflows, and hold the drawing against what they do."""

from __future__ import annotations

from tests.unit.test_steps import saga, step

from pulsaga import Sleep, When
from pulsaga.saga.branches import StepState
from pulsaga.saga.graph import mermaid


def is_far(_start: object) -> bool:
    return True


TRIP = saga(
    step("a"),
    When(is_far, [Sleep(90)], otherwise=[When(lambda _start: True, [step("b", pivot=False)])]),
    step("c", pivot=True),
    Sleep(until=lambda _start: 0.0),
)


def test_a_workflow_is_drawn_with_every_way_through_it() -> None:
    """What is not taken is passed over: every way ends."""
    undone = "<br/>undone by s.undo"
    assert mermaid(TRIP).splitlines() == [
        "flowchart TD",
        '  start(["s.start"])',
        f'  s0["s.do{undone}"]',
        "  start --> s0",
        '  s1{"is_far?"}',
        "  s0 --> s1",
        '  s1_then_0[/"sleep 1 min 30 s"/]',
        "  s1 -->|then| s1_then_0",
        '  s1_else_0{"?"}',
        "  s1 -->|else| s1_else_0",
        f'  s1_else_0_then_0["s.do{undone}"]',
        "  s1_else_0 -->|then| s1_else_0_then_0",
        f'  s2["s.do{undone}<br/>pivot"]',
        "  s1_then_0 --> s2",
        "  s1_else_0_then_0 --> s2",
        "  s1_else_0 -->|else| s2",
        '  s3[/"sleep until a time of its own"/]',
        "  s2 --> s3",
        '  ended(["COMPLETED"])',
        "  s3 --> ended",
    ]


def test_where_a_saga_stands_is_marked() -> None:
    """Done, here, undone, refused: nothing else is known of a step."""
    steps = {"0": StepState("undone"), "1": StepState("else"), "1/else/0": StepState("then"), "2": StepState("issued")}
    marked = [line for line in mermaid(TRIP, steps).splitlines() if line.startswith("  class ")]
    assert marked == ["  class s1,s1_else_0 done", "  class s0 undone", "  class s2 here"]
