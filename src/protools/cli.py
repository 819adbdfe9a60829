"""Offer every part of Protools as one command, `protools`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
import structlog

from pulsaga.errors import ProtoolsError, SettingError
from pulsaga.operate.listing import Listing, lists
from pulsaga.text import printable
from pulsaga_program.terminal import Time, example

if TYPE_CHECKING:
    from pulsaga.settings import Settings
    from pulsaga.system import System
    from pulsaga_program.local import LocalPostgres, LocalPulsar
    from pulsaga_program.local.postgres import StopMode

WRONG_SETTING = 2
"""Exit code of a process that was refused its settings: starting it again would not help."""

LAZY = {
    "dead-letters": ("pulsaga_program.commands.letters", "dead_letters"),
    "incidents": ("pulsaga_program.commands.operators", "incidents_group"),
    "sagas": ("pulsaga_program.commands.sagas", "sagas_group"),
    "doctor": ("pulsaga_program.commands.doctor", "command"),
    "status": ("pulsaga_program.commands.status", "command"),
    "start": ("pulsaga_program.commands.starting", "command"),
    "logs": ("pulsaga_program.commands.logs", "command"),
    "webhooks": ("pulsaga_program.commands.webhooks", "webhooks"),
    "targets": ("pulsaga_program.commands.targets", "command"),
    "schedules": ("pulsaga_program.commands.schedules", "schedules"),
    "workflows": ("pulsaga_program.commands.workflows", "workflows"),
    "make": ("pulsaga_program.commands.make", "make"),
    "erase": ("pulsaga_program.commands.erasing", "command"),
    "pause": ("pulsaga_program.commands.pausing", "pause"),
    "pauses": ("pulsaga_program.commands.pausing", "pauses"),
    "projections": ("pulsaga_program.commands.projections", "projections"),
    "resume": ("pulsaga_program.commands.pausing", "resume"),
    "retention": ("pulsaga_program.commands.retention", "command"),
    "faults": ("pulsaga_program.commands.faults", "faults"),
    "keys": ("pulsaga_program.commands.access", "keys_group"),
    "token": ("pulsaga_program.commands.access", "token_group"),
    "webhook-secret": ("pulsaga_program.commands.access", "webhook_secret"),
}
"""Commands that are imported only when somebody calls for them: module and name."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn our own errors into one line on stderr: exit 2 for a wrong setting, 1 for the rest."""
    try:
        yield
    except ProtoolsError as error:
        for line in f"protools: {error}".split("\n"):
            click.echo(printable(line), err=True)
        sys.exit(WRONG_SETTING if isinstance(error, SettingError) else 1)


def _system() -> System:
    from pulsaga.located import the_system

    return the_system()


def _settings() -> Settings:
    from pulsaga.settings import Settings

    return Settings.read()


class _Commands(click.Group):
    """Offer what is in LAZY, too; take no argument that is not text: no database, audit or log could keep it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for given in args:
            if given != given.encode(errors="replace").decode():
                raise click.UsageError(f"not UTF-8: {printable(given)}", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as no:  # click knows of those alone that are imported already
            known = self.list_commands(ctx)
            raise click.NoSuchCommand(no.command_name, possibilities=known, ctx=ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LAZY, *_of_services()])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if (known := super().get_command(ctx, name)) is not None:
            return known
        module, attribute = LAZY.get(name) or _of_services().get(name, ("", ""))
        found: click.Command | None = getattr(import_module(module), attribute) if module else None
        return found


def _of_services() -> dict[str, tuple[str, str]]:
    """Return the commands that the system's services add; none where no system is to be had."""
    try:
        services = _system().all
    except ProtoolsError:
        return {}
    found = (
        (name, reference.partition(":")) for service in services for name, reference in service.command_line.items()
    )
    return {name: (module, attribute) for name, (module, _, attribute) in found}


