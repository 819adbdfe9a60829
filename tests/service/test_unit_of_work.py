"""Hold one transaction's work to its promises: what is read, what is said, what is kept and what is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from tests.service.desk import CODEC, KEYS, Desk, deliver, make_desk

from generador.messages import GeneratePassword, PasswordGenerated
from generador.tables import password
from protools_saga.messages import IssuePassword
from pulsaga.delivery import database
from pulsaga.delivery.incidents import incident_row
from pulsaga.delivery.messages import MEMORY_S, Context, contract_of, new_id
from pulsaga.delivery.tables import failure, inbox, incident, outbox, unpack
from pulsaga.delivery.transaction.unit_of_work import Speaker, UnitOfWork
from pulsaga.errors import MessageTooLarge, SettingError, Stale
from pulsaga.settings import Settings

ACTOR = Context("", None, "operator-7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"PROTOOLS_HOME": str(tmp_path), **KEYS})


@pytest.fixture
def generador(settings: Settings) -> Iterator[Desk]:
    desk = make_desk(settings, "generador")
    yield desk
    desk.runtime.write.dispose()


def work(desk: Desk, function: Callable[[UnitOfWork], Any]) -> Any:
    """Do something in a transaction of its own."""
    return desk.runtime.transactions.commit(function)[0]


def clock_of(desk: Desk) -> float:
    with desk.runtime.write.connect() as connection:
        return database.now(connection)


def seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


# --- what is said


def test_a_reply_says_whom_it_answers_and_why(generador: Desk) -> None:
    """Whoever reads one message alone must find its saga, its cause, and who stands behind it."""
    saga_id = new_id()
    command = deliver(GeneratePassword("bob"), saga_id=saga_id)
    generador.worker.settle([command])
    (wire,) = generador.said(contract_of(PasswordGenerated).name)
    told, asked = wire.properties, command.wire.properties
    assert (wire.key, told["ce_correlationid"]) == (saga_id, saga_id)
    assert told["ce_commandid"] == told["ce_causationid"] == asked["ce_id"]
    assert told["ce_subject"] == asked["ce_subject"] == "ada"
    assert (told["ce_source"], told["ce_version"]) == ("/protools/generador", "1")
    assert told["ce_dataschema"] == contract_of(PasswordGenerated).dataschema
    assert seconds(told["ce_time"]) == pytest.approx(clock_of(generador), abs=60)
    assert told["ce_time"].endswith("Z")
    assert "ce_expirytime" not in told


def test_a_command_expires_when_no_inbox_remembers_it_any_more(settings: Settings) -> None:
    """Older than that it could be done twice."""
    desk = make_desk(settings, "protools_saga")
    desk.worker.settle([deliver(IssuePassword("ada", "ada@example.test"))])
    (wire,) = desk.said(contract_of(GeneratePassword).name)
    left_s = seconds(wire.properties["ce_expirytime"]) - clock_of(desk)
    assert left_s == pytest.approx(MEMORY_S, abs=60)
    desk.runtime.write.dispose()


def test_what_a_context_hands_on_reaches_the_message(generador: Desk) -> None:
    """An operator's act carries his name to the last service."""
    context, identifier = replace_saga(ACTOR), new_id()

    def send(uow: UnitOfWork) -> None:
        first = uow.send(GeneratePassword("ada"), "ada", command_id=identifier, context=context)
        second = uow.send(GeneratePassword("bob"), "bob", context=context)
        assert (first.id, second.id != identifier) == (identifier, True)

    work(generador, send)
    for row in generador.rows(outbox):
        properties = unpack(row["wire"]).properties
        assert (properties["ce_actor"], properties["traceparent"]) == (ACTOR.actor, ACTOR.traceparent)
        assert row["topic"] == contract_of(GeneratePassword).name


def replace_saga(context: Context) -> Context:
    return context._replace(saga_id=new_id())


def test_an_event_tells_its_aggregate_and_version(generador: Desk) -> None:
    """The history is read by these; who answers nobody answers nobody."""
    body = PasswordGenerated("ada", "issued", 1.0, 1.0, "sealed")

    def record(uow: UnitOfWork) -> None:
        uow.record(body, "ada", 3, context=replace_saga(ACTOR))
        uow.record(body, "bob", 4, subject="cyd", answers=new_id(), context=replace_saga(ACTOR))

    work(generador, record)
    told = {row["id"]: unpack(row["wire"]).properties for row in generador.rows(outbox)}
    shown = sorted((p["ce_subject"], p["ce_version"], "ce_commandid" in p) for p in told.values())
    assert shown == [("ada", "3", False), ("cyd", "4", True)]


