"""Hold the projector to its pace: alone an event is shown at once, in a rush many share a commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Feed, deliver, make_desk

from generador.messages import PasswordGenerated
from generador.service import GENERADOR
from pulsaga.broker import Delivery
from pulsaga.delivery import projection
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.projection import BUSY, Projector
from pulsaga.settings import Settings
from pulsaga_program.local.process import wait_until

FOR_EVER_S = 3600.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """SQLite: nothing here depends on the database."""
    return Settings.read({"PROTOOLS_HOME": str(tmp_path)})


def events(number: int) -> list[Delivery]:
    """Tell that so many passwords were generated."""
    told = [PasswordGenerated(f"u{i}", "issued", 1.0, 1.0, "sealed") for i in range(number)]
    return [deliver(event, command_id=new_id(), version=1) for event in told]


@contextmanager
def projecting(settings: Settings, feed: Feed) -> Iterator[None]:
    """Run generador's projector over the feed while the block runs; it must leave when asked to."""
    desk = make_desk(settings, "generador")
    engine = open_database(settings, "generador", "read", "projector", create=True)
    projector = Projector(GENERADOR.projecting, Reader(GENERADOR.projecting, CODEC, desk.broker), engine, feed, 500)
    thread = threading.Thread(target=projector.run)
    thread.start()
    try:
        yield
    finally:
        projector.stop()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_alone_an_event_waits_for_nobody(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the end of one saga must not wait for company."""
    monkeypatch.setattr(projection, "GATHER_S", FOR_EVER_S)
    feed = Feed(events(1), events(BUSY - 1), events(1))
    with projecting(settings, feed):
        assert feed.drained.wait(PATIENCE_S)


def test_in_a_rush_the_next_events_gather(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit is a flush of the disk, and a projector that is quick would pay one for every few events."""
    monkeypatch.setattr(projection, "GATHER_S", 0.3)
    feed = Feed(events(BUSY), events(1))
    with projecting(settings, feed):
        assert wait_until(lambda: len(feed.acked) == BUSY, PATIENCE_S)
        shown_at = time.monotonic()
        assert wait_until(lambda: len(feed.acked) == BUSY + 1, PATIENCE_S)
        assert time.monotonic() - shown_at > 0.2


def test_who_gathers_leaves_at_once_when_asked_to(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is not to wait for it."""
    monkeypatch.setattr(projection, "GATHER_S", FOR_EVER_S)
    feed = Feed(events(BUSY), events(1))
    with projecting(settings, feed):
        assert wait_until(lambda: len(feed.acked) == BUSY, PATIENCE_S)
    assert len(feed.acked) == BUSY
