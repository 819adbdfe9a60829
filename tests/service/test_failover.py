"""Hold what a process does when its connections are alive and useless: behind a failover, behind a pooler."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, text
from tests.patience import PATIENCE_S
from tests.service.desk import KEYS, Desk, make_desk
from tests.service.stage import POSTGRESQL, settings_on

from pulsaga.delivery.database import open_database, takes_writes
from pulsaga.errors import SettingError
from pulsaga.settings import Settings
from pulsaga_program.processes import run
from system import SYSTEM


@pytest.fixture(params=[POSTGRESQL])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path, AUTH="none")


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    made = make_desk(settings, "bff")
    yield made
    made.runtime.write.dispose()


@pytest.fixture
def http(desk: Desk, settings: Settings) -> Iterator[FlaskClient]:
    read = open_database(settings, "bff", "read", "reader")
    assert desk.service.web is not None
    yield desk.service.web(desk.runtime, read).test_client()
    read.dispose()


def make_sessions_read_only(engine: Engine, count: int = 3) -> None:
    """Leave sessions in the pool that lead to what has become a standby."""
    held = [engine.connect() for _ in range(count)]
    for connection in held:
        connection.execute(text("SET default_transaction_read_only = on"))
        connection.commit()
        connection.close()


@contextmanager
def standby(desk: Desk, settings: Settings) -> Iterator[None]:
    """Let every new session of the write database be one that only reads."""
    url = desk.runtime.write.url
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{url.database}" SET default_transaction_read_only = on'))
        desk.runtime.write.dispose()
        yield
        connection.execute(text(f'ALTER DATABASE "{url.database}" RESET default_transaction_read_only'))
    admin.dispose()


def post(http: FlaskClient, name: str) -> int:
    return http.post("/passwords", json={"username": name}).status_code


def test_sessions_that_have_become_read_only_are_dropped_all_at_once(http: FlaskClient, desk: Desk) -> None:
    """After a failover a pool kept them for minutes: 500 for each request that was lent one."""
    make_sessions_read_only(desk.runtime.write)
    assert [post(http, name) for name in ("ada", "bob", "eve", "dan")] == [503, 202, 202, 202]


def test_a_database_that_only_reads_is_no_place_to_send_requests_to(
    http: FlaskClient, desk: Desk, settings: Settings
) -> None:
    """Ready was who could say SELECT 1, so a load balancer sent on what could only fail."""
    assert http.get("/readyz").status_code == 200
    with standby(desk, settings):
        assert http.get("/readyz").json["checks"] == {"write-database": "failed", "read-database": "ok"}
        assert post(http, "ada") == 503
    assert post(http, "ada") in (202, 503)  # a session from before may be in the pool once more
    assert post(http, "bob") == 202
    assert http.get("/readyz").status_code == 200


def test_a_look_whether_it_writes_writes_nothing(desk: Desk) -> None:
    """It is asked every few seconds."""
    with desk.runtime.write.begin() as tx:
        tx.execute(text("INSERT INTO outbox VALUES (gen_random_uuid(), 't', '', 0)"))
    assert takes_writes(desk.runtime.write)
    with desk.runtime.write.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM outbox")).scalar() == 1


# --- a pooler


class Pooler:
    """Pass connections on to PostgreSQL without their `options`, as PgBouncer does that is told to ignore them."""

    def __init__(self, port: int) -> None:
        self._server, self._port = socket.create_server(("127.0.0.1", 0)), port
        self.port: int = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._threads.append(threading.Thread(target=self._connect, args=(client,), daemon=True))
                self._threads[-1].start()

    def _connect(self, client: socket.socket) -> None:
        startup = _message(client)
        while startup[:4] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):  # SSLRequest, GSSENCRequest
            client.sendall(b"N")
            startup = _message(client)
        fields = startup[4:].split(b"\0")
        kept = [pair for pair in zip(fields[::2], fields[1::2], strict=False) if pair[0] not in (b"", b"options")]
        body = startup[:4] + b"".join(name + b"\0" + value + b"\0" for name, value in kept) + b"\0"
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            server.sendall(struct.pack("!I", len(body) + 4) + body)
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._server.close()


def _message(client: socket.socket) -> bytes:
    (size,) = struct.unpack("!I", _exactly(client, 4))
    return _exactly(client, size - 4)


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += client.recv(size - len(data))
    return data


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def pooled(settings: Settings) -> Iterator[Settings]:
    prepared = make_desk(settings, "generador").runtime.write
    prepared.dispose()
    url = prepared.url
    pooler = Pooler(url.port or 5432)
    through = url.set(port=pooler.port).render_as_string(hide_password=False)
    environment = {
        "PROTOOLS_HOME": str(settings.home),
        "DB_NAME": settings.db_name,
        "GENERADOR_DB_URL": through,
        **KEYS,
    }
    yield Settings.read(environment)
    pooler.close()


def test_a_pooler_that_drops_roles_and_time_outs_is_refused_at_the_first_connection(pooled: Settings) -> None:
    """Rights, lock and idle time-outs would silently not be in force, and what rests on them would not be true."""
    engine = open_database(pooled, "generador", "write", "owner")
    with pytest.raises(SettingError, match="PgBouncer"):
        engine.connect()
    engine.dispose()


def test_a_process_does_not_start_behind_such_a_pooler(pooled: Settings) -> None:
    """It ends with the reason, and takes no message before."""
    with pytest.raises(SettingError, match="PgBouncer"):
        run(SYSTEM, "generador", "worker", pooled)
