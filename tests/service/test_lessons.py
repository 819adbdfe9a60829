"""Learn from what other systems paid for: one test a lesson, its docstring names the source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Acks, Desk, Feed, arrived, deliver, make_desk
from tests.service.passwords import SYSTEM
from tests.service.stage import (
    BOTH,
    POSTGRESQL,
    Death,
    Gate,
    answer,
    dying_at,
    kinds_of,
    mail_sent,
    pass_time,
    refuse_updates,
    settings_on,
    start_sagas,
    wish_for_mail,
)

import system
from correo.handlers import Sender
from correo.messages import PasswordMailSent, SendPasswordMail
from correo.service import CORREO
from correo.settings import CorreoSettings
from correo.smtp import Delayed, Letter, Outcome, RefusedForGood, Sent
from correo.tables import mail
from generador.handlers import generate_password
from generador.messages import GeneratePassword, PasswordGenerated, RevokePassword
from generador.service import GENERADOR
from generador.tables import password
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.dispatcher import Dispatcher
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.dispatch.worker import Worker
from pulsaga.delivery.loop import keep_trying
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.projection import Projector
from pulsaga.delivery.tables import dead_letter, failure, inbox, incident, outbox, unpack
from pulsaga.delivery.tables import event as events
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.saga.steps import minutes
from pulsaga.saga.tables import saga, saga_view
from pulsaga.saga.timers import UNMOVED_S, resend_to_silent, wake_due_sagas
from pulsaga.settings import Settings
from pulsaga_program.local import LocalPostgres

NUMBER = 20
OVERDUE_S = minutes(15) + 1


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """SQLite always, PostgreSQL too."""
    return settings_on(request, tmp_path)


@pytest.fixture
def coordinator(settings: Settings) -> Iterator[Desk]:
    """The coordinator's worker."""
    desk = make_desk(settings, "protools_saga")
    yield desk
    desk.runtime.write.dispose()


def another(desk: Desk) -> Desk:
    """Sit a second process of the same service down at the same database."""
    return make_desk(desk.runtime.settings, desk.service.name)


def run(work: Callable[[], object]) -> None:
    """Do a duty as its thread does, until nothing it needs is down."""
    keep_trying(threading.Event(), work)


def status_of(desk: Desk, saga_id: str) -> str:
    """Tell where a saga stands."""
    return next(str(row["status"]) for row in desk.rows(saga) if row["id"] == saga_id)


# --- recovery


def ids_said(name: str, *desks: Desk) -> list[str]:
    """List the ids of what was published under a name by any of the desks."""
    return [wire.properties["ce_id"] for desk in desks for wire in desk.said(name)]


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_a_database_that_restarts_while_recovery_runs_delays_it_and_no_more(
    coordinator: Desk, postgres: LocalPostgres
) -> None:
    """Durable-execution engines: recovery is itself interrupted, at the worst moment, and must begin again."""
    start_sagas(coordinator, NUMBER)
    pass_time(coordinator, OVERDUE_S)
    gate = Gate(coordinator)
    with ThreadPoolExecutor() as pool:
        waking = pool.submit(run, wake_due_sagas(coordinator.runtime).work)
        assert gate.reached.wait(PATIENCE_S)
        postgres.stop("immediate")
        gate.open.set()
        postgres.start()
        waking.result(PATIENCE_S)
    assert {row["status"] for row in coordinator.rows(saga)} == {"COMPENSATING"}
    undos = ids_said(contract_of(RevokePassword).name, coordinator)
    assert len(undos) == len(set(undos)) == NUMBER


def wakings(desk: Desk) -> Callable[[], object]:
    """Leave overdue sagas behind, and say how they are recovered."""
    start_sagas(desk, NUMBER)
    return lambda: wake_due_sagas(desk.runtime).work()


def sweeping(desk: Desk) -> Callable[[], object]:
    """Leave an outbox behind that nobody published, and say how it is recovered."""
    desk.broker.is_up = False
    start_sagas(desk, NUMBER)
    desk.broker.is_up = True
    return desk.runtime.transactions.outbox.sweep


RECOVERIES = {
    "wake-ups": (wakings, contract_of(RevokePassword).name),
    "sweeps": (sweeping, contract_of(GeneratePassword).name),
}


def race(first: Desk, work: Callable[[], object], rival: Callable[[], object]) -> None:
    """Do `work` up to its commit, then `rival`; where rows are locked one by one, the rival does not wait."""
    gate = Gate(first)
    with ThreadPoolExecutor() as pool:
        working = pool.submit(run, work)
        assert gate.reached.wait(PATIENCE_S)
        other = pool.submit(run, rival)
        if first.runtime.write.dialect.name == "postgresql":
            other.result(PATIENCE_S)
        gate.open.set()
        working.result(PATIENCE_S)
        other.result(PATIENCE_S)


