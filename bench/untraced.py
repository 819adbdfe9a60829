"""Run the program as if it had no spans: every hook is replaced by what does nothing, and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pulsaga.delivery import spans
from pulsaga.delivery.outbox import Outbox
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga_program.cli import main

HOOKS: dict[Any, Sequence[str]] = {
    spans: ("sending", "processing", "projected", "receiving"),
    Outbox: ("begin", "_end"),
    UnitOfWork: ("end_span",),
}
NOTHING = nullcontext()


def _nothing(*_: Any) -> None:
    """Stand for a hook."""


def _no_spans(*_: Any) -> AbstractContextManager[None]:
    return NOTHING


if __name__ == "__main__":
    for place, hooks in HOOKS.items():
        for hook in hooks:
            setattr(place, hook, _no_spans if hook == "receiving" else _nothing)
    main()
