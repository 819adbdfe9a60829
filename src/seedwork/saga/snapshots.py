"""Sagas as rows and messages keep them: progress, steps and entries in JSON, each with the number of its format.

What another release wrote is read as this one would have written it: format 1 had no number, and told steps by theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from pulsaga.delivery.transaction.rows import Row
from pulsaga.saga.log import FORMAT, Entry, Progress, StepState
from pulsaga.saga.messages import SagaMoved

Steps = Mapping[str, StepState]


def load_progress(row: Row) -> Progress:
    """Read the snapshot in a saga's row."""
    values = orjson.loads(row["progress"])
    _check(values.pop("format", 1))
    cause, reason = tuple(values.pop("cause")), tuple(values.pop("reason"))
    return Progress(**{**values, "steps": _steps(values["steps"]), "cause": cause, "reason": reason})


def snapshot_of(progress: Progress) -> str:
    """Write a saga's progress as its row keeps it."""
    kept = {"format": FORMAT, **progress._asdict(), "steps": _listed(progress.steps)}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


def write_steps(steps: Steps) -> str:
    """Write where each step stands, as a SagaMoved tells it."""
    return orjson.dumps({"format": FORMAT, "steps": _listed(steps)}).decode()


def read_steps(text: str) -> Steps:
    """Read where each step stands."""
    return _steps(_within("steps", text))


def shown_steps(steps: Steps) -> list[dict[str, Any]]:
    """Return where each step stands as people are shown it."""
    return [{**kept, "former": " ".join(kept["former"])} for kept in _listed(steps)]


def write_entries(entries: Iterable[Entry]) -> str:
    """Write log entries as a SagaMoved tells them."""
    return orjson.dumps({"format": FORMAT, "entries": [entry._asdict() for entry in entries]}).decode()


def read_entries(text: str) -> list[Entry]:
    """Read log entries back, for folding."""
    return [Entry(**_with_path(entry)) for entry in _within("entries", text)]


def entries_of(moved: SagaMoved) -> list[Entry]:
    """Read the log entries of a move back, for folding."""
    return read_entries(moved.entries)


def _within(name: str, text: str) -> Any:
    kept = orjson.loads(text)
    if isinstance(kept, list):
        return kept
    _check(kept["format"])
    return kept[name]


def _check(number: int) -> None:
    if number > FORMAT:
        raise ValueError(f"a saga is kept in format {number}, which a later release writes; this one reads {FORMAT}")


def _listed(steps: Steps) -> list[dict[str, Any]]:
    return [{"path": path, **step._asdict()} for path, step in steps.items()]


def _steps(kept: Iterable[Mapping[str, Any]]) -> Steps:
    steps = (_step({"path": str(number), **values}) for number, values in enumerate(kept))
    return {path: step for path, step in steps if step.status != "pending"}


def _step(values: dict[str, Any]) -> tuple[str, StepState]:
    former = values.pop("former", ())
    path = values.pop("path")
    return path, StepState(**values, former=tuple(former.split() if isinstance(former, str) else former))


def _with_path(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    if "step" not in kept:
        return kept
    number, others = kept["step"], {name: value for name, value in kept.items() if name != "step"}
    return {**others, "path": "" if number < 0 else str(number)}
