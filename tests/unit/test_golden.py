"""Hold every later engine to the command logs that this one wrote."""

from __future__ import annotations

import orjson
import pytest
from tests.golden.conversations import CONVERSATIONS, FOLDER, folded, kept, record, workflow_of

from pulsaga.saga.log import Entry, Progress
from pulsaga.saga.snapshots import load_progress

NAMES = sorted(path.name.partition(".")[0] for path in FOLDER.glob("*.v1.json"))


def logged(name: str) -> list[list[Entry]]:
    return [[Entry(**entry) for entry in move] for move in kept(name)["moves"]]


def states(name: str) -> list[Progress]:
    return [load_progress({"progress": orjson.dumps(state)}) for state in kept(name)["states"]]


def test_every_conversation_is_kept() -> None:
    """A case that is in no file is held by nothing; `python -m tests.golden` writes it."""
    assert sorted(CONVERSATIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_log_still_folds_to_the_states_it_led_to(name: str) -> None:
    """Sagas that began before an upgrade are read from the log that the version before wrote."""
    assert folded(workflow_of(name), logged(name)) == states(name)


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
            told = folded(
                workflow_of(name), [*moves[:number], rest or [entry._replace(kind="timed-out")], *moves[number + 1 :]]
            )
            assert entry.kind in NOTES or told != states(name), entry.kind


NOTES = ("timed-out", "reply-lost", "undo-refused", "undo-failed", "resumed")
"""Entries that tell why the next one stands there; the state after the move is the same without them."""
