"""Offer `protools pause`, `protools resume` and `protools pauses`: messages that are to wait at the broker."""

from __future__ import annotations

from collections.abc import Callable

import click

from pulsaga.operate import pausing
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.operate.listing import Listing, lists
from pulsaga_program.commands.operators import (
    ServiceName,
    acting,
    in_service,
    operator,
    tell_done,
    the_runtimes,
)
from pulsaga_program.terminal import example

Deed = Callable[[Runtimes, str, str | None, Signature], bool]
a_service = click.argument("service", type=ServiceName())
a_type = click.argument("message_type", required=False)


@click.command(epilog=example("pause stock stock.reserve --why 'the warehouse counts'"))
@a_service
@a_type
@acting
def pause(service: str, message_type: str | None, who: str | None, why: str) -> None:
    """Let no worker of SERVICE take messages, or none of MESSAGE_TYPE (`stock.reserve`), until `protools resume`.

    They wait at the broker; a batch in hand is finished. Deadlines of sagas run on.
    """
    _act("pause", pausing.pause, service, message_type, operator_of=(who, why))


@click.command(epilog=example("resume stock --why 'counted'"))
@a_service
@a_type
@acting
def resume(service: str, message_type: str | None, who: str | None, why: str) -> None:
    """End what `protools pause` of the same began: workers go on within seconds."""
    _act("resume", pausing.resume, service, message_type, operator_of=(who, why))


def _act(name: str, deed: Deed, service: str, message_type: str | None, *, operator_of: tuple[str | None, str]) -> None:
    with the_runtimes() as runtimes:
        done = deed(runtimes, service, message_type, operator(runtimes.settings, *operator_of))
    tell_done(done, f"{name} {service}{f' {message_type}' if message_type else ''}")


@click.command(epilog=example("pauses"))
@in_service
@lists
def pauses(service: str | None) -> Listing:
    """List what is paused, the longest first, with who and why."""
    with the_runtimes() as runtimes:
        found = pausing.pauses(runtimes, [service] if service else runtimes.system.names)
    return Listing(("at", "service", "topic", "who", "why"), found, f"{len(found)} pauses")
