"""Run the real program, `python -m pulsaga_program up`, as its users do: over HTTP, by signals, by its mails."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import urllib3
from lxml import etree
from sqlalchemy import inspect, text
from tests.patience import PATIENCE_S
from tests.system.mailboxes import Mail, Mailbox

from pulsaga.broker import Broker, connect, connect_admin
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.faults import RuleBook, Told
from pulsaga.settings import Settings, Side
from pulsaga.system import System as Declared
from pulsaga_program.databases import SIDES
from pulsaga_program.local.process import command_line, port_is_free, send, tail, wait_until
from system import SYSTEM

T = TypeVar("T")
R = TypeVar("R")

READY_S = 300.0
LEAVE_S = 30.0
"""Five seconds are promised, by the supervisor's clock; the rest is for a busy machine to bury the dead."""
POLL_S = 0.02
ENDED = ("completed", "refused", "suspended")
SOURCES = Path(__file__).parents[2] / "src"
PASSWORDS = ("generador", "correo")
"""The services that most tests need: each further process takes its time to start."""
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
"""Variables of ours that the program may see; anything else would be a setting by accident."""


@dataclass(frozen=True)
class Answer:
    """Hold one HTTP answer."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def xml(self) -> dict[str, str]:
        """The body, read as XML: the text of each child of the root by its local name."""
        return {etree.QName(child).localname: child.text or "" for child in etree.fromstring(self.body)}


def eventually(look: Callable[[], T | None], seconds: float = PATIENCE_S, log: Path | None = None) -> T:
    """Look until something truthy is seen and return it; fail with the last sight, and the log's end."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s; last seen: {seen!r}\n{tail(log, 60) if log else ''}")
        time.sleep(POLL_S)
    return seen


