"""Make one kind of trouble for some seconds, and heal it: each function returns with everything whole again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import urllib3
from tests.faults.feeder import hold
from tests.faults.stage import TRANSACTION_TIMEOUT_S, NotRun, Stage
from tests.faults.toxiproxy import Stream
from tests.patience import PATIENCE_S
from tests.system.harness import paused

from pulsaga_program.local.process import command_line, send, wait_until


@dataclass(frozen=True)
class Trouble:
    """Hold what is done for some seconds, and what it needs: asking for that raises NotRun where it is not there."""

    make: Callable[[Stage, float], None]
    needs: Callable[[Stage], object] = lambda _stage: None
    under_load: bool = True
    """Whether hundreds of sagas are to be in flight; else it asks for its own."""


SLACK_S = 8.0
"""Seconds beyond the time-out that a busy machine may take to end a transaction and to let the others know."""
SETTLE_S = 1.5
STREAMS: tuple[Stream, ...] = ("upstream", "downstream")
OURS = "datname LIKE %s AND pid <> pg_backend_pid()"
CUT_S = 3.0
"""Seconds within which a saga's dialogue is cut, if that many bytes are in it at all."""
FAKETIME = (Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"), Path("/usr/lib/faketime/libfaketimeMT.so.1"))
SKEW_S = 3600
COMMANDS, REPLIES = 120, 230
"""Bytes of an SMTP dialogue of one mail besides the mail itself, roughly: what the client says, what it is told."""


def pauses(stage: Stage, seconds: float, every_s: float) -> Iterator[None]:
    """Yield until the time is over, at uneven distances of about `every_s`."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield
        hold(every_s * stage.chance.uniform(0.3, 1.7))


# --- processes


def kill(stage: Stage, seconds: float) -> None:
    """SIGKILL random workers and web processes; the supervisor starts them again."""
    for _ in pauses(stage, seconds, 0.7):
        if pids := _processes(stage, "worker") + _processes(stage, "web"):
            pid = stage.chance.choice(pids)
            stage.note(f"SIGKILL {_name(pid)}")
            send(pid, signal.SIGKILL)


def stop(stage: Stage, seconds: float) -> None:
    """SIGSTOP a worker for longer than the transaction time-out, then SIGCONT.

    On PostgreSQL a worker is taken that stands inside a transaction: that one must be ended in time, and nobody may
    have waited longer for its locks.
    """
    if stage.postgres is None:
        with paused([pid := stage.chance.choice(_processes(stage, "worker"))]):
            stage.note(f"SIGSTOP {_name(pid)}")
            hold(max(seconds / 2, TRANSACTION_TIMEOUT_S + 1))
        stage.note(f"SIGCONT {_name(pid)}")
        return
    with stopped_inside(stage) as session:
        offset = stage.log_size()
        _watch_the_others(stage, session)
    refused = ("idle-in-transaction timeout", "connection has been closed", "closed the connection", "connection reset")
    if not wait_until(lambda: any(words in stage.log_since(offset).lower() for words in refused), PATIENCE_S):
        stage.wrong.append("the woken worker's transaction was not refused")


@contextmanager
def stopped_inside(stage: Stage) -> Iterator[int]:
    """Hold a random worker stopped inside a transaction while the block runs; yield the session that holds it."""
    for _ in range(200):
        pid = stage.chance.choice(_processes(stage, "worker"))
        with paused([pid]):
            hold(0.3)
            if held := _held_sessions(stage, pid, 0.25):
                stage.note(f"SIGSTOP {_name(pid)}, inside a transaction of session {held[0]}")
                yield held[0]
                stage.note(f"SIGCONT {_name(pid)}")
                return
    raise NotRun("no worker was caught inside a transaction")


def _held_sessions(stage: Stage, pid: int, for_s: float) -> list[int]:
    """Return the sessions of one process that stand inside a transaction: another's may be merely slow."""
    idle = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND state = 'idle in transaction' AND"
    since = "extract(epoch from clock_timestamp() - state_change) > %s AND application_name LIKE %s"
    return [int(str(row[0])) for row in stage.ask_postgres(f"{idle} {since}", _pattern(stage), for_s, f"% {pid}")]


def _watch_the_others(stage: Stage, session: int) -> None:
    """Wait until the session is ended; write down when that, or anybody's wait for its locks, took too long."""
    began, longest = time.monotonic(), 0.0
    waiting = "SELECT extract(epoch from clock_timestamp() - query_start) FROM pg_stat_activity"
    while stage.ask_postgres("SELECT 1 FROM pg_stat_activity WHERE pid = %s", session):
        blocked = stage.ask_postgres(f"{waiting} WHERE %s = ANY(pg_blocking_pids(pid))", session)
        longest = max([longest, *(float(str(row[0])) for row in blocked)])
        if time.monotonic() - began > TRANSACTION_TIMEOUT_S + 2 * SLACK_S:
            break
        hold(0.05)
    held = time.monotonic() - began
    stage.note(f"the session was ended after {held:.1f} s; others waited for it up to {longest:.1f} s")
    for what, took in (("a stopped worker's transaction lived", held), ("others waited for its locks", longest)):
        if took > TRANSACTION_TIMEOUT_S + SLACK_S:
            stage.wrong.append(f"{what} {took:.1f} s")
    hold(SETTLE_S)


# --- servers


def crash_postgres(stage: Stage, seconds: float) -> None:
    """Stop PostgreSQL as a crash would, and start it a little later."""
    stage.note("PostgreSQL: immediate stop")
    stage.database.stop("immediate")
    hold(seconds / 3)
    stage.database.start()
    stage.note("PostgreSQL: started")


def terminate_sessions(stage: Stage, seconds: float) -> None:
    """End single sessions of PostgreSQL."""
    listed = f"SELECT pid FROM pg_stat_activity WHERE {OURS} ORDER BY pid"
    for _ in pauses(stage, seconds, 0.5):
        sessions = [row[0] for row in stage.ask_postgres(listed, _pattern(stage))]
        chosen = stage.chance.sample(sessions, min(len(sessions), stage.chance.randint(1, 5)))
        stage.note(f"pg_terminate_backend {chosen} of {len(sessions)}")
        stage.ask_postgres("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", chosen)


def crash_broker(stage: Stage, seconds: float) -> None:
    """SIGKILL the broker and start it a little later."""
    if stage.pulsar is None:
        for pid in stage.system.children("broker", "embedded"):
            stage.note("SIGKILL the embedded broker")
            send(pid, signal.SIGKILL)
        return
    stage.note("SIGKILL Pulsar")
    stage.pulsar.kill()
    hold(seconds / 3)
    stage.pulsar.start()
    stage.note("Pulsar is healthy again")


def unload(stage: Stage, seconds: float) -> None:
    """Let the broker drop topics from its memory under their producers and consumers."""
    topics = f"{stage.broker.admin_url}/admin/v2/persistent"
    listed = urllib3.request("GET", f"{topics}/protools/{stage.direct.namespace}", timeout=10).json()
    for _ in pauses(stage, seconds, 0.4):
        name = stage.chance.choice(listed).removeprefix("persistent://")
        answer = urllib3.request("PUT", f"{topics}/{name}/unload", timeout=30)
        stage.note(f"unload {name.rpartition('/')[2]}: {answer.status}")


# --- the network


def make_ill(name: str, stage: Stage, seconds: float) -> None:
    """Make the connections to one server slow, dumb, reset and cut, one after the other."""
    toxics = {
        "latency": {"latency": stage.chance.randint(100, 400), "jitter": 100},
        "timeout": {"timeout": 0},
        "reset_peer": {"timeout": stage.chance.randint(0, 200)},
        "limit_data": {"bytes": stage.chance.randint(100, 20_000)},
    }
    for kind in stage.chance.sample(sorted(toxics), len(toxics)):
        stream = stage.chance.choice(STREAMS)
        stage.note(f"{name}: {kind} {toxics[kind]} {stream}")
        with stage.proxy(name).toxic(kind, stream, **toxics[kind]):
            hold(seconds / len(toxics))
    stage.note(f"{name}: healed")


def cut_mails(stage: Stage, seconds: float) -> None:
    """Cut SMTP dialogues after one byte, two, three: as many of all byte counts as there is time for, in any order.

    One saga each, alone, so that it is known whose dialogue is cut where.
    """
    stage.ask()
    wait_until(lambda: bool(stage.system.mailbox.mails()), 10)
    lengths = {"upstream": len(stage.system.mailbox.mails()[-1].raw) + COMMANDS, "downstream": REPLIES}
    places = [(stream, count) for stream in STREAMS for count in range(1, lengths[stream] + 1)]
    ends, cuts = time.monotonic() + seconds, []
    for stream, count in stage.chance.sample(places, len(places)):
        if time.monotonic() > ends:
            break
        cuts.append(_cut_one(stage, stream, count))
    stage.note(f"smtp: {sum(cuts)} dialogues cut, {len(cuts)} of {len(places)} byte counts tried")
    if not any(cuts):
        stage.wrong.append("no dialogue was cut")


def _cut_one(stage: Stage, stream: Stream, count: int) -> bool:
    """Cut one saga's dialogue after that many bytes of a stream, then let its mail pass; tell whether it was cut."""
    taken, offset = len(stage.system.mailbox.mails()), stage.log_size()

    def is_noticed() -> bool:
        """Tell whether the server was blamed, or the letter in hand."""
        blamed = "SELECT 1 FROM mail WHERE status = 'waiting' AND attempts > 0"
        return "Unavailable: mail server" in stage.log_since(offset) or bool(stage.system.rows("correo", blamed))

    with stage.proxy("smtp").toxic("limit_data", stream, bytes=count):
        stage.ask()
        cut = wait_until(is_noticed, CUT_S)
    wait_until(lambda: len(stage.system.mailbox.mails()) > taken, 10)
    return cut


# --- disks and clocks


def fill_disk(stage: Stage, seconds: float) -> None:
    """Fill the disk under one write database, and make room again."""
    ballast, offset = small_disk_of(stage) / "ballast", stage.log_size()
    try:
        for _ in pauses(stage, seconds, 0.2):  # what the database gives back is taken, too
            _fill(ballast)
        stage.note(f"the disk is full, ballast of {ballast.stat().st_size >> 20} MB")
    finally:
        ballast.unlink(missing_ok=True)
    stage.note("there is room again")
    if not any(words in stage.log_since(offset) for words in ("No space left", "disk is full", "DiskFull", "disk I/O")):
        stage.wrong.append("nobody noticed the full disk")


def small_disk_of(stage: Stage) -> Path:
    """Return the folder of the small disk."""
    if stage.disk is None:
        raise NotRun("a small disk could not be mounted (root is needed)")
    return stage.disk


def _fill(file: Path) -> None:
    with file.open("ab", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(1 << 16))


def skew_clocks(stage: Stage, seconds: float) -> None:
    """Let more workers join whose clocks are an hour ahead and an hour behind."""
    faked = {"LD_PRELOAD": str(faketime(stage)), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with ExitStack() as stack:
        for service in ("generador", "correo", "protools_saga", "bff"):
            for skew in (SKEW_S, -SKEW_S):
                stack.enter_context(stage.system.one_more(service, "worker", FAKETIME=f"{skew:+d}s", **faked))
                stage.note(f"one more {service} worker, its clock {skew:+d} s")
        hold(seconds * 2)  # starting takes a while, too
        stage.note("they leave")


def faketime(stage: Stage) -> Path:
    """Return the library that tells a process another time; the clock of record must be a server's."""
    if stage.postgres is None:
        raise NotRun("SQLite has no clock but that of the process that asks, and all run on one machine")
    found = next((path for path in FAKETIME if path.exists()), None)
    if found is None:
        raise NotRun("libfaketime is missing (apt-get install faketime)")
    return found


def _processes(stage: Stage, kind: str) -> list[int]:
    services = ("generador", "correo", "protools_saga", "bff")
    return [pid for service in services for pid in stage.system.children("run", service, kind)]


def _name(pid: int) -> str:
    words = command_line(pid).split()
    place = words.index("run") if "run" in words else len(words)
    return " ".join([*words[place + 1 : place + 3], str(pid)])


def _pattern(stage: Stage) -> str:
    return f"{stage.direct.db_name}%"


TROUBLES: Mapping[str, Trouble] = {
    "kill": Trouble(kill),
    "stop": Trouble(stop),
    "postgres-crash": Trouble(crash_postgres, lambda stage: stage.database),
    "sessions": Trouble(terminate_sessions, lambda stage: stage.database),
    "broker-crash": Trouble(crash_broker),
    "unload": Trouble(unload, lambda stage: stage.broker),
    "net-postgres": Trouble(partial(make_ill, "postgres"), lambda stage: stage.proxy("postgres")),
    "net-pulsar": Trouble(partial(make_ill, "pulsar"), lambda stage: stage.proxy("pulsar")),
    "net-smtp": Trouble(partial(make_ill, "smtp"), lambda stage: stage.proxy("smtp")),
    "smtp-bytes": Trouble(cut_mails, lambda stage: stage.proxy("smtp"), under_load=False),
    "disk-full": Trouble(fill_disk, small_disk_of),
    "clocks": Trouble(skew_clocks, faketime),
}
"""Every kind of trouble by its name."""
