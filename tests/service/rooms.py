"""Set up one service in a folder: SQLite files, a fake broker, its app."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, Table, insert, select
from tests.service.fakes import FakeBroker

from generador import vault
from generador.tables import password
from pulsaga.delivery.avro import Codec
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import DELIVERY
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import Speaker
from pulsaga.running.runtime import Runtime
from pulsaga.settings import Settings
from system import SYSTEM


@dataclass
class Room:
    """Hold a service as its processes see it; `projector` writes the read database that `app` only reads."""

    runtime: Runtime
    broker: FakeBroker
    projector: Engine
    app: Flask

    @property
    def http(self) -> FlaskClient:
        return self.app.test_client()

    def write_view(self, table: Table, **row: Any) -> None:
        with self.projector.begin() as tx:
            tx.execute(insert(table).values(**row))

    def rows(self, table: Table) -> list[Any]:
        with self.runtime.write.connect() as connection:
            return list(connection.execute(select(table)).mappings())

    def close(self) -> None:
        for engine in (self.runtime.write, self.projector, self.app.extensions["read"]):
            engine.dispose()


def room(service: str, home: Path, **environment: str) -> Room:
    settings = Settings.read({"PROTOOLS_HOME": str(home), "AUTH": "none", **environment})
    broker, declared = FakeBroker(), SYSTEM[service]
    codec = Codec()
    write = open_database(settings, service, "write", "owner", create=True)
    projector = open_database(settings, service, "read", "projector", create=True)
    for metadata, engine in ((DELIVERY, write), (declared.tables, write), (declared.views, projector)):
        metadata.create_all(engine)
    transactions = Transactions(write, broker, Speaker(service, codec, 0.0, settings.keys, settings.sweep_after))
    runtime = Runtime(SYSTEM, settings, service, broker, codec, write, transactions)
    read = open_database(settings, service, "read", "reader")
    assert declared.web is not None
    return Room(runtime, broker, projector, declared.web(runtime, read))


def keep_password(generador: Room, username: str, plain: str, token: str) -> None:
    """Put a password into the vault that was just issued, as its handler would."""
    sealed = vault.seal_password(plain, generador.runtime.settings.key("VAULT_KEY"), username)
    row = {
        "username": username,
        "revision": 1,
        "version": 1,
        "command_id": new_id(),
        "saga_id": new_id(),
        "status": "issued",
        "token_hash": vault.token_hash(token),
        "sealed_key": sealed.key,
        "sealed_secret": sealed.secret,
        "verifier": vault.verifier_of(plain),
        "issued_at": time.time(),
        "mailed_at": time.time(),
        "changed_at": time.time(),
    }
    with generador.runtime.write.begin() as tx:
        tx.execute(insert(password).values(row))


def eventually(check: Callable[[], object], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)  # the pause of a poll with a deadline
