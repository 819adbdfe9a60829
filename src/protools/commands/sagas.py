"""Offer `protools sagas`: where they stand, what happened to them, and moving them by hand."""

from __future__ import annotations

from typing import get_args

import click

from pulsaga.operate import letters, sagas
from pulsaga.operate.listing import Listing, lists
from pulsaga.operate.timeline import timeline
from pulsaga.saga.happenings import Action
from pulsaga.saga.log import Status
from pulsaga_program.commands.operators import acting, as_json, operator, tell_done, the_runtimes
from pulsaga_program.terminal import SOME_ID, Time, example, tell, tell_json


@click.group("sagas", epilog=example("sagas list"))
def sagas_group() -> None:
    """Look at sagas, and move those that cannot move by themselves."""


@sagas_group.command("list", epilog=example("sagas list --subject ada --status ALL --since 1d --watch"))
@click.option(
    "--status",
    type=click.Choice([*get_args(Status), "ALL"], case_sensitive=False),
    help="By default SUSPENDED; with --subject, --workflow or --since ALL.",
)
@click.option("--suspended", "status", flag_value="SUSPENDED", help="Those that need an operator.")
@click.option("--workflow", metavar="NAME", help="Of this workflow: a name, or name@version.")
@click.option("--subject", help="About this subject, whole.")
@click.option("--since", type=Time(), metavar="TIME", help="Asked for since: RFC 3339, or 90s, 15m, 2h, 1d ago.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@lists
def list_sagas(
    status: str | None, workflow: str | None, subject: str | None, since: float | None, limit: int
) -> Listing:
    """List sagas, without options those that need an operator.

    Those that have not ended come with the longest unmoved first; where ended ones are among them, the newest first.
    """
    some = bool(workflow or subject or since)
    wanted = sagas.Wanted(
        status=_status(status or ("ALL" if some else "SUSPENDED")),
        workflow=workflow,
        subject=subject,
        since=since or 0.0,
        limit=limit,
    )
    with the_runtimes() as runtimes:
        found = sagas.sagas(runtimes, wanted)
    return Listing(("moved_at", "id", "status", "workflow", "subject", "reason"), found, f"{len(found)} sagas")


def _status(text: str) -> Status | None:
    return next((status for status in get_args(Status) if status == text.upper()), None)


@sagas_group.command("show", epilog=example(f"sagas show {SOME_ID}"))
@click.argument("identifier", metavar="ID")
@as_json
def show_saga(identifier: str, as_json: bool) -> None:
    """Show one saga as a time line, where it stands, what operators did, and what they may do.

    Times are seconds since it started. With --json also where each step stands.
    """
    with the_runtimes() as runtimes:
        shown = sagas.log_of(runtimes, identifier) if as_json else timeline(runtimes, identifier)
        if shown is None:
            raise click.UsageError(f"there is no saga {identifier}")
        audited = letters.audit_of(runtimes, runtimes.system.name, identifier)
    if isinstance(shown, dict):
        tell_json(shown | {"audit": audited})
        return
    for line in shown:
        tell(line)
    for row in audited:
        tell(f"audit: {row['at']}  {row['who']}  {row['action']}: {row['why']}")


def _action(action: Action, help_text: str) -> None:
    @sagas_group.command(action, help=help_text, epilog=example(f"sagas {action} {SOME_ID} --why 'it is back'"))
    @click.argument("identifier", metavar="ID")
    @acting
    def command(identifier: str, who: str | None, why: str) -> None:
        with the_runtimes() as runtimes:
            done = sagas.act(runtimes, identifier, action, operator(runtimes.settings, who, why))
        tell_done(done, f"{action} of saga {identifier}")


_action("resume", "Go on with a suspended saga: ask again, under the same command id, with a fresh deadline.")
_action("pause", "Let nothing happen to a saga until `resume`: its answers wait, and its deadlines begin anew then.")
_action("retry-step", "Issue anew, under a new command id, a step that was refused or failed for good.")
_action("compensate", "Give up and undo what was done, before the pivot was issued or after it came to nothing.")
_action("cancel", "Give up and undo what was done, before the pivot was issued; the front door says `cancelled`.")
