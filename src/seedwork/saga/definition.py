"""Workflows as data: a saga and its steps, forward and back side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pulsaga.delivery.messages import MEMORY_S

Data = Mapping[str, Any]


def minutes(number: float) -> float:
    """Return seconds."""
    return number * 60


def hours(number: float) -> float:
    """Return seconds."""
    return number * 3600


@dataclass(frozen=True)
class Every:
    """Say after how many seconds of silence a command may be sent again."""

    seconds: float


def _learn_nothing(_reply: Any) -> Data:
    return {}


@dataclass(frozen=True, kw_only=True)
class Step:
    """Describe one step, forward and back side by side."""

    command: Callable[[Data], Any]
    """Saga data → body of the command."""
    learn: Callable[[Any], Data] = _learn_nothing
    """Body of the reply → what is added to the saga's data."""
    compensation: Callable[[Data, str], Any] | None = None
    """Saga data and the id of the command to undo → body of the compensating command."""
    retry: Every = Every(seconds=5)
    deadline: float
    """Seconds from issuing; before the pivot it compensates, from the pivot on it suspends."""
    pivot: bool = False
    late: Literal["ignore", "park"] = "park"
    """What a success does that arrives after giving up on a step without compensation."""

    def __post_init__(self) -> None:
        if not 0 < self.deadline <= MEMORY_S:
            raise ValueError(f"a deadline of {self.deadline:g} s: a command is good for more than 0 and {MEMORY_S:g} s")


@dataclass(frozen=True, kw_only=True)
class Saga:
    """Name a workflow and its steps in order. A running saga finishes on the `name@version` it began with."""

    name: str
    steps: list[Step]
    version: int = 1

    @property
    def key(self) -> str:
        """Name and version, as stored with every saga."""
        return f"{self.name}@{self.version}"

    @property
    def pivot(self) -> int:
        """Index of the pivot; without one, every step may be compensated."""
        return next((index for index, step in enumerate(self.steps) if step.pivot), len(self.steps))
