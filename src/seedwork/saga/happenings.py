"""What happens to a saga, and what it asks to be sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Outgoing:
    """Ask for a command to be sent under this id; a re-sent command keeps its id."""

    command_id: str
    body: Any
    token_for: type | None = None
    """The signal for which it brings a token."""


@dataclass(frozen=True)
class Replied:
    """Happening: the command was done."""

    command_id: str
    body: Any


@dataclass(frozen=True)
class Refused:
    """Happening: the receiver said no, and did nothing."""

    command_id: str
    code: str
    detail: str


@dataclass(frozen=True)
class Failed:
    """Happening: the command became a dead letter at its receiver, or its reply at the coordinator (`reply_lost`)."""

    command_id: str
    code: str
    detail: str
    reply_lost: bool = False


@dataclass(frozen=True)
class Due:
    """Happening: a `wake_at` has passed; `branches` are the paths of those whose it was, empty for the trunk's."""

    branches: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Silent:
    """Happening: the outstanding command of a branch may be sent again."""

    branch: str = ""


@dataclass(frozen=True)
class Granted:
    """Happening: it is the turn of a step that waits for it."""

    path: str


@dataclass(frozen=True)
class Signalled:
    """Happening: a signal came; `body` is its message."""

    body: Any


Action = Literal["resume", "retry-step", "compensate", "cancel", "pause"]


@dataclass(frozen=True)
class Operator:
    """Happening: somebody who answers for it wants the saga moved."""

    action: Action
    who: str
    why: str


@dataclass(frozen=True)
class Cancelled:
    """Happening: what was asked for is wanted no more."""

    who: str


Happening = Replied | Refused | Failed | Due | Silent | Granted | Signalled | Operator | Cancelled
