"""Look for what is due: a duty sleeps until a row's time has come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, select, update
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, make_desk
from tests.service.stage import BOTH, POSTGRESQL, counted, settings_on, start_sagas
from tests.service.test_smtp import free_port

from pulsaga.delivery.database import glance
from pulsaga.delivery.loop import Due, Duty, DutyThread, Lookout
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import failure, incident, outbox
from pulsaga.errors import Unavailable
from pulsaga.running.loops import report
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import UNMOVED_S, resend_to_silent
from pulsaga_program.local.process import wait_until


@pytest.fixture(params=BOTH)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = make_desk(settings_on(request, tmp_path), "generador")
    yield made
    made.runtime.write.dispose()


@pytest.fixture
def duties() -> Iterator[tuple[DutyThread, DutyThread, list[str]]]:
    """One duty for each of two tables, and who was at work."""
    ran: list[str] = []
    sweep = DutyThread(Duty("sweep", lambda: ran.append("sweep"), due=[Due(outbox.c.due_at, 60.0)]))
    retry = DutyThread(Duty("retry", lambda: ran.append("retry"), due=[Due(failure.c.due_at, 60.0)]))
    for thread in (sweep, retry):
        thread.start()
    yield sweep, retry, ran
    for thread in (sweep, retry):
        thread.stop()
        thread.join(PATIENCE_S)


def test_a_duty_is_woken_when_its_row_is_due_and_no_other(
    desk: Desk, duties: tuple[DutyThread, DutyThread, list[str]]
) -> None:
    """What is due is done within a second; what is not costs nothing but the one look of all."""
    sweep, retry, ran = duties
    lookout = Lookout(desk.runtime.write, 0.0, [sweep, retry])
    for due_at in (time.time() + 3600, time.time() - 1):
        lookout.look()
        assert ran == []
        with desk.runtime.write.begin() as tx:
            tx.execute(insert(outbox).values(id=new_id(), topic="t", wire=b"", due_at=due_at))
    lookout.look()
    assert wait_until(lambda: ran == ["sweep"], PATIENCE_S)


def test_a_look_tells_a_duty_that_nothing_is_due_for_it(desk: Desk) -> None:
    """What a duty gathers for its next turn must not grow old while it has none."""
    told: list[str] = []
    duty = Duty("sweep", lambda: None, due=[Due(outbox.c.due_at, 60.0)], calm=lambda: told.append("calm"))
    lookout = Lookout(desk.runtime.write, 0.0, [DutyThread(duty)])
    lookout.look()
    assert told == ["calm"]
    with desk.runtime.write.begin() as tx:
        tx.execute(insert(outbox).values(id=new_id(), topic="t", wire=b"", due_at=time.time() - 1))
    lookout.look()
    assert told == ["calm"]


def test_a_clock_that_was_set_forward_counts(desk: Desk, duties: tuple[DutyThread, DutyThread, list[str]]) -> None:
    """Tests and drills move the clock; a duty that looked at another one would sleep on."""
    with desk.runtime.write.begin() as tx:
        tx.execute(insert(outbox).values(id=new_id(), topic="t", wire=b"", due_at=time.time() + 3600))
    Lookout(desk.runtime.write, 3601.0, duties[:2]).look()
    assert wait_until(lambda: duties[2] == ["sweep"], PATIENCE_S)


def test_all_duties_of_a_process_cost_one_statement_a_look(
    desk: Desk, duties: tuple[DutyThread, DutyThread, list[str]]
) -> None:
    """An idle system's processor time is its looks: one loan of a connection each; SQLite tells what ran."""
    engine, ran = desk.runtime.write, list[str]()
    lent = list[object]()

    def note(driver: Any, record: object, _lending: object) -> None:
        lent.append(record)
        if engine.dialect.name == "sqlite":
            driver.set_trace_callback(ran.append)

    event.listen(engine, "checkout", note)
    Lookout(engine, 0.0, duties[:2]).look()
    assert len(lent) == 1
    assert len(ran) == (engine.dialect.name == "sqlite")