@pytest.mark.parametrize("kind", RECOVERIES)
def test_two_recoverers_that_see_the_same_rows_share_them_without_waiting(coordinator: Desk, kind: str) -> None:
    """Durable-execution engines: two processes find the same overdue work; SKIP LOCKED gives each row to one."""
    leave_behind, name = RECOVERIES[kind]
    rival = another(coordinator)
    work = leave_behind(coordinator)
    for desk in (coordinator, rival):
        pass_time(desk, OVERDUE_S)
    takes = wake_due_sagas(rival.runtime).work if kind == "wake-ups" else rival.runtime.transactions.outbox.sweep
    race(coordinator, work, takes)
    said = ids_said(name, coordinator, rival)
    assert len(said) == len(set(said)) == NUMBER
    assert coordinator.broker.published
    assert rival.broker.published == []


def test_two_who_retry_the_same_failures_count_each_attempt_once(settings: Settings) -> None:
    """Durable-execution engines: the same failure taken twice would burn two of its attempts."""
    desk = make_desk(settings, "generador", {GeneratePassword: Handler(GeneratePassword, raise_runtime_error)})
    rival = make_desk(settings, "generador", {GeneratePassword: Handler(GeneratePassword, raise_runtime_error)})
    desk.worker.settle([deliver(GeneratePassword(f"u{i}")) for i in range(NUMBER)])
    desk.make_due()
    race(desk, desk.worker.retry_failures, rival.worker.retry_failures)
    assert [row["attempts"] for row in desk.rows(failure)] == [2] * NUMBER


def raise_runtime_error(_message: Any, _uow: Any) -> None:
    """Break as a handler may."""
    raise RuntimeError("broken")


# --- a coordinator that dies or stalls


def death_at_ack(desk: Desk) -> None:
    """Die after the commit, before the acknowledgement."""

    def die(_deliveries: Any) -> None:
        raise Death

    desk.acks.ack = die


def death_at_publication(desk: Desk) -> None:
    """Die after the acknowledgement, before anything is published."""

    def die(_wires: Any) -> None:
        raise Death

    desk.broker.publish = die


@pytest.mark.parametrize("moment", ["commit", "ack", "publish"])
def test_a_coordinator_that_dies_between_two_steps_blocks_neither_this_saga_nor_the_next(
    coordinator: Desk, moment: str
) -> None:
    """Orchestrators with an in-memory cursor: the saga in hand is taken up by another, the next never notices."""
    first, second = start_sagas(coordinator, 2)
    reply = answer(first)
    if moment == "commit":
        with dying_at(coordinator, "commit"):
            coordinator.worker.settle([reply])
    else:
        {"ack": death_at_ack, "publish": death_at_publication}[moment](coordinator)
        with pytest.raises(Death):
            coordinator.worker.settle([reply])
    successor = another(coordinator)
    successor.worker.settle([answer(second)])
    assert kinds_of(successor, second.key)[-2:] == ["replied", "issued"]
    if moment != "publish":  # there it was acknowledged: only the sweep can know
        successor.worker.settle([reply])
    pass_time(successor, 6)
    successor.runtime.transactions.outbox.sweep()
    assert kinds_of(successor, first.key) == ["started", "issued", "replied", "issued"]
    assert {wire.key for wire in successor.said(contract_of(SendPasswordMail).name)} == {first.key, second.key}


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_a_coordinator_that_stalls_in_its_transaction_holds_up_its_own_saga_alone_and_not_for_long(
    settings: Settings,
) -> None:
    """Orchestrators with one lock for all: the server ends the stalled transaction, and its owner writes nothing."""
    short = replace(settings, transaction_timeout=1.0)
    zombie = make_desk(short, "protools_saga")
    first, second = start_sagas(zombie, 2)
    rival, gate, reply = another(zombie), Gate(zombie), answer(first)
    with ThreadPoolExecutor() as pool:
        stalled = pool.submit(zombie.worker.settle, [reply])
        assert gate.reached.wait(PATIENCE_S)
        rival.worker.settle([answer(second)])
        rival.worker.settle([reply])
        gate.open.set()
        stalled.result(PATIENCE_S)
    for command in (first, second):
        assert kinds_of(rival, command.key) == ["started", "issued", "replied", "issued"]
    assert zombie.said(contract_of(SendPasswordMail).name) == []


