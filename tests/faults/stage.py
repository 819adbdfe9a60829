"""Set the stage for a storm: a system on servers of its own, doors that can be made ill, a disk that can be filled."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from tests.faults.conftest import hurt
from tests.faults.toxiproxy import Proxy, toxiproxy
from tests.system.conftest import Mode, on_servers
from tests.system.harness import System
from tests.system.mailboxes import SmtpServer, smtp_server

from pulsaga.settings import Settings
from pulsaga_program.local import LocalPostgres, LocalPulsar
from pulsaga_program.local.postgres import SERVER_USER
from pulsaga_program.local.process import free_ports

TRANSACTION_TIMEOUT_S = 3.0
SETTINGS = {"TRANSACTION_TIMEOUT": f"{TRANSACTION_TIMEOUT_S:.0f}", "LOCK_TIMEOUT": "5", "MAIL_CLAIM": "5"}
REPLICAS = ("generador=2", "correo=2", "protools_saga=2", "bff=2", "bff.web=2")
SMALL_DISK_MB = 256
SMALL = "generador"
"""Whose write database lies on the small disk."""


class NotRun(Exception):
    """Say why a trouble cannot be made here: it counts as not run, never as passed."""


@dataclass
class Stage:
    """Hold what a trouble may touch, and write down when it did what to whom."""

    system: System
    chance: random.Random
    direct: Settings
    """The system's settings, past every proxy."""
    pulsar: LocalPulsar | None = None
    postgres: LocalPostgres | None = None
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    disk: Path | None = None
    """The small disk under one write database."""
    began: float = field(default_factory=time.monotonic)
    ask: Callable[[], None] = lambda: None
    """Ask for one more password and wait until that is accepted."""
    wrong: list[str] = field(default_factory=list)
    """What a trouble saw that must not be."""

    def note(self, text: str) -> None:
        """Print one line of the timeline."""
        print(f"  {time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    @property
    def broker(self) -> LocalPulsar:
        """The real broker."""
        if self.pulsar is None:
            raise NotRun("there is no Pulsar in this mode")
        return self.pulsar

    @property
    def database(self) -> LocalPostgres:
        """The real database server."""
        if self.postgres is None:
            raise NotRun("there is no PostgreSQL in this mode")
        return self.postgres

    def proxy(self, name: str) -> Proxy:
        """The door to postgres, pulsar or smtp."""
        if name not in self.proxies:
            raise NotRun(f"no proxy stands before {name} in this mode")
        return self.proxies[name]

    def ask_postgres(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Ask the server itself about its sessions, past the proxy."""
        url = self.database.url.replace("+psycopg", "")
        with closing(psycopg.connect(url, connect_timeout=5)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def log_since(self, offset: int) -> str:
        """Return what the system has printed since its log had this size."""
        with self.system.log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def log_size(self) -> int:
        """Return how long the log is now."""
        return self.system.log.stat().st_size


@contextmanager
def staged(mode: str, folder: Path, seed: int) -> Iterator[Stage]:
    """Run a system with everything that a storm needs, until the block ends."""
    with ExitStack() as stack:
        mailbox = stack.enter_context(smtp_server())
        make = _on_pulsar if mode == "pulsar" else _embedded
        stage = make(stack, folder, mailbox, random.Random(seed))
        stage.system.up()
        stage.began = time.monotonic()
        yield stage


def _embedded(stack: ExitStack, folder: Path, mailbox: SmtpServer, chance: random.Random) -> Stage:
    proxies = stack.enter_context(toxiproxy(folder / "toxiproxy.log"))
    smtp = proxies.proxy("smtp", mailbox.port)
    disk = stack.enter_context(small_disk(folder / "small"))
    given = {"SMTP_URL": f"smtp://127.0.0.1:{smtp.port}"}
    if disk:
        given[f"{SMALL.upper()}_DB_URL"] = f"sqlite:///{disk}/write.sqlite"
    mode = Mode("embedded", dict, lambda _home: smtp_server())
    system = stack.enter_context(hurt(mode, 2, folder, mailbox, **SETTINGS, **given))
    system.options += ["--replicas", "bff.web=2"]
    return Stage(system, chance, system.settings, proxies={"smtp": smtp}, disk=disk)


def _on_pulsar(stack: ExitStack, folder: Path, mailbox: SmtpServer, chance: random.Random) -> Stage:
    proxies = stack.enter_context(toxiproxy(folder / "toxiproxy.log"))
    port, admin_port, postgres_port, door = free_ports(4)
    doors = {
        "pulsar": proxies.proxy("pulsar", port, door),
        "postgres": proxies.proxy("postgres", postgres_port),
        "smtp": proxies.proxy("smtp", mailbox.port),
    }
    pulsar = LocalPulsar(
        folder / "pulsar", port=port, admin_port=admin_port, journal_sync=False, options=_advertised(door)
    )
    postgres = LocalPostgres(folder / "postgres", port=postgres_port)
    stack.callback(pulsar.kill)
    pulsar.start()
    stack.callback(postgres.remove)
    postgres.start()
    direct = {**on_servers(pulsar, postgres), **SETTINGS, "SMTP_URL": f"smtp://127.0.0.1:{doors['smtp'].port}"}
    through = {
        "BROKER_URL": f"pulsar://127.0.0.1:{doors['pulsar'].port}",
        "DB_HOSTNAME": f"127.0.0.1:{doors['postgres'].port}",
    }
    disk = stack.enter_context(small_disk(folder / "small", SERVER_USER))
    mode = Mode("pulsar", lambda: direct, lambda _home: smtp_server())
    system = stack.enter_context(hurt(mode, 2, folder, mailbox, **through))
    system.options += ["--replicas", "bff.web=2"]
    stage = Stage(system, chance, Settings.read({**system.environment, **direct}), pulsar, postgres, doors, disk)
    if disk:
        _move_to(disk, stage)
    return stage


def _advertised(port: int) -> dict[str, str]:
    """Send clients to the proxy: the broker tells them this address when they look a topic up."""
    address = f"proxied:pulsar://127.0.0.1:{port}"
    return {"advertisedListeners": address, "internalListenerName": "proxied", "advertisedAddress": ""}


def _move_to(disk: Path, stage: Stage) -> None:
    """Make the databases, and move one of them to the small disk before anybody uses it."""
    made = stage.system.run("bootstrap")
    assert made.returncode == 0, made.stderr
    postgres = stage.database
    password = (postgres.folder / f"{SERVER_USER}.password").read_text().strip()
    place = {"host": "127.0.0.1", "port": postgres.port, "dbname": "postgres"}
    with closing(psycopg.connect(**place, user=SERVER_USER, password=password)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(disk))))
            cursor.execute(f'ALTER DATABASE "{stage.direct.db_name}_{SMALL}" SET TABLESPACE small')


@contextmanager
def small_disk(folder: Path, owner: str | None = None) -> Iterator[Path | None]:
    """Mount a small disk in memory until the block ends; None where mounting is not permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        yield None
        return
    try:
        if owner:
            shutil.chown(folder, owner, owner)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