EXIT_CODES = """
Exit codes: 0 done; 1 refused, or not as it should be: the reason is on standard error; 2 wrong input, or a setting with
a wrong value; 3 recorded, another operator has to do the same; 130 stopped by Ctrl-C.
"""


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{example('up')}\n{EXIT_CODES}",
)
@click.version_option(package_name="pulsaga", message="%(prog)s %(version)s")
def commands() -> None:
    """Run sagas over Apache Pulsar."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # what is printed may be piped on


def main() -> None:
    """Run the command line; the entry point of the console script. What it makes is its owner's alone."""
    os.umask(0o077)
    with plain_errors():
        commands(prog_name="protools")


supervised = click.option("--supervisor", type=int, hidden=True, help="Process id of the parent to end with.")


def _end_with(supervisor: int | None) -> None:
    if supervisor is not None:
        from pulsaga_program.child import end_with

        end_with(supervisor)


@commands.group(epilog=example("broker start"))
def broker() -> None:
    """Run a local Pulsar, without Docker (fetched by Maven the first time)."""


def _pulsar() -> LocalPulsar:
    from pulsaga_program.local import LocalPulsar

    return LocalPulsar.recorded(_settings().home / "pulsar")


def _started_pulsar() -> LocalPulsar:
    from pulsaga_program.local import LocalServerError

    pulsar = _pulsar()
    if not (pulsar.folder / "pulsar.pid").exists():
        raise LocalServerError(f"there is no broker in {pulsar.folder} yet: start it first")
    return pulsar


