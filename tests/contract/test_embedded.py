"""Keep what is particular to the embedded broker: one process per file, bounded storage, real faults."""

from __future__ import annotations

import resource
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.brokers import (
    EMBEDDED,
    ENVIRONMENT,
    EmbeddedServer,
    Stage,
    receive,
    text_of,
    texts,
    wire,
)
from tests.patience import PATIENCE_S

from pulsaga.broker.embedded_feed import WINDOW
from pulsaga.errors import Unavailable
from pulsaga_program.local.process import wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A broker of this test's own."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def stage(server: EmbeddedServer) -> Iterator[Stage]:
    """That broker with a namespace."""
    stage = Stage(server, EMBEDDED, "ns")
    yield stage
    stage.close()


@pytest.mark.parametrize("shared", ["socket", "database"])
def test_a_second_broker_on_the_same_files_refuses_to_start(stage: Stage, server: EmbeddedServer, shared: str) -> None:
    """Two brokers on one file would each hand out every message."""
    topic, broker = stage.topic(), stage.connect()
    command = _without(server, shared)
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert f"another embedded broker is running on {getattr(server, shared)}" in done.stderr
    broker.publish([wire(topic, text="undisturbed")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["undisturbed"]


def test_the_socket_of_a_dead_broker_is_replaced(server: EmbeddedServer) -> None:
    """A crash must not need a hand to start again."""
    server.kill()
    assert server.socket.is_socket()
    server.start()


def test_a_file_that_is_no_socket_is_left_alone(server: EmbeddedServer) -> None:
    """A wrong path must not cost anybody a file."""
    other = replace(server, folder=server.folder / "other", process=None)
    other.folder.mkdir()
    other.socket.write_text("dear diary")
    done = subprocess.run(other.command, capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert str(other.socket) in done.stderr
    assert other.socket.read_text() == "dear diary"


def test_a_clean_end_leaves_no_socket_behind(server: EmbeddedServer) -> None:
    """Whoever looks for the socket learns that nobody is there."""
    server.stop()
    assert not server.socket.exists()


def test_only_its_owner_may_read_what_it_keeps(server: EmbeddedServer) -> None:
    """Messages carry personal data."""
    assert {path.stat().st_mode & 0o077 for path in (server.socket, server.database)} == {0}


def test_what_every_subscription_acknowledged_is_removed(stage: Stage, server: EmbeddedServer) -> None:
    """The file does not grow with time; a browser that reads nothing cannot change that."""
    topic, broker = stage.topic(subscriptions=["reader", "projector"]), stage.connect()
    broker.browse([topic], earliest=True)
    broker.publish([wire(topic, f"k{n}", str(n)) for n in range(100)])
    receive(broker.subscribe("reader", [topic]), 100)
    assert _stored(server) == 100
    receive(broker.subscribe("projector", [topic]), 100)
    assert wait_until(lambda: _stored(server) == 0, PATIENCE_S)


def test_what_nobody_subscribed_to_is_kept_for_the_first_who_does(stage: Stage) -> None:
    """A service may be added to a system that has been speaking for a while."""
    topic, broker = stage.topic(subscriptions=[]), stage.connect()
    broker.publish([wire(topic, text=str(n)) for n in range(10)])
    assert texts(broker.subscribe("newcomer", [topic]), 10) == [str(n) for n in range(10)]


def test_a_consumer_that_hangs_does_not_keep_the_others_from_working(stage: Stage) -> None:
    """One stalled replica costs its own window and its own keys, nothing else."""
    topic, broker = stage.topic(), stage.connect()
    stage.connect().subscribe("reader", [topic])
    worker = broker.subscribe("reader", [topic])
    count = 6 * WINDOW
    for begin in range(0, count, 1000):
        broker.publish([wire(topic, f"k{n}", str(n)) for n in range(begin, begin + 1000)])
    assert len(receive(worker, count - WINDOW)) == count - WINDOW


def test_a_browser_that_is_slow_is_not_sent_more_than_its_window(stage: Stage) -> None:
    """A reader that nobody waits for must not fill anybody's memory."""
    topic, broker = stage.topic(), stage.connect()
    browser = stage.connect().browse([topic], earliest=True)
    count = 6 * WINDOW
    for begin in range(0, count, 1000):
        broker.publish([wire(topic, f"k{n % 9}", str(n)) for n in range(begin, begin + 1000)])
    assert sorted(int(text_of(one)) for one in receive(browser, count, ack=False)) == list(range(count))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="prlimit of another process is Linux's")
def test_a_full_disk_is_an_outage_and_nothing_worse(stage: Stage, server: EmbeddedServer) -> None:
    """Nothing is confirmed that was not stored; when there is room again nothing has to be restarted."""
    topic, broker = stage.topic(), stage.connect()
    reader = broker.subscribe("reader", [topic])
    broker.publish([wire(topic, text="before")])
    assert server.process is not None
    pid, unlimited = server.process.pid, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    with pytest.raises(Unavailable, match="cannot store"):
        broker.publish([wire(topic, text="lost")])
    assert texts(reader, 1) == ["before"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    broker.publish([wire(topic, text="after")])
    assert texts(reader, 1) == ["after"]
    assert wait_until(lambda: _stored(server) == 0, PATIENCE_S), "acknowledgements are written when that is possible"


def test_a_broker_that_hangs_does_not_count_as_connected(stage: Stage, server: EmbeddedServer) -> None:
    """Readiness asks for an answer, not for a socket."""
    broker = stage.connect()
    assert broker.is_connected()
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    assert not broker.is_connected()
    server.process.send_signal(signal.SIGCONT)
    assert wait_until(broker.is_connected, PATIENCE_S)


def test_whoever_speaks_something_else_is_sent_away(stage: Stage, server: EmbeddedServer) -> None:
    """A stray client cannot disturb the others."""
    topic, broker = stage.topic(), stage.connect()
    with socket.socket(socket.AF_UNIX) as stray:
        stray.connect(str(server.socket))
        stray.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stray.settimeout(PATIENCE_S)
        assert stray.recv(100) == b""
    broker.publish([wire(topic, text="undisturbed")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["undisturbed"]


def test_a_consumer_waits_for_a_topic_that_bootstrap_has_yet_to_create(stage: Stage) -> None:
    """A worker that starts too early is told so, and may try again."""
    broker = stage.connect()
    with pytest.raises(Unavailable, match=r"room\.said"):
        broker.subscribe("reader", ["room.said"])
    topic = stage.topic()
    broker.publish([wire(topic, text="hello")])
    assert texts(broker.subscribe("reader", [topic]), 1) == ["hello"]


def _without(server: EmbeddedServer, shared: str) -> list[str]:
    """Return the command of a broker that shares only one of the two files."""
    other = replace(server, folder=server.folder / "other")
    kept = "--database" if shared == "socket" else "--socket"
    command = list(server.command)
    command[command.index(kept) + 1] = str(other.database if shared == "socket" else other.socket)
    return command


def _stored(server: EmbeddedServer) -> int:
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM message").fetchone()[0])