def test_a_duty_that_is_wanted_is_woken_though_nothing_is_due(desk: Desk) -> None:
    """What makes it so may lie in memory, such as a topic that is to be tried again."""
    ran: list[str] = []
    duty = Duty("sweep", lambda: ran.append("sweep"), due=[Due(outbox.c.due_at, 60.0)], wanted=lambda: not ran)
    thread = DutyThread(duty)
    thread.start()
    lookout = Lookout(desk.runtime.write, 0.0, [thread])
    lookout.look()
    assert wait_until(lambda: ran == ["sweep"], PATIENCE_S)
    thread.stop()
    thread.join(PATIENCE_S)


def test_what_waits_longer_than_anything_may_is_brought_forward(
    desk: Desk, duties: tuple[DutyThread, DutyThread, list[str]]
) -> None:
    """A clock that was a day ahead leaves waits behind that nobody meant; what waits as long as it may is left."""
    lookout = Lookout(desk.runtime.write, 0.0, duties[:2])
    ids = {wait_s: new_id() for wait_s in (30.0, 86_400.0)}
    with desk.runtime.write.begin() as tx:
        for wait_s, identifier in ids.items():
            tx.execute(insert(outbox).values(id=identifier, topic="t", wire=b"", due_at=time.time() + wait_s))
    lookout.look()
    assert wait_until(lambda: duties[2] == ["sweep"], PATIENCE_S)
    waits = {row["id"]: row["due_at"] - time.time() for row in desk.rows(outbox)}
    assert waits[ids[86_400.0]] < 1 < waits[ids[30.0]]


@pytest.mark.parametrize("desk", [POSTGRESQL], indirect=True)
def test_a_row_that_is_locked_keeps_no_other_from_being_brought_forward(
    desk: Desk, duties: tuple[DutyThread, DutyThread, list[str]]
) -> None:
    """All duties of a process share one lookout: it must not wait for what somebody's session holds."""
    locked, free = new_id(), new_id()
    with desk.runtime.write.begin() as tx:
        for identifier in (locked, free):
            tx.execute(insert(outbox).values(id=identifier, topic="t", wire=b"", due_at=time.time() + 86_400.0))
    with desk.runtime.write.connect() as connection, connection.begin():
        connection.execute(select(outbox).where(outbox.c.id == locked).with_for_update())
        Lookout(desk.runtime.write, 0.0, duties[:2]).look()
        waits = {row["id"]: row["due_at"] - time.time() for row in desk.rows(outbox)}
    assert waits[free] < 1 < waits[locked]