def _exports(environment: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


@broker.command("start", epilog=example("broker start --port 6651"))
@click.option("--port", default=6650, show_default=True, help="Port for clients.")
@click.option("--admin-port", default=8080, show_default=True, help="Port of the admin interface.")
@click.option("--sync/--no-sync", default=True, help="Whether the journal is flushed to disk before an answer.")
def broker_start(port: int, admin_port: int, sync: bool) -> None:
    """Start the broker and wait until it is healthy; print the variables that point at it."""
    from pulsaga_program.home import keep_private
    from pulsaga_program.local import LocalPulsar

    keep_private(_settings().home)
    pulsar = LocalPulsar(_settings().home / "pulsar", port=port, admin_port=admin_port, journal_sync=sync)
    click.echo(f"starting Pulsar in {pulsar.folder} (the first time it is fetched, some 245 MB)", err=True)
    pulsar.start()
    click.echo(_exports(pulsar.environment()))


@broker.command("stop", epilog=example("broker stop"))
def broker_stop() -> None:
    """Stop the broker; what it has accepted stays on disk."""
    _pulsar().stop()


@broker.command("status", epilog=example("broker status"))
def broker_status() -> None:
    """Say whether the broker runs and is healthy; exit 1 when it does not."""
    pulsar = _pulsar()
    _tell("Pulsar", pulsar.pid(), pulsar.is_ready(), pulsar.url)


@broker.command("env", epilog=example('broker env  (eval "$(protools broker env)")'))
def broker_env() -> None:
    """Print the variables that point at the broker, for `eval`."""
    click.echo(_exports(_started_pulsar().environment()))


@broker.command("logs", epilog=example("broker logs -n 200"))
@click.option("-n", "--lines", default=50, show_default=True)
def broker_logs(lines: int) -> None:
    """Print the end of the broker's log."""
    from pulsaga_program.local.process import tail
    from pulsaga_program.terminal import tell

    for line in tail(_pulsar().log, lines).splitlines():
        tell(line)


@broker.command("embedded", hidden=True, context_settings={"ignore_unknown_options": True})
@supervised
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def broker_embedded(supervisor: int | None, arguments: tuple[str, ...]) -> None:
    """Run the embedded broker in the foreground, with its own options."""
    import runpy

    from pulsaga.telemetry.logs import configure_logging

    _end_with(supervisor)
    configure_logging(_settings().log_format, _settings().log_level, process="broker")
    sys.argv[1:] = arguments
    runpy.run_module("pulsaga.broker.embedded_server", run_name="__main__", alter_sys=True)


def _tell(name: str, pid: int | None, ready: bool, address: str) -> None:
    if pid is None:
        click.echo(f"{name} does not run")
        sys.exit(1)
    click.echo(f"{name} runs as process {pid} at {address}: {'ready' if ready else 'not ready yet'}")
    sys.exit(0 if ready else 1)


@commands.group(epilog=example("postgres start"))
def postgres() -> None:
    """Run a private PostgreSQL cluster."""


def _postgres() -> LocalPostgres:
    from pulsaga_program.local import LocalPostgres

    return LocalPostgres.recorded(_settings().home / "postgres")


@postgres.command("start", epilog=example("postgres start --port 5434"))
@click.option("--port", default=5433, show_default=True)
def postgres_start(port: int) -> None:
    """Start the cluster, creating it the first time; print the variables that point at it."""
    from pulsaga_program.home import keep_private
    from pulsaga_program.local import LocalPostgres
    from pulsaga_program.terminal import this_program

    keep_private(_settings().home)
    server = LocalPostgres(_settings().home / "postgres", port=port)
    server.start()
    click.echo(f'running; point Protools at it with: eval "$({this_program()} postgres env)"')


@postgres.command("stop", epilog=example("postgres stop --mode smart"))
@click.option("--mode", type=click.Choice(["smart", "fast", "immediate"]), default="fast", show_default=True)
def postgres_stop(mode: StopMode) -> None:
    """Stop the cluster; its data stays on disk."""
    _postgres().stop(mode)


@postgres.command("status", epilog=example("postgres status"))
def postgres_status() -> None:
    """Say whether the cluster runs; exit 1 when it does not."""
    server = _postgres()
    _tell("PostgreSQL", server.pid(), server.is_ready(), f"127.0.0.1:{server.port}")


@postgres.command("env", epilog=example('postgres env  (eval "$(protools postgres env)")'))
def postgres_env() -> None:
    """Print the DB_* variables that point at the cluster, for `eval`; a password is among them."""
    click.echo(_exports(_postgres().environment()))


@postgres.command("url", epilog=example('postgres url  (psql "$(protools postgres url)")'))
def postgres_url() -> None:
    """Print the URL of the maintenance database as psql takes it, password included."""
    click.echo(_postgres().url.replace("+psycopg", "", 1))  # SQLAlchemy's name of a driver


@commands.command("env", epilog=example('env  (eval "$(protools env)")'))
def local_env() -> None:
    """Print every variable that points Protools at the local Pulsar and PostgreSQL, keys included, for `eval`."""
    settings = _settings()
    click.echo(_exports({**_started_pulsar().environment(), **_postgres().environment(), **_kept_keys(settings)}))


def _kept_keys(settings: Settings) -> dict[str, str]:
    """Return the keys that embedded mode keeps under the home folder, making those it lacks."""
    from base64 import b64encode

    from pulsaga_program.preflight import keys_of, secrets_of

    embedded = type(settings).read({"PROTOOLS_HOME": str(settings.home)})
    keys = {name: b64encode(embedded.key(name)).decode() for name in keys_of(_system())}
    return keys | {name: embedded.secret(name).decode() for name in secrets_of(_system())}


@commands.group(epilog=example("config show"))
def config() -> None:
    """Look at the settings."""


@config.command("show", epilog=example("config show --running"))
@click.option("--running", is_flag=True, help="What the processes that run use; those that differ are named.")
@lists
def config_show(running: bool) -> Listing:
    """Print every setting in force by the name of its variable, secrets hidden."""
    if running:
        from pulsaga.operate.status.remote import settings_in_force

        rows = _differing(settings_in_force(_system(), _settings()))
        return Listing(("setting", "value", "processes"), rows, f"{len(rows)} settings")
    rows = [{"setting": name, "value": value} for name, value in _system().shown(_settings()).items()]
    return Listing(("setting", "value"), rows, f"{len(rows)} settings")


def _differing(found: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return each setting with its value, and which processes have it where they differ."""
    values: dict[str, dict[str, list[str]]] = {}
    for process, settings in found.items():
        for variable, value in settings.items():
            values.setdefault(variable, {}).setdefault(value, []).append(process)
    return [
        {"setting": variable, "value": value, "processes": ", ".join(who) if len(known) > 1 else ""}
        for variable, known in values.items()
        for value, who in known.items()
    ]


@commands.command(epilog=example("run stock worker"))
@click.argument("service")
@click.argument("kind")
@supervised
def run(service: str, kind: str, supervisor: int | None) -> None:
    """Run one process: KIND (web, worker, or one of its own) of SERVICE, in the foreground."""
    _end_with(supervisor)
    if supervisor is not None:
        from pulsaga_program.child import show_pulse

        show_pulse()
    from pulsaga_program.processes import run as run_process

    run_process(_system(), service, kind, _settings(), alone=supervisor is None)


@commands.command("bootstrap", epilog=example("bootstrap --replicas stock=3"))
@click.option(
    "--replicas",
    multiple=True,
    metavar="SERVICE[.KIND]=N",
    help="How many processes are to run, where that is not one of each: fewer are an incident. It is kept.",
)
def bootstrap_command(replicas: tuple[str, ...]) -> None:
    """Create databases, topics, schemas and subscriptions; safe to repeat."""
    from pulsaga.telemetry.logs import configure_logging
    from pulsaga_program.bootstrap import bootstrap
    from pulsaga_program.preflight import check_front_door, check_values
    from pulsaga_program.up import replica_counts

    settings, system = _settings(), _system()
    check_values(system, settings)
    check_front_door(system)
    said = replica_counts(dict.fromkeys(system.processes, -1), replicas, least=0)
    configure_logging(settings.log_format, settings.log_level, process="bootstrap")
    bootstrap(system, settings, counts={process: count for process, count in said.items() if count >= 0})


@commands.command("verify", epilog=example("verify --live --since 1d"))
@click.option(
    "--since", type=Time(), metavar="TIME", help="Only commands accepted since: RFC 3339, or 90s, 15m, 2h, 1d ago."
)
@click.option(
    "--live",
    is_flag=False,
    flag_value="30",
    type=click.FloatRange(min=0),
    metavar="[SECONDS]",
    help="On a running system: leave out what was accepted or moved within SECONDS (30).",
)
@click.option("--json", "as_json", is_flag=True, help="Print every id, as JSON.")
def verify_command(since: float | None, live: float | None, as_json: bool) -> None:
    """Check that nothing was lost, doubled or stuck; exit 1 when something was. Reads only."""
    from pulsaga.operate.verify.report import verify
    from pulsaga.operate.verify.scope import Scope
    from pulsaga.running.process import collect_seldom
    from pulsaga_program.terminal import tell, tell_json

    collect_seldom()
    report = verify(_system(), _settings(), Scope(since=since, live_s=live))
    if as_json:
        tell_json(report.document())
    else:
        for line in report.lines():
            tell(line)
    sys.exit(1 if report.defects else 0)


@commands.command(epilog=example("up --replicas stock=3"))
@click.option(
    "--replicas",
    multiple=True,
    metavar="SERVICE[.KIND]=N",
    help="e.g. stock=3 (its worker), stock.web=2 (both on its port)",
)
@click.option(
    "--only",
    multiple=True,
    metavar="SERVICE",
    help="A service to run beside coordinator and front door; by default all. What is sent to the others waits.",
)
def up(replicas: tuple[str, ...], only: tuple[str, ...]) -> None:
    """Run the whole system on this machine until Ctrl-C."""
    from pulsaga_program.up import up as run_all

    sys.exit(run_all(_system(), _settings(), replicas, only))
