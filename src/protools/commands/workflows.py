"""Offer `protools workflows`: what is declared, how it looks, and whether running sagas can go on with it."""

from __future__ import annotations

import sys

import click

from pulsaga.delivery.messages import contract_of
from pulsaga.located import the_system
from pulsaga.operate.listing import Listing, lists
from pulsaga.operate.sagas import progress_of
from pulsaga.operate.workflows import stranded
from pulsaga.saga.definition import Saga
from pulsaga.saga.graph import mermaid
from pulsaga.saga.log import Progress
from pulsaga_program.commands.operators import the_runtimes
from pulsaga_program.terminal import example, tell


@click.group(epilog=example("workflows list"))
def workflows() -> None:
    """Look at the workflows of the system."""


@workflows.command("list", epilog=example("workflows list"))
@lists
def list_workflows() -> Listing:
    """List what is declared: name and version, the command that starts it, the number of its commands."""
    declared = sorted(the_system().sagas.workflows.items())
    rows = [
        {"workflow": key, "starts": contract_of(one.starts).name, "steps": len(one.leaves)} for key, one in declared
    ]
    return Listing(("workflow", "starts", "steps"), rows, f"{len(rows)} workflows")


@workflows.command(epilog=example("workflows graph place-order"))
@click.argument("name")
@click.option("--saga", "saga_id", metavar="ID", help="Mark where this saga stands.")
def graph(name: str, saga_id: str | None) -> None:
    """Draw the workflow NAME, or NAME@VERSION, as a Mermaid flowchart."""
    workflow = _workflow(name)
    if saga_id is None:
        click.echo(mermaid(workflow), nl=False)
        return
    progress = _progress(saga_id)
    if progress.workflow != workflow.key:
        raise click.UsageError(f"{saga_id} is a saga of {progress.workflow}")
    click.echo(mermaid(workflow, progress.all_steps), nl=False)


@workflows.command(epilog=example("workflows check"))
def check() -> None:
    """Say which sagas that have not ended could not go on with what is declared; exit 1 when there are any."""
    with the_runtimes() as runtimes:
        number, found = stranded(runtimes)
    for one in found:
        tell(f"{one.workflow}  {one.sagas} sagas, such as {one.example}: {one.why}")
    tell(f"{number} sagas have not ended, {sum(one.sagas for one in found)} of them could not go on")
    sys.exit(1 if found else 0)


def _progress(saga_id: str) -> Progress:
    with the_runtimes() as runtimes:
        progress = progress_of(runtimes, saga_id)
    if progress is None:
        raise click.UsageError(f"there is no saga {saga_id}")
    return progress


def _workflow(name: str) -> Saga[object]:
    declared = the_system().sagas.workflows
    versions = [one for one in declared.values() if name in (one.key, one.name)]
    if not versions:
        raise click.UsageError(f"there is no workflow {name}: {', '.join(sorted(declared))}")
    return max(versions, key=lambda one: one.version)
