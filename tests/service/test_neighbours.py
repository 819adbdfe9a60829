"""One item of a hundred misbehaves, the others are on time: topics, locked rows, schemas that cannot be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, RowMapping, Table, delete, insert, select, update
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, KEYS, Desk, deliver, make_desk
from tests.service.stage import BOTH, POSTGRESQL, answer, refuse_updates, settings_on, start_sagas, wish_for_mail

from correo.handlers import LONGEST_DELAY_S, Sender, send_mails
from correo.smtp import Letter, Outcome
from correo.tables import mail
from generador.messages import GeneratePassword, PasswordGenerated
from generador.service import GENERADOR
from generador.tables import password, password_view
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery import outbox as publishing
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.dispatch.worker import Worker
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.outbox import SWEEP_PAGE, RestingTopics
from pulsaga.delivery.projection import Projector
from pulsaga.delivery.tables import dead_letter, failure, inbox, incident, outbox
from pulsaga.errors import Unavailable
from pulsaga.saga.tables import saga
from pulsaga.settings import Settings
from pulsaga_program.local.process import wait_until
from system import SYSTEM

CLOSED = contract_of(GeneratePassword).name
OPEN = contract_of(SYSTEM.sagas.moved).name


@pytest.fixture(params=BOTH)
def coordinator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    desk = make_desk(settings_on(request, tmp_path), "protools_saga")
    yield desk
    desk.runtime.write.dispose()


def make_outbox_due(desk: Desk) -> None:
    with desk.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))


# --- topics


def test_a_topic_that_takes_no_messages_is_asked_once_and_the_others_go_on(coordinator: Desk) -> None:
    """A full or terminated topic held up every message of its process, send by send."""
    coordinator.broker.closed.add(CLOSED)
    for _ in range(10):
        start_sagas(coordinator, 10)
    assert len(coordinator.said(OPEN)) == 100
    assert coordinator.broker.asked[CLOSED] == 1
    assert coordinator.said(CLOSED) == []


def test_a_backlog_for_a_closed_topic_keeps_no_other_message_from_the_sweep(coordinator: Desk) -> None:
    """Thousands of messages that go nowhere filled every page, and what was left over beside them waited for ever."""
    coordinator.broker.closed.add(CLOSED)
    start_sagas(coordinator, SWEEP_PAGE + 10)
    coordinator.broker.is_up = False
    start_sagas(coordinator, 1)
    make_outbox_due(coordinator)
    coordinator.broker.is_up = True
    before = len(coordinator.said(OPEN))
    coordinator.runtime.transactions.outbox.sweep()
    assert len(coordinator.said(OPEN)) == before + 1


def test_a_topic_that_takes_messages_again_gets_all_that_waited(coordinator: Desk) -> None:
    """Nothing is lost by being passed over."""
    coordinator.broker.closed.add(CLOSED)
    start_sagas(coordinator, SWEEP_PAGE + 10)
    make_outbox_due(coordinator)
    coordinator.runtime.transactions.outbox.sweep()
    coordinator.broker.closed.clear()
    assert wait_until(
        lambda: coordinator.runtime.transactions.outbox.sweep() == 0 and coordinator.said(CLOSED), PATIENCE_S
    )
    said = [wire.properties["ce_id"] for wire in coordinator.said(CLOSED)]
    assert len(said) == len(set(said)) == SWEEP_PAGE + 10
    start_sagas(coordinator, 1)
    assert len(coordinator.said(CLOSED)) == SWEEP_PAGE + 11


def test_a_topic_rests_ever_longer_until_it_takes_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may block for seconds: it must not be repeated without end, nor forgotten."""
    now = [0.0]
    monkeypatch.setattr(publishing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    resting = RestingTopics()
    waits = []
    resting.tried({"other"}, {"t"})
    for _ in range(6):
        assert resting.topics() == {"t"}
        begun = now[0]
        while not resting.to_be_tried():
            now[0] += 0.25
        waits.append(now[0] - begun)
        resting.tried(set(), {"t"})
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 4.0]
    resting.tried({"t"}, set())
    assert resting.topics() == frozenset()