def test_replies_that_waited_through_a_restart_are_heard_with_no_new_saga_started(coordinator: Desk) -> None:
    """eventuate#40: replies were only listened to once the new process had started a saga of its own."""
    (command,) = start_sagas(coordinator, 1)
    restarted = another(coordinator)
    replies = {PasswordGenerated, PasswordMailSent, GENERADOR.refused, GENERADOR.failed, CORREO.refused, CORREO.failed}
    assert {contract_of(cls).name for cls in replies} <= set(restarted.service.consumes)
    restarted.worker.settle([answer(command)])
    (mailing,) = restarted.said(contract_of(SendPasswordMail).name)
    another(coordinator).worker.settle([mail_sent(mailing)])
    assert status_of(restarted, command.key) == "COMPLETED"


# --- a channel that must go on


def run_through(desk: Desk, *batches: list[Delivery]) -> bool:
    """Run the real loop over batches in its thread; tell whether it was still alive at their end."""
    feed = Feed(*batches)
    worker = Worker(desk.worker._dispatcher, desk.worker._reader, desk.runtime.transactions, feed, 500)
    with ThreadPoolExecutor() as pool:
        loop = pool.submit(worker.run)
        loop.add_done_callback(lambda _: feed.drained.set())
        assert feed.drained.wait(PATIENCE_S)
        alive = loop.running()
        worker.stop()
        loop.result(PATIENCE_S)
    return alive


ERRORS = [RuntimeError, KeyError, AssertionError, RecursionError, MemoryError, StopIteration, OSError]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_an_exception_that_nobody_expected_does_not_stop_the_channel(
    settings: Settings, error: type[Exception]
) -> None:
    """eventuate#72: an exception in a handler ended the subscription's thread, and every saga behind it stood still."""

    def handle(message: Any, uow: Any) -> None:
        if message.body.username == "odd":
            raise error("unexpected")
        generate_password(message, uow)

    desk = make_desk(
        settings, "generador", {GeneratePassword: replace(GENERADOR.handling[GeneratePassword], function=handle)}
    )
    batches = [[deliver(GeneratePassword(name))] for name in ("ada", "odd", "bob")]
    assert run_through(desk, *batches)
    assert {row["username"] for row in desk.rows(password)} == {"ada", "bob"}
    assert desk.count(failure) == 1


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_after_a_command_of_unknown_type_the_consumer_is_alive(settings: Settings) -> None:
    """eventuate-core#172: a type that nobody handles ended the consumer for good; redelivery then ended the next."""
    desk = make_desk(settings, "generador")
    odd = deliver(GeneratePassword("odd"))
    odd = odd._replace(wire=odd.wire._replace(properties={**odd.wire.properties, "ce_type": "generador.no-such"}))
    assert run_through(desk, [odd], [deliver(GeneratePassword("ada"))], [odd], [deliver(GeneratePassword("bob"))])
    assert {row["username"] for row in desk.rows(password)} == {"ada", "bob"}
    assert desk.count(failure) == 1


def a_saga_of_another_release(coordinator: Desk, saga_id: str) -> None:
    """Let a saga have begun with a definition that this release does not have."""
    with coordinator.runtime.write.begin() as tx:
        row = tx.execute(select(saga).where(saga.c.id == saga_id)).mappings().one()
        other = row["progress"].replace('"issue-password@1"', '"issue-password@99"')
        assert other != row["progress"]
        tx.execute(update(saga).where(saga.c.id == saga_id).values(progress=other, workflow="issue-password@99"))


@pytest.mark.parametrize("duty", [wake_due_sagas, resend_to_silent])
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_one_saga_that_cannot_be_advanced_does_not_stop_the_timers_of_the_others(coordinator: Desk, duty: Any) -> None:
    """eventuate#72, on the clock's side: a message's exception is its own, a timer's must be too."""
    broken, *_ = start_sagas(coordinator, 3)
    a_saga_of_another_release(coordinator, broken.key)
    before = len(coordinator.broker.published)
    pass_time(coordinator, OVERDUE_S + UNMOVED_S)
    for _ in range(3):
        run(duty(coordinator.runtime).work)
        pass_time(coordinator, 6)
    assert {wire.key for wire in coordinator.broker.published[before:]} - {broken.key}
    (told,) = coordinator.rows(incident)
    assert (told["kind"], told["subject"]) == ("unmoved", broken.key)
    assert "no workflow issue-password@99 is declared" in told["detail"]


@pytest.mark.parametrize("duty", [wake_due_sagas, resend_to_silent])
def test_one_saga_that_the_database_refuses_does_not_stop_the_timers_of_the_others(
    coordinator: Desk, duty: Any
) -> None:
    """What a page of sagas writes is one statement: one row that cannot be written took all others along, each time."""
    refused, *others = start_sagas(coordinator, 9)
    refuse_updates(coordinator, saga, f"NEW.id = '{refused.key}'")
    before = len(coordinator.broker.published)
    pass_time(coordinator, OVERDUE_S)
    work = duty(coordinator.runtime).work
    for _ in range(12):
        run(work)
        pass_time(coordinator, 6)
    moved = {wire.key for wire in coordinator.broker.published[before:]}
    assert moved == {wire.key for wire in others}
    (told,) = coordinator.rows(incident)
    assert (told["kind"], told["subject"]) == ("unmoved", refused.key)


