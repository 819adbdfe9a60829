"""Hold the name of who asked to every message and every row, from the front door to the last service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Table, select
from tests.service.desk import KEYS, make_desk
from tests.service.passwords import SYSTEM
from tests.service.scene import Scene, project
from tests.service.stage import pass_time

from bff.tables import password
from correo.tables import mail
from generador.expiry import expire_passwords
from generador.messages import PasswordExpired
from generador.reveal import reveal
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import contract_of
from pulsaga.sealing import unseal_text
from pulsaga.settings import Settings
from pulsaga.web.front_door.tables import acceptance, command

DAY_S = 86400.0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    settings = Settings.read({"PROTOOLS_HOME": str(tmp_path), **KEYS})
    made = Scene(settings, {name: make_desk(settings, name) for name in SYSTEM.names})
    yield made
    for desk in made.desks.values():
        desk.runtime.write.dispose()


def actors(scene: Scene) -> set[str | None]:
    """Read the actor of everything that anybody published."""
    published = (wire for desk in scene.desks.values() for wire in desk.broker.published)
    return {wire.properties.get("ce_actor") for wire in published}


def shown(scene: Scene, table: Table) -> list[str]:
    """Read the actors in a table of the front door's read database."""
    engine = open_database(scene.settings, "bff", "read", "reader")
    with engine.connect() as connection:
        found = list(connection.execute(select(table.c.actor)).scalars())
    engine.dispose()
    return found


def test_who_asked_stands_in_every_message_of_what_was_asked(scene: Scene) -> None:
    """An operator who looks at any topic, log or letter of a saga must read whose it is; reveal and undo included."""
    scene.accept("completed", "ada", actor="shop")
    scene.accept("undone", "eve", email="eve@refused.test", actor="shop")
    scene.run_with_mails()
    (row,) = (row for row in scene.desks["correo"].rows(mail) if row["username"] == "ada")
    reveal(scene.desks["generador"].runtime, unseal_text(row["sealed_token"], scene.settings.keys("LINK_KEY"), "ada"))
    scene.desks["generador"].runtime.transactions.outbox.publish_waiting(0.01)
    assert actors(scene) == {"shop"}
    project(scene)
    assert [row["actor"] for row in scene.desks["bff"].rows(acceptance)] == ["shop", "shop"]
    assert shown(scene, command) == ["shop", "shop"]
    assert shown(scene, password) == ["shop", "shop"]


def test_a_secret_that_expires_is_still_whose_it_was(scene: Scene) -> None:
    """Its owner is who wants to see that it has expired."""
    scene.accept("expired", "ada", actor="shop")
    scene.run_with_mails()
    generador = scene.desks["generador"]
    pass_time(generador, DAY_S)
    expire_passwords(generador.runtime).work()
    generador.runtime.transactions.outbox.publish_waiting(0.01)
    assert generador.said(contract_of(PasswordExpired).name)
    assert actors(scene) == {"shop"}


def test_a_command_that_times_out_is_still_whose_it_was(scene: Scene) -> None:
    """A timer moves the saga then, and no message from which the name could be read."""
    scene.begin(scene.accept("late", "ada", actor="shop"))
    scene.time_out()
    scene.run()
    assert actors(scene) == {"shop"}


def test_a_reply_changes_no_owner(scene: Scene) -> None:
    """Who may publish a reply may not take a command over by it, nor make it nobody's."""
    saga_id = scene.accept("taken", "ada", actor="shop")
    scene.begin(saga_id)
    scene.settle("generador", scene.said("protools_saga", "generador.generate-password", saga_id))
    reply = scene.said("generador", "generador.password-generated", saga_id)
    properties = {**reply.wire.properties, "ce_actor": "thief"}
    scene.settle("protools_saga", reply._replace(wire=reply.wire._replace(properties=properties)))
    moves = [wire for wire in scene.desks["protools_saga"].broker.published if wire.key == saga_id]
    assert {wire.properties["ce_actor"] for wire in moves} == {"shop"}
