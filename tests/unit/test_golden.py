"""Hold every later engine to the command logs that this one and those before it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from tests.golden.conversations import CONVERSATIONS, FOLDER, folded, kept, record, workflow_of

from pulsaga.saga.branches import Branches
from pulsaga.saga.log import FORMAT, Entry, Progress
from pulsaga.saga.snapshots import load_branch, load_progress, read_entries

NAMES = sorted(path.name.partition(".")[0] for path in FOLDER.glob(f"*.v{FORMAT}.json"))
KEPT = [tuple(path.name.split(".v")) for path in sorted(FOLDER.glob("*.v*.json"))]
FORMATS = [(name, int(number.removesuffix(".json"))) for name, number in KEPT]


def logged(name: str, number: int = FORMAT) -> list[list[Entry]]:
    return [read_entries(orjson.dumps(move).decode()) for move in kept(name, number)["moves"]]


def states(name: str, number: int = FORMAT) -> list[Progress]:
    document = kept(name, number)
    trunks = [load_progress({"progress": orjson.dumps(state)}) for state in document["states"]]
    branches = document.get("branches", [{}] * len(trunks))
    return [_with(trunk, at) for trunk, at in zip(trunks, branches, strict=True)]


def _with(trunk: Progress, branches: Mapping[str, Any]) -> Progress:
    read = {path: load_branch({"state": orjson.dumps(state)}) for path, state in branches.items()}
    return trunk._replace(branches=Branches(read))


def test_every_conversation_is_kept() -> None:
    """A case that is in no file is held by nothing; `python -m tests.golden` writes it."""
    assert sorted(CONVERSATIONS) == NAMES
    assert {number for _, number in FORMATS} == set(range(1, FORMAT + 1))


@pytest.mark.parametrize(("name", "number"), FORMATS)
def test_a_kept_log_still_folds_to_the_states_it_led_to(name: str, number: int) -> None:
    """Sagas that began before an upgrade are read from the log and the row that the version before wrote."""
    assert folded(workflow_of(name), logged(name, number)) == states(name, number)


@pytest.mark.parametrize(("name", "number"), FORMATS)
def test_a_log_of_any_format_says_the_same(name: str, number: int) -> None:
    """What was written before reads as if it were written today."""
    assert (logged(name, number), states(name, number)) == (logged(name), states(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_happenings_still_make_the_same_log(name: str) -> None:
    """What happened to a saga decides what is sent and where it ends, whichever version decides."""
    document = kept(name)
    assert record(workflow_of(name), [tuple(line) for line in document["said"]]) == document


@pytest.mark.parametrize("name", NAMES)
def test_no_entry_but_a_note_can_be_left_out_of_a_kept_log(name: str) -> None:
    """The proof that the comparison looks: a log with an entry less leads elsewhere."""
    moves = logged(name)
    for number, entries in enumerate(moves):
        for entry in entries:
            rest = [other for other in entries if other is not entry]
            others = [*moves[:number], rest or [entry._replace(kind="timed-out")], *moves[number + 1 :]]
            assert entry.kind in NOTES or not _leads_to(name, others), entry.kind


def test_what_a_later_release_wrote_is_refused_by_its_number() -> None:
    """Read as if it were of today, a saga would be moved by what it does not say."""
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}"):
        read_entries(f'{{"format": {FORMAT + 1}, "entries": []}}')


NOTES = ("timed-out", "reply-lost", "undo-refused", "undo-failed", "resumed", "operator")
"""Entries that tell why the next one stands there; the state after the move is the same without them."""


def _leads_to(name: str, moves: list[list[Entry]]) -> bool:
    """Tell whether a log leads to the states that are kept; one of branches that never were leads nowhere."""
    try:
        return folded(workflow_of(name), moves) == states(name)
    except KeyError:
        return False