def test_while_no_topic_takes_anything_none_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is down then, and whoever publishes first once it is back must not wait for a sweep."""
    resting = RestingTopics()
    for _ in range(3):
        resting.tried(set(), {"a"})
        resting.tried(set(), {"b"})
    assert resting.topics() == frozenset()
    resting.tried({"a"}, set())
    assert resting.topics() == frozenset()
    resting.tried(set(), {"b"})
    assert resting.topics() == {"b"}


def test_a_topic_whose_backlog_others_swept_is_tried_all_the_same(coordinator: Desk) -> None:
    """Two processes share an outbox: one swept what was due, the other never looked again and published nothing."""
    coordinator.broker.closed.add(CLOSED)
    start_sagas(coordinator, 10)
    assert coordinator.runtime.transactions.outbox.has_to_try()
    coordinator.broker.closed.clear()
    with coordinator.runtime.write.begin() as tx:
        tx.execute(delete(outbox).where(outbox.c.topic == CLOSED))
    coordinator.runtime.transactions.outbox.sweep()
    assert not coordinator.runtime.transactions.outbox.has_to_try()
    start_sagas(coordinator, 1)
    assert len(coordinator.said(CLOSED)) == 1


# --- locks


@contextmanager
def held_row(desk: Desk, saga_id: str) -> Iterator[None]:
    """Lock one saga's row, as an operator's session that was left open does."""
    with desk.runtime.write.connect() as connection, connection.begin():
        connection.execute(select(saga).where(saga.c.id == saga_id).with_for_update())
        yield


@contextmanager
def held_inbox(desk: Desk, message_id: str) -> Iterator[None]:
    """Leave the inbox's row of one message uncommitted, as a worker that was stopped in its transaction does."""
    with desk.runtime.write.connect() as connection, connection.begin() as tx:
        connection.execute(insert(inbox).values(id=message_id, consumer="protools_saga", hash=b"", at=0.0))
        yield
        tx.rollback()


@pytest.mark.parametrize("held", ["row", "inbox"])
@pytest.mark.parametrize("database", [POSTGRESQL])
def test_a_lock_that_another_holds_delays_its_own_saga_alone(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, held: str
) -> None:
    """One row that somebody's session holds stopped every saga that came in a batch with it."""
    request.param = database
    desk = make_desk(settings_on(request, tmp_path, LOCK_TIMEOUT="0.2"), "protools_saga")
    replies = [answer(command) for command in start_sagas(desk, 100)]
    locked = replies[50].wire
    holding = held_row(desk, locked.key) if held == "row" else held_inbox(desk, locked.properties["ce_id"])
    with holding:
        desk.worker.settle(replies)
        moved = [row["id"] for row in desk.rows(saga) if row["seq"] == 2]
        assert len(moved) == 99
        assert locked.key not in moved
        assert [row["attempts"] for row in desk.rows(failure)] == [0]
    desk.make_due()
    desk.worker.retry_failures()
    assert {row["seq"] for row in desk.rows(saga)} == {2}
    assert desk.count(failure) == desk.count(dead_letter) == 0
    desk.runtime.write.dispose()


@contextmanager
def held_mail(desk: Desk, username: str) -> Iterator[None]:
    """Lock one mail's row."""
    with desk.runtime.write.connect() as connection, connection.begin():
        connection.execute(select(mail).where(mail.c.username == username).with_for_update())
        yield


@pytest.mark.parametrize("database", [POSTGRESQL])
@pytest.mark.parametrize("stays_locked", [False, True])
def test_a_claimed_row_that_is_locked_delays_its_own_report_alone(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database: str,
    stays_locked: bool,
) -> None:
    """What came of a hundred mails was lost because somebody's session held one, and all were sent again.

    Then that one's was, however short the lock. It is waited for now, for as long as LOCK_TIMEOUT.
    """
    request.param = database
    desk = make_desk(settings_on(request, tmp_path, LOCK_TIMEOUT="0.2" if stays_locked else "20"), "correo")
    desk.worker.settle([wish_for_mail(f"u{number}") for number in range(10)])
    holding = ExitStack()
    with holding:

        def deliver_then_lock(sender: Sender, letters: list[Letter], outcomes: dict[str, Outcome]) -> None:
            deliver_all(sender, letters, outcomes)
            if len(letters) > 1:
                holding.enter_context(held_mail(desk, "u5"))

        deliver_all = Sender._deliver
        monkeypatch.setattr(Sender, "_deliver", deliver_then_lock)
        sending = threading.Thread(target=send_mails(desk.runtime).work)
        sending.start()
        assert wait_until(lambda: [row["status"] for row in desk.rows(mail)].count("sent") == 9, PATIENCE_S)
        if stays_locked:
            sending.join()
    sending.join()
    row = next(row for row in desk.rows(mail) if row["username"] == "u5")
    assert row["status"] == ("waiting" if stays_locked else "sent")
    assert len(list((desk.runtime.settings.home / "mail" / "new").iterdir())) == 10
    desk.runtime.write.dispose()