# --- a long history

ROWS = 50_000
WAITING_ROWS = 5_000
FAR = 9e9

HISTORY = {
    "inbox": "{id}, '{service}', {blob}, 0",
    "event": "'a' || g, 1, {id}, 't', {id}, {blob}, 0",
    "dead_letter": "'d' || g, 't', {blob}, 3, 'e', NULL, 0, 'discarded', 0",
    "outbox": f"{{id}}, 't', {{blob}}, {FAR}",
    "failure": f"'f' || g, 't', {{blob}}, 1, 'e', {FAR}, 0",
    "saga": "{id}, 1, 'w', 'COMPLETED', 4, 'ada', '{{}}', '{{}}', NULL, NULL, NULL, 0, NULL",
    "mail": "{id}, 1, 'ada', 'a@b', 's', '{{}}', 'sent', 1, NULL, NULL, 0, 0, '', 'password'",
    "password": "'p' || g, 1, 1, {id}, {id}, 'ada', 'revealed', NULL, NULL, {blob}, {blob}, 0, 0, NULL",
    "failed_attempt": f"'k' || g, 1, 1, {FAR}",
}
"""A row of each table's history as SQL, by a running number g. What waits in outbox and failure is not due."""


def fill(desk: Desk) -> set[str]:
    """Give a service a long history; return which of its tables are long now."""
    is_postgresql = desk.runtime.write.dialect.name == "postgresql"
    number = "lpad(CAST(g AS text), 12, '0')" if is_postgresql else "printf('%012d', g)"
    name = f"('00000000-0000-7000-8000-' || {number})"
    values = {
        "service": desk.service.name,
        "id": f"CAST({name} AS uuid)" if is_postgresql else name,
        "blob": r"CAST('\x00' AS bytea)" if is_postgresql else "x'00'",
    }
    tables = {"inbox", "event", "dead_letter", "outbox", "failure"} | HISTORY.keys() & desk.service.tables.tables.keys()
    with desk.runtime.write.begin() as tx:
        for table in sorted(tables):
            rows = WAITING_ROWS if table in ("outbox", "failure", "dead_letter") else ROWS
            series = f"WITH RECURSIVE s(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM s WHERE g < {rows})"
            chosen = HISTORY[table].format(**values)
            tx.exec_driver_sql(f"INSERT INTO {table} {series} SELECT {chosen} FROM s")
        tx.exec_driver_sql("ANALYZE")
    return tables


def traffic(desk: Desk) -> None:
    """Do everything a worker ever does: fresh messages, twins, what cannot be read, retries, sweeps, duties."""
    bodies = {"generador": GeneratePassword("ada"), "protools_saga": IssuePassword("ada", "ada@example.test")}
    batch = [deliver(bodies[desk.service.name]) if desk.service.name in bodies else wish_for_mail("ada")]
    unreadable = batch[0]._replace(schema="")
    for deliveries in (batch, batch, [unreadable]):
        desk.worker.settle(deliveries)
    pass_time(desk, 6)
    for work in (
        desk.worker.retry_failures,
        desk.runtime.transactions.outbox.sweep,
        desk.runtime.transactions.outbox.clear,
    ):
        work()
    for make in desk.service.duties:
        make(desk.runtime).work()


def plans(desk: Desk, work: Callable[[Desk], None]) -> list[str]:
    """Do work, and return the plan of every statement in it that looks for rows."""
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")) and ";" not in statement:
            said.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(desk.runtime.write, "before_cursor_execute", note)
    work(desk)
    event.remove(desk.runtime.write, "before_cursor_execute", note)
    explain = "EXPLAIN" if desk.runtime.write.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with desk.runtime.write.connect() as connection:
        plans = [connection.exec_driver_sql(f"{explain} {sql}", parameters).all() for sql, parameters in said]
    return [f"{sql}\n" + "\n".join(str(row[-1]) for row in plan) for (sql, _), plan in zip(said, plans, strict=True)]


def whole_scans(plan: str, tables: set[str]) -> list[str]:
    """Return the lines of a plan that read one of these tables from end to end."""
    names = tables | {"i", "e"}  # as the inbox's query calls inbox and event
    lines = [line.strip(" ->").split() for line in plan.splitlines()[1:]]
    postgresql = [line for line in lines if line[:3] == ["Seq", "Scan", "on"] and line[3] in names]
    sqlite = [line for line in lines if line[:1] == ["SCAN"] and line[1] in names and "USING" not in line]
    return [" ".join(line) for line in postgresql + sqlite]