def test_a_row_of_the_outbox_rests_before_the_sweep_takes_it(generador: Desk) -> None:
    """It is published at once; the sweep is for what was not."""
    generador.broker.is_up = False
    began, rest_s = clock_of(generador), generador.runtime.settings.sweep_after
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    (row,) = generador.rows(outbox)
    assert began + rest_s <= row["due_at"] <= clock_of(generador) + rest_s
    assert clock_of(generador) > row["due_at"] or generador.runtime.transactions.outbox.sweep() == 0


def test_what_no_broker_would_take_is_refused_before_it_is_kept(generador: Desk) -> None:
    """In the outbox it would be tried for ever."""
    with pytest.raises(MessageTooLarge):
        work(generador, lambda uow: uow.send(GeneratePassword("x" * 10_000_000), "x", context=replace_saga(ACTOR)))
    assert generador.count(outbox) == 0


# --- what is read


def test_a_handler_reads_only_what_it_named(generador: Desk) -> None:
    """A row that was not locked may change under the handler's hands."""
    with pytest.raises(LookupError, match="password 'eve' was not loaded"):
        work(generador, lambda uow: uow.get(password, "eve"))


def test_tables_are_locked_in_one_order_whatever_order_they_were_asked_for_in(generador: Desk) -> None:
    """Two workers that lock the same two tables the other way round wait for each other."""
    wanted = [(password, "ada"), (failure, new_id())]
    orders = []
    for keys in (wanted, wanted[::-1]):
        with heard(generador) as statements:
            work(generador, lambda uow, keys=keys: uow.load(keys))
        orders.append([name for said in statements for name in ("failure", "password") if f'FROM "{name}"' in said])
    assert orders == [["failure", "password"]] * 2


@contextmanager
def heard(desk: Desk) -> Iterator[list[str]]:
    """Listen to what the database is told."""
    statements: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(desk.runtime.write, "before_cursor_execute", hear)
    yield statements
    event.remove(desk.runtime.write, "before_cursor_execute", hear)


def test_what_a_message_put_is_read_by_it_and_by_those_after_it_unless_it_was_dropped(generador: Desk) -> None:
    """Messages of a batch see each other's work as if each had been committed."""
    generador.worker.settle([deliver(GeneratePassword("ada"))])

    def read(uow: UnitOfWork) -> None:
        uow.load([(password, "ada"), (password, "bob")])
        before = uow.get(password, "ada")
        assert (before["status"], uow.get(password, "bob")) == ("issued", None)
        uow.put(password, {**before, "status": "expired"})
        assert uow.get(password, "ada")["status"] == "expired"
        uow.drop()
        assert uow.get(password, "ada") == before
        uow.put(password, {**before, "status": "revealed"})
        uow.keep()
        uow.put(password, {**before, "status": "revoked"})
        uow.drop()
        uow.load([(password, "ada")])
        assert uow.get(password, "ada")["status"] == "revealed"

    work(generador, read)
    assert [(row["status"], row["revision"]) for row in generador.rows(password)] == [("revealed", 2)]


def test_what_was_read_is_a_copy(generador: Desk) -> None:
    """A handler that changes what it read, and then fails, has changed nothing."""
    generador.worker.settle([deliver(GeneratePassword("ada"))])

    def spoil(uow: UnitOfWork) -> str:
        uow.load([(password, "ada")])
        uow.get(password, "ada")["status"] = "spoiled"
        return str(uow.get(password, "ada")["status"])

    assert work(generador, spoil) == "issued"


def test_an_id_is_known_from_the_moment_it_is_remembered_and_not_if_that_was_dropped(generador: Desk) -> None:
    """A command and its undo may come in one batch."""
    kept, dropped, stranger = new_id(), new_id(), new_id()

    def remember(uow: UnitOfWork) -> None:
        uow.load_inbox([kept, dropped])
        uow.remember(dropped, b"hash")
        assert uow.seen(dropped).hash == b"hash"
        uow.drop()
        uow.remember(kept, None)
        uow.keep()
        assert (uow.seen(kept).hash, uow.seen(dropped), uow.seen(stranger)) == (None, None, None)

    work(generador, remember)
    (row,) = generador.rows(inbox)
    assert (row["consumer"], row["id"], row["hash"]) == ("generador", kept, None)
    assert row["at"] == pytest.approx(clock_of(generador), abs=60)


