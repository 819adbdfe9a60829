"""Look through the databases of a service for what names a person."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from tests.service.desk import deliver
from tests.service.stage import BOTH, settings_on

from correo.messages import PasswordMailSent
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import failure, pack_delivery, unpack_delivery
from pulsaga.operate.acting import Runtimes
from pulsaga.operate.erasing import NAMED, Eraser, Person, _erase_all, _places
from pulsaga.settings import Settings
from pulsaga_program.databases import prepare_databases
from system import SYSTEM


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


@pytest.mark.parametrize("settings", BOTH, indirect=True)
def test_what_a_projector_could_not_project_is_looked_through(settings: Settings) -> None:
    """It is tried again, and would bring the name back into the read model."""
    prepare_databases(SYSTEM, settings, SYSTEM["correo"])
    eraser = Eraser(
        Person("u", frozenset({"ada"}), frozenset({"ada@example.test"})), NAMED | {"username"}, frozenset(), b"k" * 32
    )
    sent = pack_delivery(deliver(PasswordMailSent(new_id(), "ada", "ada@example.test", "sent", 1, 0.0, 0.0)))
    row = {"topic": "correo.password-mail-sent", "attempts": 1, "error": "ada, again", "due_at": 0.0, "at": 0.0}
    engine = open_database(settings, "correo", "read", "projector")
    with engine.begin() as tx:
        tx.execute(insert(failure).values(id=new_id(), delivery=sent, **row))
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        places = _places(Runtimes(SYSTEM, settings, lambda _: pytest.fail("no runtime is asked for")), stack)
        here = [place for place in places if place.service.name == "correo" and place.table is failure]
        assert _erase_all(here, eraser) == 1
        with engine.connect() as connection:
            left, error = connection.execute(select(failure.c.delivery, failure.c.error)).one()
    assert b"ada" not in unpack_delivery(left).wire.body
    assert error == f"{eraser.hide('ada')}, again"
