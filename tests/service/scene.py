"""Play a handful of sagas through every service's real worker and projector, without a broker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import update
from tests.service.desk import Acks, Desk, arrived, exchange, make_desk
from tests.service.passwords import SYSTEM
from tests.service.wishes import wish

from correo.handlers import send_mails
from correo.messages import SendPasswordMail
from correo.tables import mail
from generador.messages import GeneratePassword, PasswordGenerated
from generador.reveal import reveal
from generador.service import GENERADOR
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.messages import Context, Message, id_time
from pulsaga.delivery.projection import Projector
from pulsaga.delivery.tables import failure, outbox, unpack
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.operate import sagas
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.operate.replaying import discard, replay
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import wake_due_sagas
from pulsaga.sealing import unseal_text
from pulsaga.settings import Settings
from pulsaga.web.front_door.acceptance import accept
from pulsaga.web.front_door.commands.cancelling import cancel

BY = Signature("ada", "the scene needs it")
FAR_S = 1_000_000.0
"""What still waits in the scene is due so far away that no test run gets there."""


@dataclass
class Scene:
    """The desks of all services. `ids` names each saga by what it shows; `commands` holds what it issued, by topic."""

    settings: Settings
    desks: dict[str, Desk]
    ended_at: float = 0.0
    ids: dict[str, str] = field(default_factory=dict)
    commands: dict[tuple[str, str], str] = field(default_factory=dict)

    def accept(self, label: str, username: str, email: str = "", key: str | None = None, **more: Any) -> str:
        transactions, write = self.desks["bff"].runtime.transactions, self.desks["bff"].runtime.write
        asked = wish(username, email, body_hash="hash", idempotency_key=key, **more)
        self.ids[label] = accept(transactions, write, asked).id
        transactions.outbox.publish_waiting(0.01)
        return self.ids[label]

    def cancel(self, saga_id: str) -> None:
        transactions = self.desks["bff"].runtime.transactions
        read = open_database(self.settings, "bff", "read", "reader")
        cancel(transactions, read, Context(saga_id, actor="ada"), SYSTEM.sagas.cancel(saga_id), "x")
        read.dispose()
        transactions.outbox.publish_waiting(0.01)

    def run(self) -> None:
        """Carry messages until nobody says anything new."""
        exchange(list(self.desks.values()))

    def run_with_mails(self) -> None:
        self.run()
        send_mails(self.desks["correo"].runtime).work()
        self.run()

    def said(self, service: str, topic: str, saga_id: str) -> Delivery:
        return arrived(next(wire for wire in self.desks[service].said(topic) if wire.key == saga_id))

    def settle(self, service: str, *deliveries: Delivery) -> None:
        self.desks[service].worker.settle(deliveries)

    def begin(self, saga_id: str) -> None:
        self.settle("protools_saga", self.said("bff", "protools_saga.issue-password", saga_id))

    def lend(self, name: str, settings: Settings, handlers: dict[type, Handler] | None = None) -> Desk:
        """Sit another worker down at a service; what it says is said by the service."""
        desk = make_desk(settings, name, handlers)
        desk.broker.published = self.desks[name].broker.published
        return desk

    def time_out(self) -> None:
        """Let an hour pass for the coordinator."""
        later = self.lend("protools_saga", replace(self.settings, clock_offset=3601.0))
        wake_due_sagas(later.runtime).work()
        _put_away(later)


def play(settings: Settings) -> Scene:
    """Play every ending there is, and every legal way to wait; leave nothing that will be due soon."""
    names = ("bff", "protools_saga", "generador", "correo")
    assert set(names) == set(SYSTEM.names)
    scene = Scene(settings, {name: make_desk(settings, name) for name in names})
    _given_up_on(scene)
    _ended(scene)
    _cancelled(scene)
    _ended_by_operators(scene)
    _dead_before_they_began(scene)
    _unfinished(scene)
    project(scene)
    for desk in scene.desks.values():
        unsaid = [unpack(row["wire"]) for row in desk.rows(outbox)]
        for wire in desk.broker.published + unsaid:
            scene.commands[wire.key, wire.topic] = wire.properties["ce_id"]
        _put_away(desk)
    scene.ended_at = time.time()
    return scene


def _given_up_on(scene: Scene) -> None:
    late = scene.accept("late", "eve")
    scene.begin(late)
    scene.settle("generador", scene.said("protools_saga", "generador.generate-password", late))
    scene.time_out()
    scene.settle("protools_saga", scene.said("generador", "generador.password-generated", late))
    scene.run()

    overtaken = scene.accept("overtaken", "gus")
    scene.begin(overtaken)
    scene.time_out()
    scene.settle("generador", scene.said("protools_saga", "generador.revoke-password", overtaken))
    scene.run()

    expired = scene.said("bff", "protools_saga.issue-password", scene.accept("expired", "fay"))
    properties = {**expired.wire.properties, "ce_expirytime": "2026-01-02T00:00:00.000Z"}
    scene.settle("protools_saga", expired._replace(wire=expired.wire._replace(properties=properties)))


def _ended(scene: Scene) -> None:
    scene.accept("completed", "ada", key="first")
    scene.accept("revealed", "hal")
    scene.accept("undone", "bob", email="bob@refused.test")
    scene.run_with_mails()
    scene.accept("refused", "ada", key="second")
    scene.accept("again", "bob")
    scene.run_with_mails()
    scene.accept("superseded", "zoe")
    scene.run_with_mails()
    scene.accept("rotated", "zoe", rotate=True)
    scene.run_with_mails()
    scene.accept("unrotated", "zoe", email="zoe@refused.test", rotate=True)
    scene.run_with_mails()
    (row,) = (row for row in scene.desks["correo"].rows(mail) if row["username"] == "hal")
    link_keys = scene.settings.keys("LINK_KEY")
    generador = scene.desks["generador"].runtime
    reveal(generador, unseal_text(row["sealed_token"], link_keys, "hal"))
    generador.transactions.outbox.publish_waiting(0.01)


def _cancelled(scene: Scene) -> None:
    """Cancel one saga in its course, one before it begins, and one too late."""
    cancelled, withdrawn = scene.accept("cancelled", "zia"), scene.accept("withdrawn", "wes")
    scene.begin(cancelled)
    for saga_id in (cancelled, withdrawn, scene.ids["completed"]):
        scene.cancel(saga_id)
    for saga_id in (cancelled, withdrawn):
        scene.settle("protools_saga", scene.said("bff", "protools_saga.cancel-saga", saga_id))
    scene.settle("generador", scene.said("protools_saga", "generador.revoke-password", cancelled))
    scene.run_with_mails()


def _ended_by_operators(scene: Scene) -> None:
    """Bury commands, and end their sagas by hand: the same command again, another one, or none."""
    runtimes = _office(scene)
    for label, username in (("replayed", "pam"), ("retried", "ned"), ("given-up", "sue")):
        saga_id = scene.accept(label, username)
        scene.begin(saga_id)
        reads = GENERADOR.handling[GeneratePassword].reads
        broken = {GeneratePassword: Handler(GeneratePassword, _broken, reads)}
        poisoned = scene.lend("generador", replace(scene.settings, failure_attempts=1), broken)
        poisoned.worker.settle([scene.said("protools_saga", "generador.generate-password", saga_id)])
        _put_away(poisoned)
        scene.run()
    command = scene.said("protools_saga", "generador.generate-password", scene.ids["replayed"])
    assert replay(runtimes, command.wire.properties["ce_id"], None, BY)
    assert sagas.act(runtimes, scene.ids["retried"], "retry-step", BY)
    assert sagas.act(runtimes, scene.ids["given-up"], "compensate", BY)
    for _ in range(2):
        scene.desks["generador"].worker.retry_failures()
        scene.run_with_mails()


def _dead_before_they_began(scene: Scene) -> None:
    """Bury what begins a saga: once it is discarded, once it lies there still."""
    broken = {IssuePassword: Handler(IssuePassword, _broken)}
    poisoned = scene.lend("protools_saga", replace(scene.settings, failure_attempts=1), broken)
    for label, username in (("discarded", "lia"), ("dead", "kai")):
        saga_id = scene.accept(label, username)
        poisoned.worker.settle([scene.said("bff", "protools_saga.issue-password", saga_id)])
    _put_away(poisoned)
    assert discard(_office(scene), scene.ids["discarded"], None, BY)


def _office(scene: Scene) -> Runtimes:
    return Runtimes(SYSTEM, scene.settings, lambda service: scene.desks[service].runtime)


def _unfinished(scene: Scene) -> None:
    suspended = scene.accept("suspended", "cyd")
    _answered_by_generador(scene, suspended)
    impatient = scene.lend(
        "correo", replace(scene.settings, failure_attempts=1), {SendPasswordMail: Handler(SendPasswordMail, _broken)}
    )
    impatient.worker.settle([scene.said("protools_saga", "correo.send-password-mail", suspended)])
    _put_away(impatient)

    waiting = scene.accept("waiting", "dan")
    _answered_by_generador(scene, waiting)
    scene.run()

    failing = scene.accept("failing", "ivy")
    scene.begin(failing)
    reads = GENERADOR.handling[GeneratePassword].reads
    poisoned = scene.lend("generador", scene.settings, {GeneratePassword: Handler(GeneratePassword, _broken, reads)})
    poisoned.worker.settle([scene.said("protools_saga", "generador.generate-password", failing)])
    _put_away(poisoned)

    deaf = scene.accept("deaf", "mia")
    scene.begin(deaf)
    scene.settle("generador", scene.said("protools_saga", "generador.generate-password", deaf))
    hearing = replace(scene.desks["protools_saga"].service.handling[PasswordGenerated], function=_broken)
    deafened = scene.lend("protools_saga", replace(scene.settings, failure_attempts=1), {PasswordGenerated: hearing})
    deafened.worker.settle([scene.said("generador", "generador.password-generated", deaf)])
    _put_away(deafened)
    _unpublished(scene)


def _unpublished(scene: Scene) -> None:
    """Take the broker away in every place where something was to be said."""
    unmailed, unsent = scene.accept("unmailed", "leo"), scene.accept("unsent", "jan")
    unanswered, recalled = scene.accept("unanswered", "noa"), scene.accept("recalled", "uma")
    scene.begin(unmailed)
    scene.begin(unanswered)
    scene.begin(recalled)
    scene.settle("generador", scene.said("protools_saga", "generador.generate-password", unmailed))
    for name in ("protools_saga", "generador", "bff"):
        scene.desks[name].broker.is_up = False
    scene.settle("protools_saga", scene.said("bff", "protools_saga.issue-password", unsent))
    scene.settle("protools_saga", scene.said("generador", "generador.password-generated", unmailed))
    scene.settle("generador", scene.said("protools_saga", "generador.generate-password", unanswered))
    assert sagas.act(_office(scene), recalled, "cancel", BY)
    scene.accept("unpublished", "kim")
    _put_off(scene)


def _answered_by_generador(scene: Scene, saga_id: str) -> None:
    scene.begin(saga_id)
    scene.settle("generador", scene.said("protools_saga", "generador.generate-password", saga_id))
    scene.settle("protools_saga", scene.said("generador", "generador.password-generated", saga_id))


def _broken(_message: Message, _uow: UnitOfWork) -> None:
    raise RuntimeError("broken")


def _put_off(scene: Scene) -> None:
    for name, table, column in (
        ("bff", outbox, outbox.c.due_at),
        ("protools_saga", outbox, outbox.c.due_at),
        ("generador", outbox, outbox.c.due_at),
        ("generador", failure, failure.c.due_at),
        ("correo", mail, mail.c.due_at),
        ("protools_saga", saga, saga.c.resend_at),
    ):
        scene.desks[name].runtime.transactions.outbox.clear()
        later = id_time(scene.ids["waiting"]).timestamp() + FAR_S
        with scene.desks[name].runtime.write.begin() as tx:
            tx.execute(update(table).where(column.is_not(None)).values({column.name: later}))


def project(scene: Scene) -> None:
    """Bring every read database up to date with all that was ever said; what lies in an outbox was not."""
    said = [wire for desk in scene.desks.values() for wire in desk.broker.published]
    for name, desk in scene.desks.items():
        topics = set(desk.service.projects)
        heard = [arrived(wire) for wire in said if wire.topic in topics]
        engine = open_database(scene.settings, name, "read", "projector")
        reader = Reader(desk.service.projecting, desk.runtime.codec, desk.broker)
        Projector(desk.service.projecting, reader, engine, Acks(), 500).settle(heard)
        engine.dispose()


def _put_away(desk: Desk) -> None:
    desk.runtime.transactions.outbox.clear()
    desk.runtime.write.dispose()
