"""Play the program of commit fc10d1e and keep what it leaves. It runs in a tree of that commit: see README.md."""

import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from protools.retention import archive
from protools.services import SERVICES
from protools.verify import verify
from protools.verify.scope import Scope
from protools_saga.handlers import resend_to_silent
from protools_saga.tables import saga
from seedwork.avro import CommittedSchemas
from seedwork.database import open_database
from seedwork.inbox import Reader
from seedwork.projection import Projection, Projector
from seedwork.service import load
from sqlalchemy import update
from tests.contract.brokers import EmbeddedServer
from tests.service import scene as scenes
from tests.service.desk import KEYS, Acks, make_desk
from tests.service.scene import Scene, project

from bff import keys
from bff.tables import webhook
from bff.webhooks import Webhooks
from correo.handlers import send_mails
from correo.tables import mail
from generador.keys import check_vault_key
from generador.verification import verify as check_password
from protools.bootstrap import prepare_broker
from protools.local import LocalPostgres
from protools.local.process import free_ports
from seedwork.broker import Wire, connect, connect_admin
from seedwork.delivery import dead_letter, failure, inbox, outbox
from seedwork.settings import Settings

NAMES = ("bff", "protools_saga", "generador", "correo")
SOON_S = 120.0
"""What waits is due so long after the end of the play."""
DAY_S = 86400.0
BEGIN, GENERATE, SEND = "protools_saga.issue-password", "generador.generate-password", "correo.send-password-mail"
ROTATE, GENERATED = "protools_saga.rotate-password", "generador.password-generated"


def play(settings: Settings) -> tuple[Scene, dict[str, str]]:
    """Play the scene, with more that is over or under way when its last acts begin; return the archived sagas, too."""
    archived = _archived(settings)
    scene = _opened(settings)
    scenes._given_up_on(scene)
    scenes._ended(scene)
    scenes._cancelled(scene)
    scenes._ended_by_operators(scene)
    scenes._dead_before_they_began(scene)
    _uncalled(scene)
    unprojected = _unprojected(scene)
    _beside_sagas(scene)
    scene.accept("rotating", "hal", rotate=True)
    scene.accept("on-call", "pia", callback="http://127.0.0.1:9/ended")
    scenes._unfinished(scene)
    for name in NAMES:
        _project(scene, name, but=[unprojected] if name == "correo" else [])
    return scene, archived


def _opened(settings: Settings) -> Scene:
    return Scene(settings, {name: make_desk(settings, name) for name in NAMES})


def _archived(settings: Settings) -> dict[str, str]:
    """Archive three sagas that ended, as if nine days had passed."""
    scene = _opened(settings)
    scene.accept("archived-completed", "abe", key="archived")
    scene.accept("archived-compensated", "amy", email="amy@refused.test")
    cancelled = scene.accept("archived-cancelled", "art")
    scene.begin(cancelled)
    scene.cancel(cancelled)
    scene.settle("protools_saga", scene.said("bff", "protools_saga.cancel-saga", cancelled))
    scene.run_with_mails()
    project(scene)
    assert archive(replace(settings, clock_offset=9 * DAY_S), 8 * DAY_S) == 3
    for desk in scene.desks.values():
        scenes._put_away(desk)
    return scene.ids


def _uncalled(scene: Scene) -> None:
    """Give up a webhook, with an incident."""
    scene.accept("uncalled", "una", callback="http://127.0.0.1:9/ended")
    scene.run_with_mails()
    project(scene)
    eager = scene.lend("bff", replace(scene.settings, webhook_attempts=1, webhook_private=True))
    read = open_database(scene.settings, "bff", "read", "reader")
    with eager.runtime.write.begin() as tx:
        tx.execute(update(webhook).values(due_at=0.0))
    Webhooks(eager.runtime, read).call_due()
    read.dispose()
    scenes._put_away(eager)


def _unprojected(scene: Scene) -> str:
    """Keep an event that a read model could not take yet; return its id."""
    saga_id = scene.accept("unprojected", "ute")
    scene.run_with_mails()
    told = next(wire for wire in scene.desks["correo"].said("correo.password-mail-sent") if wire.key == saga_id)

    def broken(_message: Any) -> Any:
        raise RuntimeError("broken")

    projections = dict.fromkeys(scene.desks["correo"].service.projections, broken)
    _settle(scene, "correo", [told], projections)
    return told.properties["ce_id"]