def at_once(work: Callable[[T], R], items: Sequence[T], threads: int = 16) -> list[R]:
    """Do the work for every item, many at a time; return the results in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


class Program:
    """Run the command line in an environment of its own."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.environment = {
            **kept,
            "PYTHONPATH": str(SOURCES),
            "PROTOOLS_HOME": str(home),
            "PROTOOLS_SYSTEM": "system:SYSTEM",
            "AUTH": "none",
            "OPERATORS_PORT": "0",
            **environment,
        }

    def run(self, *arguments: str, folder: Path | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        environment = {**self.environment, **changes}
        return subprocess.run(
            command(*arguments), env=environment, cwd=folder, capture_output=True, text=True, timeout=READY_S
        )


def command(*arguments: str) -> list[str]:
    """Return the command line of the program."""
    return [sys.executable, "-m", "pulsaga_program", *arguments]


class System(Program):
    """Hold one running system: its program with every child, its front doors, its mailbox."""

    def __init__(
        self,
        home: Path,
        environment: Mapping[str, str],
        mailbox: Mailbox,
        replicas: Sequence[str] = (),
        of: Declared = SYSTEM,
        only: Sequence[str] = (),
    ) -> None:
        super().__init__(home, {**web_ports(of), **mailbox.environment, **environment})
        self.of = of
        self.mailbox = mailbox
        self.options = [part for text in replicas for part in ("--replicas", text)]
        self.options += [part for name in only for part in ("--only", name)]
        self.log = home.parent / f"{home.name}.log"
        self.answers: list[bytes] = []
        """The body of every answer but those that reveal."""
        self._pool = urllib3.PoolManager(
            maxsize=64, retries=False, timeout=urllib3.Timeout(connect=30, read=PATIENCE_S)
        )
        self._process: subprocess.Popen[bytes] | None = None

    # --- the program

    def up(self, **changes: str) -> System:
        """Start the program and return once it says that it is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command("up", *self.options),
                env={**self.environment, **changes},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.eventually(lambda: self.ended or b"ready in " in self.log.read_bytes()[offset:], READY_S)
        assert not self.ended, f"exit code {self.process.returncode}\n{tail(self.log, 60)}"
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor."""
        assert self._process is not None, "never started"
        return self._process

    @property
    def ended(self) -> bool:
        """Whether the supervisor has ended, or never began."""
        return self._process is None or self._process.poll() is not None

    def children(self, *words: str) -> list[int]:
        """Return the pids of the supervisor's children whose command line holds all these words in a row."""
        listed = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True
        )
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        wanted = f" {' '.join(words)} " if words else " "
        ours = [row for row in rows if len(row) == 3 and int(row[1]) == self.process.pid]
        return [int(pid) for pid, _, line in ours if wanted in f" {line} " and "<defunct>" not in line]

    @contextmanager
    def one_more(self, service: str, kind: str, **changes: str) -> Iterator[int]:
        """Run one more process beside the supervisor's while the block runs, in a changed environment."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command("run", service, kind, "--supervisor", str(os.getpid())),
                env={**self.environment, **changes},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(READY_S)

    def down(self) -> float:
        """Ask it to leave (SIGTERM); return the seconds that took, every child included."""
        pids, begun = self.children(), time.monotonic()
        self.process.terminate()
        self.process.wait(READY_S)
        wait_until(lambda: not any(map(command_line, pids)), READY_S)
        return time.monotonic() - begun

    def crash(self) -> None:
        """Kill the supervisor and every child at once, as a power cut would."""
        pids = [self.process.pid, *self.children()]
        for pid in pids:
            send(pid, signal.SIGKILL)
        self.process.wait(READY_S)
        assert wait_until(lambda: not any(map(command_line, pids)), READY_S)

    def close(self) -> None:
        """End what still runs; let go of connections."""
        if not self.ended:
            for pid in self.children():
                send(pid, signal.SIGCONT)
            send(self.process.pid, signal.SIGCONT)
            self.down()
        self._pool.clear()

    @contextmanager
    def counting(self, rule: str) -> Iterator[Callable[[], Told]]:
        """Let a rule of faults happen while the block runs, and tell how often it did."""
        book = RuleBook(self.settings.fault_file)
        book.add(rule)
        try:
            yield lambda: book.told(rule)
        finally:
            book.remove(rule)

    @contextmanager
    def fault(self, rule: str) -> Iterator[Callable[[], Told]]:
        """Let a rule happen while the block runs; one that never fired fails the test."""
        with self.counting(rule) as told:
            yield told
            assert told().fired, f"{rule!r} never fired: {told()}"

    def is_at_rest(self) -> bool:
        """Tell whether every command that was accepted has come to its end, and nothing is left to be said or tried."""
        waiting = [
            self.rows(s, f"SELECT 1 FROM {table} LIMIT 1") for s in self.of.names for table in ("outbox", "failure")
        ]
        return not any(waiting) and not self.rows(self.of.name, "SELECT 1 FROM saga WHERE wake_at IS NOT NULL LIMIT 1")

    @contextmanager
    def without(self, *words: str) -> Iterator[None]:
        """Keep these children dead (SIGKILL) while the block runs; the supervisor may start them again after it."""
        with paused([self.process.pid]):
            for pid in (victims := self.children(*words)):
                send(pid, signal.SIGKILL)
            assert victims, f"no child {words}"
            assert wait_until(lambda: not self.children(*words), READY_S)
            yield

    def eventually(self, look: Callable[[], T | None], seconds: float = PATIENCE_S) -> T:
        """Do what `eventually` does, with the program's last words when it fails."""
        return eventually(look, seconds, self.log)

    # --- the front doors

    def url(self, service: str = "") -> str:
        """Return where the web processes of a service answer, by default the front door's."""
        service = service or (self.of.door or self.of.coordinator).name
        return f"http://127.0.0.1:{self.environment[f'{service.upper()}_PORT']}"

    def get(self, path: str, service: str = "", **headers: str) -> Answer:
        """GET a path."""
        return self._request("GET", self.url(service) + path, headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """POST a body: bytes as XML, anything else as JSON. Headers are written with _ for -."""
        is_xml = isinstance(body, bytes)
        given = {"Content-Type": "application/xml" if is_xml else "application/json", **headers}
        return self._request("POST", self.url() + path, given, body if is_xml else json.dumps(body))

    def put(self, path: str, body: Any, **headers: str) -> Answer:
        """PUT a body, as JSON."""
        given = {"Content-Type": "application/json", **headers}
        return self._request("PUT", self.url() + path, given, json.dumps(body))

    def delete(self, path: str, **headers: str) -> Answer:
        """DELETE a path."""
        return self._request("DELETE", self.url() + path, headers)

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | str | None = None) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._pool.request(method, url, body=body, headers=named)
        if not (method == "POST" and url.endswith("/reveals") and answer.status == 200):
            self.answers.append(repr(answer.headers).encode() + answer.data)
        return Answer(answer.status, answer.headers, answer.data)

    # --- what its users ask for

    def accept(self, username: str, **body: str) -> str:
        """Ask for a password, come back when told to; return the id of the command."""
        answer = self.post("/passwords", {"username": username, **body})
        while answer.status == 503 and answer.json["code"] == "overloaded":
            time.sleep(float(answer.headers["Retry-After"]))
            turn = answer.headers["Set-Cookie"].partition(";")[0]
            answer = self.post("/passwords", {"username": username, **body}, Cookie=turn)
        assert answer.status == 202, answer
        return str(answer.json["id"])

    def command(self, identifier: str) -> Any:
        """Show a command."""
        answer = self.get(f"/commands/{identifier}")
        assert answer.status == 200, answer
        return answer.json

    def outcome(self, identifier: str, seconds: float = PATIENCE_S) -> Any:
        """Return the command once it has ended."""

        def ended() -> Any:
            shown = self.command(identifier)
            return shown if shown["status"] in ENDED else None

        return self.eventually(ended, seconds)

    def outcomes(self, identifiers: Sequence[str], seconds: float = PATIENCE_S) -> list[Any]:
        """Return all these commands once they have ended."""
        deadline = time.monotonic() + seconds
        return [self.outcome(identifier, max(1.0, deadline - time.monotonic())) for identifier in identifiers]

    def issue(self, username: str, **body: str) -> Any:
        """Ask for a password and wait for its end; return the command."""
        return self.outcome(self.accept(username, **body))

    def password(self, username: str) -> Any:
        """Show what everybody may know of a password, once it is there; None when it stays away."""
        answer = self.get(f"/passwords/{quote(username, safe='')}")
        return answer.json if answer.status == 200 else None

    def saga(self, identifier: str) -> Any:
        """Show a saga, once it is there."""
        answer = self.get(f"/sagas/{identifier}", "protools_saga")
        return answer.json if answer.status == 200 else None

    def mails_to(self, recipient: str) -> list[Mail]:
        """Return the mails that came for this address."""
        return [mail for mail in self.mailbox.mails() if mail.recipient == recipient]

    def mail_to(self, recipient: str) -> Mail:
        """Return the one mail for this address, however often it came; fail when there is none or another."""
        (raw,) = {mail.raw for mail in self.mails_to(recipient)}
        return Mail(raw)

    def reveal(self, token: str) -> Answer:
        """Use the link's token."""
        return self.post("/reveals", {"token": token})

    # --- what its operators see

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return Settings.read(self.environment)

    def rows(self, service: str, statement: str, side: Side = "write", **values: Any) -> list[tuple[Any, ...]]:
        """Ask one of a service's databases."""
        engine = open_database(self.settings, service, side, "owner")
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(statement), values)]
        finally:
            engine.dispose()

    @contextmanager
    def broker(self) -> Iterator[Broker]:
        """Connect to its broker, as a service would."""
        settings = self.settings
        connection = connect(settings.broker_url, CommittedSchemas(), settings.namespace)
        try:
            yield connection
        finally:
            connection.close()

    def everything_stored(self) -> bytes:
        """Return every value of every row of every database, as bytes."""
        values: list[bytes] = []
        for service in self.of.names:
            for side in SIDES:
                values += self._values(service, side)
        return b"\n".join(values)

    def _values(self, service: str, side: Side) -> Iterator[bytes]:
        engine = open_database(self.settings, service, side, "owner")
        try:
            with engine.connect() as connection:
                for name in inspect(connection).get_table_names():
                    for row in connection.execute(text(f'SELECT * FROM "{name}"')):
                        yield from (bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row)
        finally:
            engine.dispose()

    @contextmanager
    def overhearing(self) -> Iterator[Callable[[], bytes]]:
        """Listen to every topic while the block runs; the function returns all that was said so far."""
        settings = self.settings
        admin = connect_admin(settings.broker_url, settings.broker_admin_url, settings.namespace)
        topics = admin.topics()
        admin.close()
        said: list[bytes] = []
        with self.broker() as broker:
            reader = broker.browse(topics, earliest=False)

            def heard() -> bytes:
                said.extend(d.wire.body + str(d.wire.properties).encode() for d in reader.receive(1000, 0.1))
                return b"\n".join(said)

            yield heard
            reader.close()


@contextmanager
def paused(pids: Sequence[int]) -> Iterator[None]:
    """Stop processes in their tracks (SIGSTOP) while the block runs."""
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def web_ports(of: Declared = SYSTEM) -> dict[str, str]:
    """Choose ports for the processes of a system that listen, below the range that outgoing connections take."""
    names = [*of.ports(Settings.read({}))]
    draws = (random.sample(range(20_000, 30_000), len(names)) for _ in count())
    chosen = next(ports for ports in draws if all(map(port_is_free, ports)))
    return {f"{name.upper()}_PORT": str(port) for name, port in zip(names, chosen, strict=True)}
