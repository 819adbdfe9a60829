"""Leave a transaction open, and see that the metrics tell."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from tests.service.desk import make_desk
from tests.service.rooms import Room
from tests.service.stage import POSTGRESQL, settings_on

from pulsaga.delivery.database import oldest_transaction_s, open_database
from pulsaga.settings import Settings
from pulsaga_program.local.process import wait_until


@pytest.fixture(params=[POSTGRESQL])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    found = settings_on(request, tmp_path)
    make_desk(found, "generador").runtime.write.dispose()
    return found


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    opened = open_database(settings, "generador", "write", "owner")
    yield opened
    opened.dispose()


def test_the_oldest_open_transaction_is_seen_by_another_role(settings: Settings, engine: Engine) -> None:
    """Whoever leaves it open, dead rows pile up behind it; one role does not see what another's sessions do."""
    holder = open_database(settings, "generador", "write", "reader")
    began = time.monotonic()
    with holder.connect() as idle:
        idle.execute(text("SELECT 1"))
        assert wait_until(lambda: (oldest_transaction_s(engine) or 0) > 0.05, 10)
        assert (oldest_transaction_s(engine) or 0) <= time.monotonic() - began + 1
    assert oldest_transaction_s(engine) == 0
    holder.dispose()


def test_a_session_names_the_process_that_holds_it(engine: Engine) -> None:
    """Whoever finds a transaction left open learns from the server which process to look at."""
    with engine.connect() as connection:
        named = connection.execute(text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"))
        assert named.scalar_one() == f"generador {os.getpid()}"


def test_on_sqlite_there_is_nothing_to_tell(bff: Room) -> None:
    """Its one writer is killed when it goes silent."""
    assert "protools_oldest_transaction_seconds{" not in bff.http.get("/metrics").text