def _project(scene: Scene, name: str, but: Collection[str]) -> None:
    """Bring one read database up to date, but for some events."""
    service = scene.desks[name].service
    said = [wire for other in scene.desks.values() for wire in other.broker.published]
    heard = [wire for wire in said if wire.topic in service.projects and wire.properties["ce_id"] not in but]
    _settle(scene, name, heard, service.projections)


def _settle(scene: Scene, name: str, wires: list[Wire], projections: dict[type, Projection]) -> None:
    desk, engine = scene.desks[name], open_database(scene.settings, name, "read", "projector")
    reader = Reader(desk.service.projections, desk.runtime.codec, desk.broker)
    Projector(projections, reader, engine, Acks(), 500).settle([scenes.arrived(wire) for wire in wires])
    engine.dispose()


def _beside_sagas(scene: Scene) -> None:
    """Leave what is no saga: a machine's key, the vault's check, a budget of guesses."""
    with scene.desks["bff"].runtime.write.begin() as tx:
        keys.create(tx, "shop", "caller", time.time())
    generador = scene.desks["generador"].runtime
    check_vault_key(generador)
    assert not check_password(generador, "ada", "wrong", "10.0.0.1", "shop")


# --- what lies in the broker


def reopen(scene: Scene) -> dict[str, int]:
    """Give every service a broker that is up; return how much each has said so far."""
    for name, old in list(scene.desks.items()):
        scene.desks[name] = make_desk(scene.settings, name)
        scene.desks[name].broker.published = old.broker.published
    return {name: len(desk.broker.published) for name, desk in scene.desks.items()}


def leave_backlog(scene: Scene) -> None:
    """Begin sagas whose next message is published and not taken: one for every kind of message."""
    scene.accept("asked", "bea")
    for label, username in (("begun", "ben"), ("generated", "bix"), ("addressed", "boo"), ("told", "bud")):
        scene.begin(scene.accept(label, username))
    rotation = scene.accept("to-rotate", "zoe", rotate=True)
    scene.settle("protools_saga", scene.said("bff", ROTATE, rotation))
    recalling = scene.accept("recalling", "ber")
    scene.begin(recalling)
    scene.cancel(recalling)
    for label in ("generated", "addressed", "told"):
        scene.settle("generador", scene.said("protools_saga", GENERATE, scene.ids[label]))
    for label in ("addressed", "told"):
        scene.settle("protools_saga", scene.said("generador", GENERATED, scene.ids[label]))
    scene.settle("correo", scene.said("protools_saga", SEND, scene.ids["told"]))
    with scene.desks["correo"].runtime.write.begin() as tx:  # the others' mails wait
        later = mail.c.due_at.is_not(None) & (mail.c.username != "bud")
        tx.execute(update(mail).where(later).values(due_at=time.time() + DAY_S))
    send_mails(scene.desks["correo"].runtime).work()
    scene.begin(scene.accept("silent", "sam"))
    impatient = scene.lend("protools_saga", replace(scene.settings, clock_offset=60.0))
    resend_to_silent(impatient.runtime).work()
    scenes._put_away(impatient)