@pytest.mark.parametrize("service", ["protools_saga", "generador", "correo"])
def test_a_long_history_slows_neither_inbox_nor_outbox_nor_any_duty(settings: Settings, service: str) -> None:
    """eventuate-core#46: the tables grew, a query read them from end to end, and every message paid for all before."""
    desk = make_desk(settings, service, None, system.SYSTEM)  # some of its workflows have branches
    tables = fill(desk)
    found = plans(desk, traffic)
    assert desk.count(failure) == WAITING_ROWS + 1
    assert {table for table in tables if any(f" {table}" in plan or f'"{table}"' in plan for plan in found)} == tables
    assert [plan for plan in found if whole_scans(plan, tables)] == []


@pytest.mark.parametrize("service", ["protools_saga"])
def test_a_query_without_an_index_would_be_seen(settings: Settings, service: str) -> None:
    """Otherwise the test above could not fail."""
    desk = make_desk(settings, service)
    tables = fill(desk)

    def without_index(desk: Desk) -> None:
        with desk.runtime.write.begin() as tx:
            tx.execute(select(events.c.id).where(events.c.type == "x"))
            tx.execute(select(saga.c.id).where(saga.c.moved_at == 1))

    assert [bool(whole_scans(plan, tables)) for plan in plans(desk, without_index)] == [True, True]


# --- load


def test_heavy_load_while_the_outbox_is_dispatched_hangs_nobody_and_loses_nothing(settings: Settings) -> None:
    """MassTransit#4990: the dispatcher and those who write fought for the outbox's rows until all stood still."""
    desks = [make_desk(replace(settings, sweep_after=0.0), "generador") for _ in range(2)]
    dispatcher, done = another(desks[0]), threading.Event()

    def load_up(desk: Desk) -> None:
        for batch in range(8):
            desk.broker.is_up = bool(batch % 2)
            desk.worker.settle([deliver(GeneratePassword(f"u{new_id()}")) for _ in range(50)])

    def dispatch() -> None:
        while not done.is_set():
            run(dispatcher.runtime.transactions.outbox.sweep)
            run(dispatcher.runtime.transactions.outbox.clear)

    with ThreadPoolExecutor() as pool:
        dispatching, loads = pool.submit(dispatch), [pool.submit(load_up, desk) for desk in desks]
        for each in loads:
            each.result(2 * PATIENCE_S)
        done.set()
        dispatching.result(PATIENCE_S)
    for desk in [*desks, dispatcher]:
        run(desk.runtime.transactions.outbox.sweep)
        run(desk.runtime.transactions.outbox.clear)
    said = ids_said(contract_of(PasswordGenerated).name, *desks, dispatcher)
    assert set(said) == {row["id"] for row in dispatcher.rows(events)}
    assert len(set(said)) == dispatcher.count(password) == 800
    assert dispatcher.count(outbox) == dispatcher.count(failure) == 0


# --- order


def moves_swept(coordinator: Desk) -> list[tuple[str, int]]:
    """Let sagas make two moves each with the broker down, sweep in vain, then for good: which moves went out when."""
    coordinator.broker.is_up = False
    start_sagas(coordinator, NUMBER)
    waiting = [unpack(row["wire"]) for row in coordinator.rows(outbox)]
    commands = [wire for wire in waiting if wire.topic == contract_of(GeneratePassword).name]
    for command in commands:
        coordinator.worker.settle([answer(command)])
    for _ in range(2):
        pass_time(coordinator, 6)
        coordinator.runtime.transactions.outbox.sweep()
    coordinator.broker.is_up = True
    pass_time(coordinator, 6)
    coordinator.runtime.transactions.outbox.sweep()
    return [
        (wire.key, int(wire.properties["ce_version"]))
        for wire in coordinator.said(contract_of(SYSTEM.sagas.moved).name)
    ]


def test_each_sagas_moves_leave_the_outbox_in_order_even_after_sweeps_in_vain(coordinator: Desk) -> None:
    """MassTransit#3512: messages of one saga left in another order than they were written, batch by batch."""
    swept = moves_swept(coordinator)
    by_saga = {key: [version for other, version in swept if other == key] for key, _ in swept}
    assert list(by_saga.values()) == [[1, 2]] * NUMBER


def moves_of_a_whole_saga(coordinator: Desk) -> list[Delivery]:
    """Bring one saga to its end and return its moves."""
    (command,) = start_sagas(coordinator, 1)
    coordinator.worker.settle([answer(command)])
    coordinator.worker.settle([mail_sent(coordinator.said(contract_of(SendPasswordMail).name)[-1])])
    return [arrived(wire) for wire in coordinator.said(contract_of(SYSTEM.sagas.moved).name)]


