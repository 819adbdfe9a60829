"""Sagas as rows and messages keep them: progress, steps and entries in JSON, each with the number of its format.

What another release wrote is read as this one would have written it: format 1 had no number, and told steps by theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from pulsaga.delivery.transaction.rows import Row
from pulsaga.saga.branches import Branch, Branches, Fork, Kept, StepState
from pulsaga.saga.log import FORMAT, Entry, Progress
from pulsaga.saga.messages import SagaMoved

Steps = Mapping[str, StepState]
RECENT = 100
"""Sagas with branches whose progress a process has in hand."""


def load_progress(row: Row, kept: Kept | None = None) -> Progress:
    """Read the snapshot in a saga's row; `kept` has its branches, if there are any."""
    values = orjson.loads(row["progress"])
    _check(values.pop("format", 1))
    cause, reason = tuple(values.pop("cause")), tuple(values.pop("reason"))
    forks = _forks(values.pop("forks", {}))
    read = {"steps": _steps(values["steps"]), "forks": forks, "cause": cause, "reason": reason}
    return Progress(**{**values, **read}, branches=Branches(kept=kept if forks else None))


def snapshot_of(progress: Progress) -> str:
    """Write a saga's progress as its row keeps it: without its branches, which have rows of their own."""
    kept = {"format": FORMAT, **progress._asdict(), "steps": _listed(progress.steps), "forks": _plain(progress.forks)}
    del kept["branches"]
    if not progress.forks:
        del kept["forks"], kept["stuck"]
    if not progress.early:
        del kept["early"]
    if not progress.paused:
        del kept["paused"]
    return _written(kept)


class Recent:
    """Where sagas stand that a process has moved last, with the text in their rows: many moves of one come together."""

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[str, Progress]] = {}

    def read(self, row: Row, kept: Kept) -> Progress:
        """Do as `load_progress`; what another process has moved since has another text."""
        text, progress = self._by_id.get(row["id"], ("", None))
        if progress is None or text != row["progress"]:
            return load_progress(row, kept)
        return progress._replace(branches=Branches(kept=kept))

    def write(self, progress: Progress) -> str:
        """Do as `snapshot_of`."""
        text = snapshot_of(progress)
        if progress.forks:
            if len(self._by_id) >= RECENT:
                self._by_id.clear()
            self._by_id[progress.saga_id] = text, progress._replace(branches=Branches())
        return text


def load_branch(row: Row) -> Branch:
    """Read the snapshot in a branch's row."""
    values = orjson.loads(row["state"])
    _check(values.pop("format"))
    return Branch(**{**values, "steps": _steps(values["steps"]), "forks": _forks(values["forks"])})


def snapshot_of_branch(branch: Branch) -> str:
    """Write where a branch stands as its row keeps it."""
    kept = {"format": FORMAT, **branch._asdict(), "steps": _listed(branch.steps), "forks": _plain(branch.forks)}
    return _written(kept)


def write_steps(
    steps: Steps, branches: Mapping[str, Branch] | None = None, tokens: Mapping[str, str] | None = None
) -> str:
    """Write where each step stands of the trunk, and of branches that have moved, as a SagaMoved tells it.

    `tokens` are the signals for which this move has given out tokens, by the digests of these.
    """
    told: dict[str, Any] = {"format": FORMAT, "steps": _listed(steps)}
    if branches:
        told["branches"] = {path: _listed(branch.steps) for path, branch in branches.items()}
    if tokens:
        told["tokens"] = tokens
    return orjson.dumps(told).decode()


def read_tokens(text: str) -> Mapping[str, str]:
    """Read for which signals a move has given out tokens, by the digests of these."""
    kept = orjson.loads(text)
    tokens: Mapping[str, str] = {} if isinstance(kept, list) else kept.get("tokens", {})
    return tokens


def read_steps(text: str) -> Steps:
    """Read where each step of the trunk stands."""
    return _steps(_within("steps", text))


def read_branches(text: str) -> Mapping[str, Steps]:
    """Read where each step stands of the branches that have moved, by their paths."""
    kept = orjson.loads(text)
    return {} if isinstance(kept, list) else {path: _steps(steps) for path, steps in kept.get("branches", {}).items()}


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


def _written(kept: Mapping[str, Any]) -> str:
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


def _plain(forks: Mapping[str, Fork]) -> Mapping[str, Any]:
    return {path: fork._asdict() for path, fork in forks.items()}


def _forks(kept: Mapping[str, Any]) -> Mapping[str, Fork]:
    return {path: Fork(**{**fork, "cause": tuple(fork["cause"])}) for path, fork in kept.items()}


def _check(number: int) -> None:
    if number > FORMAT:
        raise ValueError(f"a saga is kept in format {number}, which a later release writes; this one reads {FORMAT}")


def _listed(steps: Steps) -> list[dict[str, Any]]:
    return [_listed_step(path, step) for path, step in steps.items()]


def _listed_step(path: str, step: StepState) -> dict[str, Any]:
    kept = {"path": path, **step._asdict()}
    if not step.signal:  # few steps wait for one
        del kept["signal"]
    return kept


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