def test_a_saga_that_cannot_be_sent_again_leaves_the_others_their_turn(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What puts it off is longer than any silence: it was brought forward, and tried again, each second."""
    request.param = "sqlite"
    coordinator = make_desk(settings_on(request, tmp_path), "protools_saga")
    start_sagas(coordinator, 1)
    with coordinator.runtime.write.begin() as tx:
        tx.execute(update(saga).values(context="{", resend_at=time.time() - 1))
    duty = resend_to_silent(coordinator.runtime)
    duty.work()
    Lookout(coordinator.runtime.write, 0.0, [DutyThread(duty)]).look()
    (row,) = coordinator.rows(saga)
    assert row["resend_at"] > time.time() + UNMOVED_S / 2
    coordinator.runtime.write.dispose()


def test_a_look_is_no_transaction_and_waits_for_nobody(
    desk: Desk, duties: tuple[DutyThread, DutyThread, list[str]]
) -> None:
    """On SQLite one that wants to write would wait for who writes."""
    engine = desk.runtime.write
    lookout = Lookout(engine, 0.0, duties[:2])
    with engine.begin() as writing, counted(engine) as bill:
        writing.execute(insert(outbox).values(id=new_id(), topic="t", wire=b"", due_at=time.time() - 1))
        lookout.look()
        assert (bill.statements, bill.commits, bill.rollbacks) == (1, 0, 0)  # the insertion
    assert duties[2] == []
    lookout.look()
    assert wait_until(lambda: duties[2] == ["sweep"], PATIENCE_S)


def test_a_look_that_fails_leaves_a_whole_pool(desk: Desk) -> None:
    """The next look gets a connection that works, and so does the next transaction."""
    engine = desk.runtime.write
    with pytest.raises(Unavailable):
        glance(engine, "SELECT nobody FROM nowhere")
    assert list(glance(engine, "SELECT 1")) == [1]
    with engine.begin() as tx:  # what was lent came back as it was: a rollback undoes what was written
        tx.execute(insert(outbox).values(id=new_id(), topic="t", wire=b"", due_at=1.0))
        tx.rollback()
    assert list(glance(engine, "SELECT count(*) FROM outbox")) == [0]


def test_a_look_at_a_database_that_cannot_be_reached_is_waited_out(desk: Desk) -> None:
    """What is not Unavailable would break the loop, and with it the process."""
    lookout = Lookout(
        _unreachable(desk.runtime.write), 0.0, [DutyThread(Duty("sweep", list, due=[Due(outbox.c.due_at, 60.0)]))]
    )
    with pytest.raises(Unavailable):
        lookout.look()


def _unreachable(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return create_engine("sqlite:////nowhere/at/all.db")
    return create_engine(engine.url.set(port=free_port()))


def test_a_duty_that_breaks_is_run_again_and_operators_hear_of_it() -> None:
    """One item that nobody can do ended the whole process, again and again, and its neighbours with it."""
    told: list[tuple[str, Exception | None]] = []
    errors = [TypeError("what is this"), RecursionError()]

    def work() -> None:
        if errors:
            raise errors.pop()

    thread = DutyThread(Duty("webhooks", work, every_s=0.0), lambda *said: told.append(said))
    thread.start()
    assert wait_until(lambda: len(told) == 3, PATIENCE_S)
    thread.stop()
    thread.join(PATIENCE_S)
    assert [(name, type(error)) for name, error in told] == [
        ("webhooks", RecursionError),
        ("webhooks", TypeError),
        ("webhooks", type(None)),
    ]


def test_a_duty_that_works_says_so_once_after_its_process_began() -> None:
    """The process before it may have been killed while the duty broke: its incident was left open for ever."""
    runs: list[int] = []
    told: list[tuple[str, Exception | None]] = []
    thread = DutyThread(Duty("webhooks", lambda: runs.append(1), every_s=0.0), lambda *said: told.append(said))
    thread.start()
    assert wait_until(lambda: len(runs) >= 3, PATIENCE_S)
    thread.stop()
    thread.join(PATIENCE_S)
    assert told == [("webhooks", None)]


def test_a_duty_goes_on_when_nobody_can_hear_of_it() -> None:
    """The database that would keep the incident may be what is broken."""
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        raise TypeError("what is this")

    def deaf(_name: str, _error: Exception | None) -> None:
        raise RuntimeError("nobody listens")

    thread = DutyThread(Duty("webhooks", work, every_s=0.0), deaf)
    thread.start()
    assert wait_until(lambda: len(runs) > 2, PATIENCE_S)
    thread.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_broken_duty_is_one_incident_until_it_works_again(desk: Desk) -> None:
    """Who is on duty sees what does not run, and sees it go when it runs again."""
    for error in (TypeError("\x1b[2J\0"), ValueError("again")):
        report(desk.runtime, "webhooks", error)
    (told,) = desk.rows(incident)
    assert (told["kind"], told["subject"], told["code"]) == ("duty-broken", "generador webhooks", "TypeError")
    assert told["detail"].isprintable()
    report(desk.runtime, "webhooks", None)
    assert desk.rows(incident)[0]["closed_at"]