def test_whatever_order_moves_arrive_in_the_newest_is_shown(coordinator: Desk) -> None:
    """MassTransit#3512, where it matters: what is shown must not go back, however late an older move comes."""
    moves = moves_of_a_whole_saga(coordinator)
    assert len(moves) == 3
    settings, service = coordinator.runtime.settings, SYSTEM["protools_saga"]
    engine = open_database(settings, "protools_saga", "read", "projector")
    reader = Reader(service.projecting, CODEC, coordinator.broker)
    projector = Projector(service.projecting, reader, engine, Acks(), settings.batch_limit)
    for order in permutations(moves):
        with engine.begin() as tx:
            tx.execute(saga_view.delete())
        for move in order:
            projector.settle([move])
        with engine.connect() as connection:
            assert [(r.status, r.version) for r in connection.execute(select(saga_view))] == [("COMPLETED", 3)]
    engine.dispose()


# --- the same message, more than once or at more than one place


def test_the_same_event_is_handled_by_each_of_two_services(coordinator: Desk) -> None:
    """NServiceBus.NHibernate#117: two endpoints shared an inbox, and the second took the first's event for a twin."""
    heard: list[str] = []

    def listen(message: Any, _uow: Any) -> None:
        heard.append(message.id)

    runtime = coordinator.runtime
    (command,) = start_sagas(coordinator, 1)
    told = answer(command)
    auditor = Transactions(
        runtime.write, coordinator.broker, replace(runtime.transactions.outbox.speaker, service="auditor")
    )
    handlers = {PasswordGenerated: Handler(PasswordGenerated, listen)}
    reader = Reader(handlers, CODEC, coordinator.broker)
    rules = Dispatcher(handlers, None, None, withdrawn=None, attempts=3, delay_s=1)
    auditing = Worker(rules, reader, auditor, coordinator.acks, 500)
    for worker in (coordinator.worker, auditing, coordinator.worker, auditing):
        worker.settle([told])
    assert heard == [told.wire.properties["ce_id"]]
    assert kinds_of(coordinator, command.key) == ["started", "issued", "replied", "issued"]
    assert sorted(row["consumer"] for row in coordinator.rows(inbox) if row["id"] == heard[0]) == [
        "auditor",
        "protools_saga",
    ]


def test_a_deferred_retry_races_a_redelivery_of_the_same_command_and_one_password_comes_of_it(
    settings: Settings,
) -> None:
    """NServiceBus#4993: the retry of a message whose redelivery is being done must meet the inbox, not do it again."""
    breaks = [True]

    def handle(message: Any, uow: Any) -> None:
        if breaks[0]:
            raise RuntimeError("not yet")
        generate_password(message, uow)

    handlers = {GeneratePassword: replace(GENERADOR.handling[GeneratePassword], function=handle)}
    desk, rival = (make_desk(settings, "generador", handlers) for _ in range(2))
    command = deliver(GeneratePassword("ada"))
    desk.worker.settle([command])
    desk.make_due()
    breaks[0] = False
    gate = Gate(desk)
    with ThreadPoolExecutor() as pool:
        redelivered = pool.submit(desk.worker.settle, [command])
        assert gate.reached.wait(PATIENCE_S)
        retried = pool.submit(run, rival.worker.retry_failures)
        gate.open.set()
        redelivered.result(PATIENCE_S)
        retried.result(PATIENCE_S)
    assert desk.count(password) == desk.count(events) == desk.count(inbox) == 1
    assert desk.count(failure) == desk.count(dead_letter) == 0
    assert len(set(ids_said(contract_of(PasswordGenerated).name, desk, rival))) == 1


def at_once(number: int, work: Callable[[int], object]) -> None:
    """Let several threads do something at the same moment."""
    together = threading.Barrier(number)

    def each(index: int) -> None:
        together.wait(PATIENCE_S)
        run(lambda: work(index))

    with ThreadPoolExecutor() as pool:
        list(pool.map(each, range(number)))


