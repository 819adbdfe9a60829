"""Draw a workflow as Mermaid (https://mermaid.js.org/syntax/flowchart.html), and where in it a saga stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulsaga.delivery.messages import contract_of
from pulsaga.saga.branches import StepState
from pulsaga.saga.definition import Saga
from pulsaga.saga.steps import Await, ForEach, Node, Parallel, Sleep, Step, When, inside

Exits = list[tuple[str, str]]
"""Where a path through the drawing goes on from: a node, and what stands on the arrow."""
COLOURS = {"done": "#cfc", "undone": "#ccc", "refused": "#fbb", "here": "#fd8"}
LOOKS = {
    "issued": "here",
    "sleeping": "here",
    "waiting": "here",
    "undoing": "here",
    "failed": "here",
    "done": "done",
    "then": "done",
    "else": "done",
    "awaiting": "here",
    "queued": "here",
    "forked": "here",
    "joined": "done",
    "going-back": "here",
    "undone": "undone",
    "refused": "refused",
}


def mermaid(saga: Saga[Any], steps: Mapping[str, StepState] | None = None) -> str:
    """Return the drawing; with the steps of a saga, each that has begun is marked."""
    return "\n".join(_lines(saga, steps or {})) + "\n"


def _lines(saga: Saga[Any], steps: Mapping[str, StepState]) -> Iterator[str]:
    yield "flowchart TD"
    yield f'  start(["{contract_of(saga.starts).name}"])'
    exits = yield from _chain("", saga.steps, [("start", "")])
    yield '  ended(["COMPLETED"])'
    yield from _arrows(exits, "ended")
    looks: dict[str, str] = {}
    for path, step in steps.items():  # of several items the most telling look is taken
        declared = saga.declared(path)
        looks[declared] = max(LOOKS[step.status], looks.get(declared, ""), key=["", *COLOURS].index)
    for look, colour in COLOURS.items():
        if marked := [_id(path) for path, its in looks.items() if its == look]:
            yield f"  classDef {look} fill:{colour}"
            yield f"  class {','.join(marked)} {look}"


def _chain(before: str, nodes: Sequence[Node[Any]], exits: Exits) -> Any:
    """Yield one node after the other; return where the last one goes on from."""
    for number, node in enumerate(nodes):
        path = f"{before}{number}"
        yield f"  {_id(path)}{_shape(node)}"
        yield from _arrows(exits, _id(path))
        exits = [(_id(path), "")]
        if inner := list(inside(node)):
            exits = []
            for name, steps in inner:
                word = "" if isinstance(node, Parallel) else name
                exits += yield from _chain(f"{path}/{name}/", steps, [(_id(path), word)])
    return exits


def _arrows(exits: Exits, to: str) -> Iterator[str]:
    for node, word in exits:
        yield f"  {node} -->{f'|{word}| ' if word else ' '}{to}"


def _shape(node: Node[Any]) -> str:
    match node:
        case Step():
            undo = f"<br/>undone by {contract_of(node.undoes_by).name}" if node.undoes_by else ""
            pivot = "<br/>pivot" if node.pivot else ""
            return f'["{contract_of(node.sends).name}{undo}{pivot}"]'
        case Sleep():
            return f'[/"sleep {_length(node)}"/]'
        case Await():
            return f'[/"await {node.name}"/]'
        case Parallel():
            return f'{{{{"{len(node.branches)} branches{_waiting(node)}"}}}}'
        case ForEach():
            return f'{{{{"for each, {node.at_most} at once{_waiting(node)}"}}}}'
        case When():
            name = node.condition.__name__ if hasattr(node.condition, "__name__") else "<lambda>"
            return '{"?"}' if name == "<lambda>" else f'{{"{name}?"}}'


def _waiting(node: Parallel[Any] | ForEach[Any, Any]) -> str:
    return "<br/>waits for all, whoever fails" * (node.fail == "wait")


def _length(sleep: Sleep[Any]) -> str:
    if sleep.seconds is None:
        return "until a time of its own"
    minutes, seconds = divmod(sleep.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{number:g} {unit}" for number, unit in parts if number)


def _id(path: str) -> str:
    return "s" + path.replace("/", "_")