@pytest.mark.parametrize("database", BOTH)
def test_a_mail_whose_report_the_database_refuses_keeps_no_other_from_being_reported(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """The whole page was rolled back, and every mail of it sent again, claim after claim."""
    request.param = database
    desk = make_desk(settings_on(request, tmp_path), "correo")
    desk.worker.settle([wish_for_mail(f"u{number}") for number in range(20)])
    refuse_updates(desk, mail, "NEW.username = 'u7' AND NEW.status = 'sent'")
    send_mails(desk.runtime).work()
    waiting = [row for row in desk.rows(mail) if row["status"] != "sent"]
    assert [(row["username"], row["claim"]) for row in waiting] == [("u7", None)]
    assert waiting[0]["due_at"] > time.time() + LONGEST_DELAY_S / 2
    assert [(row["kind"], row["subject"]) for row in desk.rows(incident)] == [("unreported", waiting[0]["id"])]
    desk.runtime.write.dispose()


@pytest.mark.parametrize("database", [POSTGRESQL])
def test_a_locked_row_of_a_read_model_delays_its_own_event_alone(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """A report that somebody runs on the read database must not stop what everybody else is shown."""
    request.param = database
    settings = settings_on(request, tmp_path, LOCK_TIMEOUT="0.2")
    desk = make_desk(settings, "generador")
    engine = open_database(settings, "generador", "read", "projector")
    projector = Projector(
        GENERADOR.projecting, Reader(GENERADOR.projecting, CODEC, desk.broker), engine, desk.acks, 500
    )
    projector.settle([issued(number, 1) for number in range(20)])
    with engine.connect() as connection, connection.begin():
        connection.execute(select(password_view).where(password_view.c.username == "u7").with_for_update())
        projector.settle([issued(number, 2) for number in range(20)])
        versions = {row["username"]: row["version"] for row in rows(engine, password_view)}
        assert [name for name, version in versions.items() if version != 2] == ["u7"]
    with engine.begin() as tx:
        tx.execute(update(failure).values(due_at=0))
    projector.retry_failures()
    assert {row["version"] for row in rows(engine, password_view)} == {2}
    assert rows(engine, failure) == []
    for opened in (engine, desk.runtime.write):
        opened.dispose()


def issued(number: int, version: int) -> Delivery:
    event = PasswordGenerated(f"u{number}", "issued", 1.0, float(version), "sealed")
    return deliver(event, command_id=new_id(), version=version)


def rows(engine: Engine, table: Table) -> list[RowMapping]:
    with engine.connect() as connection:
        return list(connection.execute(select(table)).mappings())


# --- what cannot be read


@pytest.mark.parametrize("error", [Unavailable("no schema"), KeyError("no schema"), RecursionError(), TypeError()])
def test_a_message_whose_schema_cannot_be_had_waits_alone(tmp_path: Path, error: Exception) -> None:
    """The version that it names may be gone from the registry for good; the batch must not wait for it."""
    desk = make_desk(Settings.read({"PROTOOLS_HOME": str(tmp_path), "FAILURE_ATTEMPTS": "3", **KEYS}), "generador")
    desk.worker._reader = Reader(desk.service.handling, CODEC, Registry(desk, error))
    strange = deliver(GeneratePassword("u50"))._replace(schema="999")
    batch = [deliver(GeneratePassword(f"u{number}")) for number in range(50)]
    desk.worker.settle([*batch, strange])
    assert desk.count(password) == 50
    (kept,) = desk.rows(failure)
    assert kept["attempts"] == (0 if isinstance(error, Unavailable) else 1)
    desk.runtime.write.dispose()


class Registry:
    """The desk's broker, whose registry does not know one version."""

    def __init__(self, desk: Desk, error: Exception) -> None:
        self._known: Callable[[str, str], str] = desk.broker.schema
        self._error = error

    def schema(self, topic: str, version: str) -> str:
        if version == "999":
            raise self._error
        return self._known(topic, version)


@contextmanager
def held_incident(desk: Desk, saga_id: str) -> Iterator[None]:
    """Lock one saga's incident, as an operator's session that was left open does."""
    with desk.runtime.write.connect() as connection, connection.begin():
        connection.execute(select(incident).where(incident.c.subject == saga_id).with_for_update())
        yield


@pytest.mark.parametrize("database", [POSTGRESQL])
def test_a_lock_that_a_handler_meets_itself_delays_its_own_saga_alone(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """PostgreSQL refuses all that follows in a transaction: what a handler's own statement met hit the whole batch."""
    request.param = database
    desk = make_desk(settings_on(request, tmp_path, LOCK_TIMEOUT="0.2"), "protools_saga")
    commands = start_sagas(desk, 20)
    desk.worker.settle([failed(command) for command in commands])
    assert {row["status"] for row in desk.rows(saga)} == {"SUSPENDED"}
    with held_incident(desk, commands[7].key):
        stopped_after(desk.worker, 20.0)
        desk.worker.settle([answer(command) for command in commands])
        waiting = [row["id"] for row in desk.rows(saga) if row["status"] == "SUSPENDED"]
        assert waiting == [commands[7].key]
        assert [row["attempts"] for row in desk.rows(failure)] == [0]
        desk.make_due()
        desk.worker.retry_failures()
    desk.make_due()
    desk.worker.retry_failures()
    assert {row["status"] for row in desk.rows(saga)} == {"RUNNING"}
    desk.runtime.write.dispose()


def failed(command: Wire) -> Delivery:
    return answer(command, GENERADOR.failed(CLOSED, "dead-letter", "broken"))


def stopped_after(worker: Worker, seconds: float) -> None:
    """End a worker that waits for ever: the test fails instead."""
    threading.Timer(seconds, worker.stop).start()


@pytest.mark.parametrize("database", [POSTGRESQL])
def test_a_confirmed_outbox_row_that_is_locked_stops_no_commit(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """The next commit removes what was confirmed: all commits of the process waited for one row."""
    request.param = database
    desk = make_desk(settings_on(request, tmp_path, LOCK_TIMEOUT="0.2"), "protools_saga")
    start_sagas(desk, 3)
    with desk.runtime.write.connect() as connection, connection.begin():
        connection.execute(select(outbox).limit(1).with_for_update())
        stopped_after(desk.worker, 20.0)
        start_sagas(desk, 1)
        assert desk.count(saga) == 4
    make_outbox_due(desk)
    desk.runtime.transactions.outbox.sweep()
    desk.runtime.transactions.outbox.clear()
    assert desk.count(outbox) == 0
    desk.runtime.write.dispose()


def test_a_damaged_row_keeps_no_other_from_being_published_or_tried_again(coordinator: Desk) -> None:
    """A disk that lost a page must not stop everything that comes behind it."""
    coordinator.broker.is_up = False
    start_sagas(coordinator, 3)
    stuck = [deliver(GeneratePassword(f"u{number}")) for number in range(2)]
    coordinator.worker.settle(stuck)
    coordinator.broker.is_up = True
    with coordinator.runtime.write.begin() as tx:
        first = tx.execute(select(outbox.c.id).limit(1)).scalar_one()
        tx.execute(update(outbox).values(due_at=0))
        tx.execute(update(outbox).where(outbox.c.id == first).values(wire=b"\xc1"))
        tx.execute(update(failure).where(failure.c.id == stuck[0].wire.properties["ce_id"]).values(delivery=b"\xc1"))
    coordinator.runtime.transactions.outbox.sweep()
    assert len(coordinator.broker.published) == 5
    coordinator.make_due()
    coordinator.worker.retry_failures()
    assert sorted(row["attempts"] for row in coordinator.rows(failure)) == [1, 2]