@pytest.mark.parametrize("readable", [True, False])
def test_three_consumers_of_the_same_poison_make_exactly_one_dead_letter(settings: Settings, readable: bool) -> None:
    """pulsar#6960: each of several consumers sent the message it could not handle to the dead letters."""
    handlers = {GeneratePassword: Handler(GeneratePassword, raise_runtime_error)}
    desks = [make_desk(settings, "generador", handlers) for _ in range(3)]
    poison = deliver(GeneratePassword("ada"))
    poison = poison if readable else poison._replace(schema="")
    for _ in range(4):
        at_once(3, lambda index: desks[index].worker.settle([poison]))
        desks[0].make_due()
        at_once(3, lambda index: desks[index].worker.retry_failures())
    (letter,) = desks[0].rows(dead_letter)
    assert letter["attempts"] == 3
    assert [row["kind"] for row in desks[0].rows(incident)] == ["dead-letter"]
    assert desks[0].count(failure) == 0
    assert len(set(ids_said(contract_of(GENERADOR.failed).name, *desks))) == (1 if readable else 0)


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
@pytest.mark.parametrize("readable", [True, False])
def test_two_who_bury_the_same_poison_at_once_call_the_operator_once(settings: Settings, readable: bool) -> None:
    """pulsar#6960, with a single attempt: nothing but the dead letter's own row can tell the second that it is one."""
    single = replace(settings, failure_attempts=1)
    desk, rival = (
        make_desk(single, "generador", {GeneratePassword: Handler(GeneratePassword, raise_runtime_error)})
        for _ in range(2)
    )
    poison = deliver(GeneratePassword("ada"))
    poison = poison if readable else poison._replace(schema="")
    gate = Gate(desk)
    with ThreadPoolExecutor() as pool:
        burying = pool.submit(desk.worker.settle, [poison])
        assert gate.reached.wait(PATIENCE_S)
        asking = threading.Event()
        event.listen(rival.runtime.write, "before_cursor_execute", lambda _c, _k, sql, *_: _tell(asking, sql))
        also = pool.submit(rival.worker.settle, [poison])
        assert asking.wait(PATIENCE_S)
        gate.open.set()
        burying.result(PATIENCE_S)
        also.result(PATIENCE_S)
    assert (desk.count(dead_letter), desk.count(incident)) == (1, 1)


def _tell(asking: threading.Event, sql: str) -> None:
    """Say that a desk is about to write its dead letter."""
    if 'INTO "dead_letter"' in sql:
        asking.set()


# --- timers and ends


def whole(coordinator: Desk, saga_id: str) -> tuple[Any, ...]:
    """Return what of a saga must move together: state, timer, next retry, log, what is to be said, inbox."""
    (row,) = [row for row in coordinator.rows(saga) if row["id"] == saga_id]
    counts = (coordinator.count(table) for table in (events, outbox, inbox))
    return (*(row[name] for name in ("status", "seq", "progress", "wake_at", "resend_at", "target")), *counts)


