"""Sagas as rows and messages keep them: progress, steps and entries in JSON."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from pulsaga.delivery.transaction.rows import Row
from pulsaga.saga.log import Entry, Progress, StepState
from pulsaga.saga.messages import SagaMoved


def load_progress(row: Row) -> Progress:
    """Read the snapshot in a saga's row."""
    values = orjson.loads(row["progress"])
    steps = tuple(StepState(**step) for step in values.pop("steps"))
    cause, reason = tuple(values.pop("cause")), tuple(values.pop("reason"))
    return Progress(**values, steps=steps, cause=cause, reason=reason)


def snapshot_of(progress: Progress) -> str:
    """Write a saga's progress as its row keeps it."""
    steps = [step._asdict() for step in progress.steps]
    return orjson.dumps({**progress._asdict(), "steps": steps}, option=orjson.OPT_SORT_KEYS).decode()


def json_of(told: Iterable[Entry] | Iterable[StepState]) -> str:
    """Write log entries or steps as a SagaMoved tells them."""
    return orjson.dumps([one._asdict() for one in told]).decode()


def entries_of(moved: SagaMoved) -> list[Entry]:
    """Read the log entries of a move back, for folding."""
    return [Entry(**entry) for entry in orjson.loads(moved.entries)]
