"""Decide what `protools up` runs on this machine: which programs, in which order, on which ports."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from pulsaga.errors import ProtoolsError
from pulsaga.faults import RuleBook
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.home import keep_private
from pulsaga_program.local.process import PortInUse, only_one, port_is_free
from pulsaga_program.logs import LogFolder
from pulsaga_program.supervisor import Program, Role, Supervisor
from pulsaga_program.terminal import this_program

REPLICAS = re.compile(r"(?P<service>\w+)(\.(?P<kind>\w+))?=(?P<count>\d{1,2})")


class UnknownService(ProtoolsError):
    """Say which --only names no service."""


class WrongReplicas(ProtoolsError):
    """Say which part of --replicas names no process, or no count from 1 to 99."""


def up(system: System, settings: Settings, replicas: Sequence[str] = (), only: Sequence[str] = ()) -> int:
    """Run the system, or a part of it, until Ctrl-C; return the exit code. Refuse a home or a port that is taken."""
    from pulsaga_program.preflight import check_system

    check_system(system, settings)
    counts = replica_counts(dict.fromkeys(processes_of(system, only), 1), replicas)
    busy = f"another `protools up` runs on {settings.home}: stop it first, or set PROTOOLS_HOME"
    keep_private(settings.home)
    with only_one(settings.home / "up.lock", busy):
        refuse_taken_ports(system, settings, counts)
        _begin_faults(settings)
        programs = [
            *embedded_broker(settings),
            _bootstrap(system, settings, counts),
            *service_programs(settings, counts),
        ]
        with closing(LogFolder(settings.home / "logs")) as logs:
            return Supervisor(
                programs, when_ready=lambda seconds: try_next(system, settings, seconds), keep=logs.write
            ).run()


def _begin_faults(settings: Settings) -> None:
    """Begin with the rules of PROTOOLS_FAULTS and no counts; without it, with nothing that a rule could be added to."""
    settings.fault_file.unlink(missing_ok=True)
    if settings.faults is not None:
        RuleBook(settings.fault_file).ensure(settings.faults)


def processes_of(system: System, only: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Return the processes of some services, with the coordinator's and the front door's; by default all there are."""
    if unknown := sorted({*only} - {*system.names}):
        raise UnknownService(f"--only {unknown[0]}: there is no such service, of {', '.join(system.names)}")
    part = {*(only or system.names), system.name, *([system.door.name] if system.door else [])}
    return [process for process in system.processes if process[0] in part]


def replica_counts(
    counts: Mapping[tuple[str, str], int], replicas: Sequence[str], *, least: int = 1
) -> dict[tuple[str, str], int]:
    """Return how many of each process to run: `SERVICE=N` means its worker, `SERVICE.KIND=N` any kind."""
    changed = dict[tuple[str, str], int]()
    for text in replicas:
        match = REPLICAS.fullmatch(text)
        process = (match["service"], match["kind"] or "worker") if match else ("", "")
        count = int(match["count"]) if match else 0
        if process not in counts or count < least:
            known = ", ".join(f"{service}.{kind}" for service, kind in counts)
            raise WrongReplicas(f"--replicas {text}: SERVICE=N or SERVICE.KIND=N is expected, of {known}")
        changed[process] = count
    return {**counts, **changed}


def service_programs(settings: Settings, counts: Mapping[tuple[str, str], int]) -> Iterator[Program]:
    """Yield one program for each replica of each process, in starting order."""
    port = settings.operators_port
    for (service, kind), count in counts.items():
        for replica in range(count):
            own = {"OPERATORS_PORT": str(port)}
            port += port > 0
            yield Program(
                name=f"{service}.{kind}" + (f".{replica + 1}" if count > 1 else ""),
                command=_protools("run", service, kind, "--supervisor", str(os.getpid())),
                role="worker" if kind == "worker" else "web",
                environment=_environment(settings) | own,
            )


def refuse_taken_ports(system: System, settings: Settings, counts: Mapping[tuple[str, str], int]) -> None:
    """Raise PortInUse for the first port of ours on which something listens already; replicas share a port."""
    ports = system.ports(settings)
    for service, kind in counts:
        name = service if kind == "web" else kind
        if name not in ports or kind == "worker":
            continue
        if not port_is_free(ports[name], "127.0.0.1" if settings.bind == "localhost" else settings.bind):
            raise PortInUse(ports[name], f"stop what listens there, or set {name.upper()}_PORT")
    first = settings.operators_port
    for port in range(first, first + sum(counts.values()) if first else first):
        if not port_is_free(port, "127.0.0.1" if settings.operators_host == "localhost" else settings.operators_host):
            raise PortInUse(
                port, "stop what listens there, or set OPERATORS_PORT to the first of a free range, or to 0"
            )


def try_next(system: System, settings: Settings, seconds: float) -> str:
    """Return what to show once everything is ready: how long it took and some commands to try."""
    host = "127.0.0.1" if settings.bind in ("0.0.0.0", "localhost") else settings.bind
    door = system.door or system.coordinator
    address = f"http://{f'[{host}]' if ':' in host else host}:{system.port_of(settings, door.name)}"
    issue = f"{this_program()} token issue --role operator --subject me"
    known = "" if settings.auth else ' -H "Authorization: Bearer $TOKEN"'
    steps = door.first_steps(address, known) if door.first_steps else [f"curl -i {address}/health"]
    token = [f"TOKEN=$({issue})"] if settings.jwt_secret else []
    return "\n  ".join([f"ready in {seconds:.1f} s. Try:", *token, *steps])


def _environment(settings: Settings) -> dict[str, str]:
    return {"PROTOOLS_HOME": str(settings.home)}


def _protools(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pulsaga_program", *arguments]


def _bootstrap(system: System, settings: Settings, counts: Mapping[tuple[str, str], int]) -> Program:
    """Return the program that prepares everything, and is told how many processes are to run."""
    wanted = {process: counts.get(process, 0) for process in system.processes}
    said = [part for (service, kind), n in wanted.items() for part in ("--replicas", f"{service}.{kind}={n}")]
    command = _protools("bootstrap", *said)
    return Program(name="bootstrap", role="once", command=command, environment=_environment(settings))


def embedded_broker(settings: Settings) -> Iterator[Program]:
    """Yield the embedded broker's program when the settings name no real broker."""
    if settings.embedded:
        address = Path(settings.broker_url.removeprefix("unix://"))
        database = settings.home / "broker" / "broker.sqlite"
        database.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["--socket", str(address), "--database", str(database)]
        broker: Role = "broker"
        yield Program(
            name="broker",
            role=broker,
            command=_protools("broker", "embedded", "--supervisor", str(os.getpid()), *arguments),
            environment=_environment(settings),
            gate=lambda: accepts(address),
        )


def accepts(address: Path) -> bool:
    """Tell whether something takes connections on this Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
    return True
