"""Serve the front door of a test over a real socket, and ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from tests.patience import PATIENCE_S
from tests.service.certificates import Certificate, make_certificate
from tests.service.passwords import FOUND
from tests.service.rooms import Room, room
from tests.service.web import Serving, serving

from pulsaga.located import the_system
from pulsaga.web.front_door.commands.waiting import Waiting


@pytest.fixture
def generador(tmp_path: Path) -> Iterator[Room]:
    """The vault, where a test does not set up its own."""
    made = room("generador", tmp_path)
    yield made
    made.close()


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path, GENERADOR_URL="http://127.0.0.1:1")  # nobody listens there
    yield made
    made.close()


@pytest.fixture
def passwords_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have programs that a test runs find the part of the system whose databases it has made."""
    monkeypatch.setenv("PROTOOLS_SYSTEM", FOUND["PROTOOLS_SYSTEM"])
    the_system.cache_clear()
    yield
    the_system.cache_clear()


@pytest.fixture
def waiting(bff: Room) -> Iterator[Waiting]:
    made: Waiting = bff.app.extensions["waiting"]
    made.start()
    assert bff.broker.listening.wait(PATIENCE_S)
    yield made
    made.stop()


@pytest.fixture
def web(bff: Room) -> Iterator[Serving]:
    with serving(bff.app) as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def client() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False, timeout=PATIENCE_S) as pool:
        yield pool