def dying_in_statement(coordinator: Desk, number: int, work: Callable[[], object]) -> bool:
    """Do work and die before its statement of this number; tell whether it came to that."""
    left = [number]

    def die(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        left[0] -= not statement.startswith("BEGIN")
        if left[0] == 0:
            raise Death

    event.listen(coordinator.runtime.write, "before_cursor_execute", die)
    try:
        work()
    except Death:
        return True
    finally:
        event.remove(coordinator.runtime.write, "before_cursor_execute", die)
    return False


@pytest.mark.parametrize("moving", ["reply", "deadline", "silence"])
def test_a_sagas_timer_and_its_state_never_part_wherever_its_process_dies(coordinator: Desk, moving: str) -> None:
    """dapr#9843: a timer was stored and the state behind it was not, and a workflow hung for ever."""
    (command,) = start_sagas(coordinator, 1)
    reply = answer(command)
    works = {
        "reply": lambda: coordinator.worker.settle([reply]),
        "deadline": wake_due_sagas(coordinator.runtime).work,
        "silence": resend_to_silent(coordinator.runtime).work,
    }
    pass_time(coordinator, OVERDUE_S)
    before, deaths = whole(coordinator, command.key), 0
    with dying_at(coordinator, "commit"):
        works[moving]()
    while dying_in_statement(coordinator, deaths + 1, works[moving]):
        deaths += 1
        assert whole(coordinator, command.key) == before
    after = whole(coordinator, command.key)
    assert deaths >= 2
    assert after[1] == before[1] + 1
    assert after[3] is not None


ENDINGS = ["COMPLETED", "COMPENSATED"]


def ended(coordinator: Desk, status: str) -> list[Delivery]:
    """Bring one saga to its end; return every answer that its commands could still get."""
    (generate,) = start_sagas(coordinator, 1)
    coordinator.worker.settle([answer(generate)])
    mailing = coordinator.said(contract_of(SendPasswordMail).name)[-1]
    no = CORREO.refused(contract_of(SendPasswordMail).name, "mailbox-refused", "550")
    failed = CORREO.failed(contract_of(SendPasswordMail).name, "dead-letter", "boom")
    coordinator.worker.settle([mail_sent(mailing) if status == "COMPLETED" else answer(mailing, no)])
    for undo in coordinator.said(contract_of(RevokePassword).name):
        coordinator.worker.settle([answer(undo)])
    return [answer(generate), mail_sent(mailing), answer(mailing, no), answer(mailing, failed)]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("status", ENDINGS)
def test_a_saga_that_has_ended_moves_no_more_whatever_comes(coordinator: Desk, status: str) -> None:
    """Netflix/conductor#3491: a late update of a task took a finished workflow out of its terminal state."""
    late = ended(coordinator, status)
    said = len(coordinator.said(contract_of(GeneratePassword).name)) + len(
        coordinator.said(contract_of(RevokePassword).name)
    )
    coordinator.worker.settle(late)
    pass_time(coordinator, 24 * 3600)
    for duty in (wake_due_sagas, resend_to_silent):
        duty(coordinator.runtime).work()
    (row,) = coordinator.rows(saga)
    assert (row["status"], row["wake_at"], row["resend_at"]) == (status, None, None)
    assert kinds_of(coordinator, row["id"]).count("ended") == 1
    again = len(coordinator.said(contract_of(GeneratePassword).name)) + len(
        coordinator.said(contract_of(RevokePassword).name)
    )
    assert again == said
    assert len(coordinator.said(contract_of(SendPasswordMail).name)) == 1
    assert coordinator.count(failure) == 0


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("status", ENDINGS)
def test_a_reply_that_dies_after_its_saga_has_ended_suspends_nothing(coordinator: Desk, status: str) -> None:
    """Netflix/conductor#3491, by way of the dead letters: the operator sees the letter, the saga stays ended."""
    late = ended(coordinator, status)[0]
    broken = {PasswordGenerated: replace(SYSTEM.coordinator.handling[PasswordGenerated], function=raise_runtime_error)}
    desk = make_desk(coordinator.runtime.settings, "protools_saga", broken)
    desk.worker.settle([late])
    desk.retry_until_buried()
    assert desk.count(dead_letter) == 1
    assert [row["status"] for row in desk.rows(saga)] == [status]


# --- a slow sender


class SlowPostman:
    """Take so long over a round that something happens in between."""

    def __init__(self, meanwhile: Callable[[], object], outcome: Outcome) -> None:
        self._meanwhile, self._outcome = meanwhile, outcome

    def deliver(self, letters: Any) -> Iterator[tuple[Letter, Outcome]]:
        """Give every letter the one outcome, after what happened meanwhile."""
        letters = list(letters)
        self._meanwhile()
        for letter in letters:
            yield letter, self._outcome


@pytest.mark.parametrize("first", [Sent(), RefusedForGood("mailbox-refused", "550"), Delayed("451")])
@pytest.mark.parametrize("second", [Sent(), RefusedForGood("mailbox-refused", "550")])
def test_a_sender_that_lost_its_claim_cannot_finish(settings: Settings, first: Outcome, second: Outcome) -> None:
    """Lease-based queues: one that woke up after its lease ran out reported over the head of its successor."""
    slow, quick = make_desk(settings, "correo"), make_desk(settings, "correo")
    pass_time(quick, quick.runtime.settings.of(CorreoSettings).mail_claim + 1)
    successor, sleeper = Sender(quick.runtime), Sender(slow.runtime)
    reported: list[Any] = []

    def meanwhile() -> None:
        successor._postman = SlowPostman(lambda: None, second)
        successor.send_due()
        reported[:] = slow.rows(mail)

    sleeper._postman = SlowPostman(meanwhile, first)
    slow.worker.settle([wish_for_mail("ada")])
    sleeper.send_due()
    assert slow.rows(mail) == reported
    assert reported[0]["status"] == ("sent" if isinstance(second, Sent) else "refused")
    assert slow.count(events) == 1
    assert slow.broker.published == []
    assert len(quick.broker.published) == 1


class NotingPostman:
    """Send everything, and note to whom."""

    def __init__(self, taken: list[str]) -> None:
        self._taken = taken

    def deliver(self, letters: Any) -> Iterator[tuple[Letter, Outcome]]:
        """Take each letter."""
        for letter in letters:
            self._taken.append(letter.recipient)
            yield letter, Sent()


def test_two_senders_do_not_take_the_same_mail(settings: Settings) -> None:
    """Durable-execution engines: two recoverers at one row, where it would be seen as two mails."""
    desks = [make_desk(settings, "correo") for _ in range(2)]
    taken: list[list[str]] = [[], []]
    senders = [Sender(desk.runtime) for desk in desks]
    for sender, letters in zip(senders, taken, strict=True):
        sender._postman = NotingPostman(letters)
    desks[0].worker.settle([wish_for_mail(f"u{i}") for i in range(NUMBER)])
    race(desks[0], senders[0].send_due, senders[1].send_due)
    assert len(taken[0]) == NUMBER
    assert taken[1] == []
    assert {row["status"] for row in desks[0].rows(mail)} == {"sent"}