def fill_broker(scene: Scene, said_before: dict[str, int], folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Have a broker keep what nobody has taken, and return topics and ids of it by subscription."""
    server = EmbeddedServer(folder)
    server.start()
    admin = connect_admin(server.url, "", scene.settings.namespace)
    prepare_broker(admin, [load(name) for name in SERVICES])
    broker, kept = connect(server.url, CommittedSchemas(), scene.settings.namespace), {}
    broker.publish([wire for name in NAMES for wire in scene.desks[name].broker.published[said_before[name] :]])
    for name in NAMES:
        service, taken = load(name), _taken(scene, name)
        for subscription, topics, known in (
            (service.name, service.consumes, taken),
            (service.projector, service.projects, set()),
        ):
            consumer, got = broker.subscribe(subscription, topics), []
            while batch := consumer.receive(500, 1.0):
                got += batch
            consumer.ack([each for each in got if each.wire.properties["ce_id"] in known])
            left = [each.wire for each in got if each.wire.properties["ce_id"] not in known]
            kept[subscription] = sorted((wire.topic, wire.properties["ce_id"]) for wire in left)
            consumer.close()
    broker.close()
    admin.close()
    server.stop()
    return kept


def _taken(scene: Scene, name: str) -> set[str]:
    return {row["id"] for table in (inbox, failure, dead_letter) for row in scene.desks[name].rows(table)}


# --- what is kept


def be_due(scene: Scene, at: float) -> None:
    """Let everything that waits be due at a time."""
    waiting = [(name, table) for name in NAMES for table in (outbox, failure)]
    for name, table in (*waiting, ("correo", mail), ("bff", webhook)):
        scene.desks[name].runtime.relay.clear()
        with scene.desks[name].runtime.write.begin() as tx:
            tx.execute(update(table).where(table.c.due_at.is_not(None)).values(due_at=at))
    with scene.desks["protools_saga"].runtime.write.begin() as tx:
        tx.execute(update(saga).where(saga.c.resend_at.is_not(None)).values(resend_at=at))


def make(settings: Settings, folder: Path, keep: Callable[[], None]) -> None:
    """Play, fill a broker, note what the program knows of it, keep the databases."""
    scene, archived = play(settings)
    said_before = reopen(scene)
    leave_backlog(scene)
    ended_at = time.time()
    be_due(scene, ended_at + SOON_S)
    with tempfile.TemporaryDirectory() as home:
        backlog = fill_broker(scene, said_before, Path(home))
        copy(Path(home) / "broker.sqlite", folder / "broker.sqlite")
    findings = [
        [found.check.kind, found.check.name, found.check.is_defect, sorted(identifier for identifier, _ in found.ids)]
        for found in verify(settings, Scope()).findings
    ]
    told = {"ended_at": ended_at, "ids": archived | scene.ids, "findings": findings, "backlog": backlog}
    (folder / "scene.json").write_text(json.dumps(told, indent=1))
    for desk in scene.desks.values():
        scenes._put_away(desk)
    keep()


def copy(source: Path, target: Path) -> None:
    """Copy an SQLite file, whatever its log still holds."""
    with sqlite3.connect(source) as db:
        db.execute("VACUUM INTO ?", (str(target),))


def on_sqlite(home: Path, folder: Path) -> None:
    """Make the files of SQLite."""

    def keep() -> None:
        for file in (home / "db").glob("*.sqlite"):
            copy(file, folder / file.name)

    make(Settings.read({"PROTOOLS_HOME": str(home), "FAILURE_ATTEMPTS": "3", **KEYS}), folder, keep)


def on_postgresql(home: Path, folder: Path) -> None:
    """Make the dumps of PostgreSQL."""
    home.chmod(0o711)
    server = LocalPostgres(home / "postgres", port=free_ports(1)[0])
    server.start()
    given = server.environment() | {"DB_NAME": "landing18", "DB_READ_NAME": "landing18_read"}
    settings = Settings.read({"PROTOOLS_HOME": str(home), "FAILURE_ATTEMPTS": "3", **KEYS, **given})
    place = ["-h", "127.0.0.1", "-p", str(server.port), "-U", given["DB_USERNAME"]]
    password = {**os.environ, "PGPASSWORD": given["DB_PASSWORD"]}

    def keep() -> None:
        for name in NAMES:
            for side, database in (("write", f"landing18_{name}"), ("read", f"landing18_read_{name}")):
                dump = ["pg_dump", *place, "--inserts", "--rows-per-insert=200", database]
                sql = subprocess.run(dump, env=password, check=True, capture_output=True, text=True).stdout
                plain = [line for line in sql.splitlines(keepends=True) if not line.startswith("\\")]  # psql's own
                (folder / f"{name}-{side}.sql").write_text("".join(plain))

    try:
        make(settings, folder, keep)
    finally:
        server.remove()


def pack(made: Callable[[Path, Path], None], target: Path) -> None:
    """Make one installation and pack what is kept of it."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        made(Path(home), Path(folder))
        with tarfile.open(target, "w:xz", preset=9) as tar:
            for file in sorted(Path(folder).iterdir()):
                tar.add(file, file.name)


if __name__ == "__main__":
    pack(on_sqlite, Path(sys.argv[1]) / "sqlite.tar.xz")
    pack(on_postgresql, Path(sys.argv[1]) / "postgresql.tar.xz")