def test_the_inbox_knows_a_command_with_its_answer(generador: Desk) -> None:
    """The stored reply is what goes out again."""
    command, stranger = deliver(GeneratePassword("ada")), new_id()
    generador.worker.settle([command])
    identifier = command.wire.properties["ce_id"]

    def look(uow: UnitOfWork) -> None:
        uow.load_inbox([identifier, stranger])
        assert uow.seen(identifier).reply == generador.said(contract_of(PasswordGenerated).name)[0]
        assert uow.seen(stranger) is None

    work(generador, look)


def test_what_is_claimed_is_the_oldest_and_no_more_than_was_asked_for(generador: Desk) -> None:
    """Else the youngest would be served for ever, and the oldest never."""
    row = {"topic": "t", "delivery": b"", "attempts": 1, "error": "", "at": 0.0}
    rows = [{**row, "id": new_id(), "due_at": float(due)} for due in (3, 1, 2, 9)]
    work(generador, lambda uow: [uow.append(failure, row) for row in rows])

    def claim(uow: UnitOfWork) -> list[Any]:
        claimed = uow.claim(failure, failure.c.due_at < 5, failure.c.due_at, 2)
        assert uow.get(failure, claimed[0]["id"]) == claimed[0]
        return claimed

    assert work(generador, claim) == [rows[1], rows[2]]


def test_a_process_without_keys_names_the_one_that_it_lacks(generador: Desk) -> None:
    """Whoever configures it must know which."""
    assert work(generador, lambda uow: uow.key("VAULT_KEY")) == generador.runtime.settings.key("VAULT_KEY")
    with generador.runtime.write.begin() as tx, pytest.raises(SettingError, match="^LINK_KEY: no keys were given"):
        UnitOfWork(tx, Speaker("generador", CODEC)).key("LINK_KEY")


# --- what is written


def test_the_same_incident_again_is_the_same_incident_and_the_same_event_an_error(generador: Desk) -> None:
    """Logs of ours bear redelivery; two events of one version would be two truths."""
    row = incident_row("kind", "subject", "code", "detail", 1.0)
    for _ in range(2):
        work(generador, lambda uow: uow.append(incident, row))
    assert generador.count(incident) == 1
    body = PasswordGenerated("ada", "issued", 1.0, 1.0, "sealed")

    def record(uow: UnitOfWork) -> None:
        uow.record(body, "ada", 1, context=replace_saga(ACTOR))

    work(generador, record)
    with pytest.raises(Exception, match="UNIQUE"):
        work(generador, record)


def test_what_is_removed_is_gone_before_its_like_is_written(generador: Desk) -> None:
    """A failure that fails again takes its own place."""
    row = {"id": new_id(), "topic": "t", "delivery": b"", "attempts": 1, "error": "", "at": 0.0, "due_at": 1.0}
    work(generador, lambda uow: uow.append(failure, row))

    def again(uow: UnitOfWork) -> None:
        uow.remove(failure, row["id"])
        uow.append(failure, {**row, "attempts": 2})

    work(generador, again)
    assert generador.rows(failure) == [{**row, "attempts": 2}]


def test_rows_of_two_tables_are_written_or_none(generador: Desk) -> None:
    """A rival who was faster with one of them has both."""
    generador.worker.settle([deliver(GeneratePassword("ada")), deliver(GeneratePassword("bob"))])

    def overtaken(uow: UnitOfWork) -> None:
        uow.load([(password, "ada"), (password, "bob")])
        uow.append(incident, incident_row("kind", "subject", "code", "detail", 1.0))
        for name in ("ada", "bob"):
            uow.put(password, {**uow.get(password, name), "status": "expired"})
        uow.tx.execute(password.update().where(password.c.username == "bob").values(revision=7))

    with pytest.raises(Stale, match="^1 rows of password were changed by a rival$"):
        work(generador, overtaken)
    assert {row["status"] for row in generador.rows(password)} == {"issued"}
    assert generador.count(incident) == 0
