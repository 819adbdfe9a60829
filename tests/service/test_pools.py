"""Ask for rows that nobody can name beforehand: one free row of a pool, or the row with a unique column's value."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, delete, event, insert, select, update
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, deliver, make_desk
from tests.service.stage import BOTH, POSTGRESQL, Gate, settings_on

from generador.messages import GeneratePassword
from generador.service import GENERADOR
from pulsaga.broker import Delivery
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import AnyMessage, contract_of
from pulsaga.delivery.tables import Id, failure, inbox
from pulsaga.delivery.transaction.rows import OneOf, Row, Rows, Wanted, one_of
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError, Unavailable
from pulsaga.settings import Settings

TABLES = MetaData()
driver = Rows[Row](
    "driver",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("city", String, nullable=False),
    Column("since", Integer, nullable=False),
    Column("plate", String, unique=True, nullable=False),
)
ride = Rows[Row](
    "ride",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", Id, nullable=False, comment="of the command"),
    Column("wish", String, nullable=False),
    Column("driver", Integer),
)
FREE = one_of(driver, driver.c.status == "free", order_by=driver.c.since)
NUMBERS = itertools.count()
SENT_AWAY: dict[str, tuple[int, str]] = {}
"""By command id: when its handler last found nobody, and what it had asked for."""


def free_in(city: str) -> OneOf[Row]:
    """A pool that the message decides on."""
    return one_of(driver, (driver.c.status == "free") & (driver.c.city == city), order_by=driver.c.since.desc())


def pool_of(wish: str) -> OneOf[Row]:
    return free_in(wish.split()[1]) if wish.startswith("in ") else FREE


def reads(message: AnyMessage) -> Iterable[Wanted]:
    """`any`, `hold`, `poison`, `null` and `in CITY` ask a pool; `busy N`, `free N` and `look N` name a driver."""
    verb, *rest = message.body.username.split("#")[0].split()
    return [(driver, int(rest[0]))] if verb in ("busy", "free", "look") else [pool_of(message.body.username)]


def assign(message: AnyMessage, uow: UnitOfWork) -> None:
    """Do what the wish says, and write down which driver that concerned."""
    wish = message.body.username.split("#")[0].strip()
    verb, *rest = wish.split()
    named = verb in ("busy", "free", "look")
    row = uow.get(driver, int(rest[0])) if named else uow.take(pool_of(wish))
    if verb == "poison":
        raise RuntimeError("poison")
    if row and verb not in ("look", "hold"):
        status = None if verb == "null" else "free" if verb == "free" else "busy"
        uow.put(driver, {**row, "status": status})
    if row is None and not named:
        SENT_AWAY[message.id] = next(NUMBERS), wish
        raise DomainError("no-driver", "nobody is free")
    uow.append(ride, {"number": next(NUMBERS), "id": message.id, "wish": wish, "driver": row["id"] if row else None})


HANDLERS = {GeneratePassword: Handler(GeneratePassword, assign, reads=reads)}


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    made = make_desk(settings, "generador", HANDLERS)
    TABLES.create_all(made.runtime.write)
    yield made
    made.runtime.write.dispose()


@pytest.fixture
def rival(settings: Settings, desk: Desk) -> Iterator[Desk]:
    """A second replica at the same database."""
    made = make_desk(settings, "generador", HANDLERS)
    yield made
    made.runtime.write.dispose()


def hire(desk: Desk, *drivers: str) -> None:
    """Have drivers 1, 2, … stand there, free or busy; the first is free for longest."""
    rows = [
        {"id": n, "revision": 1, "status": status, "city": "rome", "since": n, "plate": f"P{n}"}
        for n, status in enumerate(drivers, 1)
    ]
    with desk.runtime.write.begin() as tx:
        tx.execute(insert(driver), rows)


def wishes(*texts: str) -> list[Delivery]:
    return [deliver(GeneratePassword(f"{text} #{number}")) for number, text in enumerate(texts)]


def given_to(desk: Desk, delivery: Delivery) -> int | None:
    """Which driver a command was given."""
    rows = [row for row in desk.rows(ride) if row["id"] == delivery.wire.properties["ce_id"]]
    return int(rows[0]["driver"]) if rows else None


def refused(desk: Desk) -> list[str]:
    return [wire.properties["ce_commandid"] for wire in desk.said(contract_of(GENERADOR.refused).name)]


def ids_of(*deliveries: Delivery) -> list[str]:
    return [delivery.wire.properties["ce_id"] for delivery in deliveries]


@contextmanager
def heard(desk: Desk) -> Iterator[list[str]]:
    """Listen to what the database is told."""
    statements: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(desk.runtime.write, "before_cursor_execute", hear)
    yield statements
    event.remove(desk.runtime.write, "before_cursor_execute", hear)


# --- one of a pool


def test_each_message_of_a_batch_is_given_another_row_in_order_by_one_statement(desk: Desk) -> None:
    """A hundred orders that come at once need a hundred drivers, and not a hundred round trips."""
    hire(desk, *["free"] * 5)
    batch = wishes("any", "any", "any")
    with heard(desk) as statements:
        desk.worker.settle(batch)
    assert [given_to(desk, one) for one in batch] == [1, 2, 3]
    assert len([said for said in statements if "FROM driver" in said]) == 1
    assert [row["status"] for row in sorted(desk.rows(driver), key=lambda r: r["id"])] == ["busy"] * 3 + ["free"] * 2


def test_no_more_rows_are_locked_than_messages_ask_for(desk: Desk) -> None:
    """Whoever locks a whole pool leaves nothing to the other replicas."""
    hire(desk, *["free"] * 5)

    def look(uow: UnitOfWork) -> int:
        uow.load([FREE, FREE])
        return len(uow._rows[driver])

    assert desk.runtime.transactions.commit(look)[0] == 2


def test_a_message_is_given_the_same_row_whenever_it_asks_and_only_of_a_pool_that_it_named(desk: Desk) -> None:
    """Pools that are written alike are one pool: a handler writes its pool down again where it takes of it."""
    hire(desk, "free", "free")

    def take(uow: UnitOfWork) -> None:
        uow.load([free_in("rome"), free_in("rome")])
        first = uow.take(free_in("rome"))
        assert first == uow.take(free_in("rome"))
        uow.keep()
        assert uow.take(free_in("rome")) != first
        with pytest.raises(LookupError, match="name it in the handler's reads"):
            uow.take(free_in("oslo"))

    desk.runtime.transactions.commit(take)


def test_a_message_that_fails_gives_its_row_to_its_neighbours(desk: Desk) -> None:
    """It may fail for ever; the driver must not wait for it."""
    hire(desk, "free")
    batch = wishes("poison", "any")
    desk.worker.settle(batch)
    assert given_to(desk, batch[1]) == 1
    assert [row["attempts"] for row in desk.rows(failure)] == [1]


def test_a_message_that_fails_alone_leaves_its_row_unchanged(desk: Desk) -> None:
    """The next one finds it as it was."""
    hire(desk, "free")
    desk.worker.settle(wishes("poison"))
    desk.retry_until_buried()
    assert [(row["status"], row["revision"]) for row in desk.rows(driver)] == [("free", 1)]


def test_when_none_matches_the_handler_is_told(desk: Desk) -> None:
    """That is a business no, and the saga can go on with it."""
    hire(desk, "busy", "free")
    batch = wishes("any", "any")
    desk.worker.settle(batch)
    assert given_to(desk, batch[0]) == 2
    assert refused(desk) == ids_of(batch[1])
    assert desk.count(failure) == 0


def test_what_the_database_refuses_costs_nobody_else_a_row(desk: Desk) -> None:
    """The batch is halved until it stands alone, and every half asks the pool again."""
    hire(desk, *["free"] * 5)
    batch = wishes("any", "any", "null", "any", "any")
    desk.worker.settle(batch)
    others = [one for one in batch if one is not batch[2]]
    assert len({given_to(desk, one) for one in others}) == 4
    assert [row["id"] for row in desk.rows(failure)] == ids_of(batch[2])


@pytest.mark.parametrize(
    ("texts", "given"),
    [
        (["busy 1", "any"], [1, 2]),
        (["in rome", "any", "any"], [3, 1, 2]),
        (["busy 1", "hold", "any"], [1, 2, 3]),
        (["hold", "in rome", "any"], [1, 3, 2]),
    ],
)
def test_a_row_that_a_neighbour_has_in_hand_is_not_given_out(desk: Desk, texts: list[str], given: list[int]) -> None:
    """By whatever way it came to it, and whether it has changed it or not; there are others, so nobody waits."""
    hire(desk, "free", "free", "free")
    batch = wishes(*texts)
    desk.worker.settle(batch)
    assert [given_to(desk, one) for one in batch] == given
    assert desk.count(failure) == 0


def test_a_row_that_a_neighbour_took_and_left_as_it_was_is_waited_for(desk: Desk) -> None:
    """After the commit it is as free as before."""
    hire(desk, "free")
    batch = wishes("hold", "any")
    desk.worker.settle(batch)
    assert (refused(desk), [row["attempts"] for row in desk.rows(failure)]) == ([], [0])
    desk.make_due()
    desk.worker.retry_failures()
    assert given_to(desk, batch[1]) == 1


def test_a_row_that_a_neighbour_took_and_another_set_free_is_waited_for(desk: Desk) -> None:
    """The last word on it is that it is free."""
    hire(desk, "free")
    batch = wishes("any", "free 1", "any")
    desk.worker.settle(batch)
    assert (refused(desk), [row["attempts"] for row in desk.rows(failure)]) == ([], [0])
    desk.make_due()
    desk.worker.retry_failures()
    assert given_to(desk, batch[2]) == 1


def test_a_row_that_a_neighbour_sets_free_is_waited_for(desk: Desk) -> None:
    """Messages of a batch see each other's work as if each had been committed."""
    hire(desk, "busy")
    batch = wishes("free 1", "any")
    desk.worker.settle(batch)
    assert (refused(desk), [row["attempts"] for row in desk.rows(failure)]) == ([], [0])
    desk.make_due()
    desk.worker.retry_failures()
    assert given_to(desk, batch[1]) == 1


# --- two replicas


def settle_behind(gate: Gate, desk: Desk, batch: list[Delivery]) -> threading.Thread:
    """Have a batch handled up to its commit, which waits for the gate."""
    thread = threading.Thread(target=desk.worker.settle, args=(batch,))
    thread.start()
    assert gate.reached.wait(PATIENCE_S)
    return thread


def test_two_replicas_at_once_never_hand_out_the_same_row(desk: Desk, rival: Desk) -> None:
    """On PostgreSQL the second passes over what the first has locked, on SQLite it waits for its commit."""
    hire(desk, "free", "free", "free")
    gate = Gate(desk)
    ours, theirs = wishes("any", "any"), wishes("any")
    first = settle_behind(gate, desk, ours)
    second = threading.Thread(target=rival.worker.settle, args=(theirs,))
    second.start()
    try:
        if desk.runtime.write.dialect.name == "postgresql":
            second.join(PATIENCE_S)
            assert given_to(rival, theirs[0]) == 3, "it waits for nobody"
    finally:
        gate.open.set()
        for thread in (first, second):
            thread.join(PATIENCE_S)
    assert [given_to(desk, one) for one in [*ours, *theirs]] == [1, 2, 3]


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
@pytest.mark.parametrize("is_committed", [True, False])
def test_while_all_that_match_are_locked_elsewhere_a_message_waits_uncounted(
    desk: Desk, rival: Desk, is_committed: bool
) -> None:
    """Whether one is left is not known before the other transaction ends; on SQLite there is no other one."""
    hire(desk, "free")
    (theirs,) = wishes("any")
    with desk.runtime.write.connect() as connection:
        connection.execute(update(driver).values(status="busy", revision=2))
        rival.worker.settle([theirs])
        assert (refused(rival), [row["attempts"] for row in rival.rows(failure)]) == ([], [0])
        if is_committed:
            connection.commit()
    rival.make_due()
    rival.worker.retry_failures()
    assert (given_to(rival, theirs), len(refused(rival))) == ((None, 1) if is_committed else (1, 0))


@pytest.mark.parametrize("kind", ["any", "in rome"])
def test_replicas_that_race_for_a_pool_share_it(desk: Desk, rival: Desk, kind: str) -> None:
    """Two real loops, batch against batch, until the pool is empty: each driver has one ride."""
    hire(desk, *["free"] * 30)
    batches = [wishes(*[kind] * 5) for _ in range(8)]
    threads = [
        threading.Thread(target=lambda one=one, half=half: [one.worker.settle(batch) for batch in half])
        for one, half in ((desk, batches[::2]), (rival, batches[1::2]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    for _ in range(3):
        desk.make_due()
        desk.worker.retry_failures()
    given = [row["driver"] for row in desk.rows(ride) if row["driver"]]
    assert sorted(given) == list(range(1, 31))
    assert len(set(refused(desk) + refused(rival))) == 10


# --- any interleaving

DRIVERS = st.integers(1, 3)
WISH = st.one_of(
    st.sampled_from(["any", "hold", "poison", "null", "in rome", "in oslo"]),
    st.builds(lambda verb, n: f"{verb} {n}", st.sampled_from(["busy", "free", "look"]), DRIVERS),
)
STAND = st.lists(
    st.tuples(st.sampled_from(["free", "busy"]), st.sampled_from(["rome", "oslo"])), min_size=4, max_size=4
)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@given(STAND, st.lists(st.lists(WISH, min_size=1, max_size=7), min_size=1, max_size=3))
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_is_ever_handed_out_twice_nor_refused_while_one_is_free(
    desk: Desk, stand: Sequence[tuple[str, str]], batches: Sequence[Sequence[str]]
) -> None:
    """Played again one by one, in the order in which they were handled, the wishes come to the same."""
    with desk.runtime.write.begin() as tx:
        for table in (driver, ride, failure, inbox):
            tx.execute(delete(table))
        for number, (status, city) in enumerate(stand, 1):
            row = {"id": number, "revision": 1, "status": status, "city": city, "since": number, "plate": f"P{number}"}
            tx.execute(insert(driver).values(row))
    told = len(desk.broker.published)
    for batch in batches:
        desk.worker.settle(wishes(*batch))
        desk.make_due()
        desk.worker.retry_failures()
    noes = [wire for wire in desk.broker.published[told:] if wire.topic == contract_of(GENERADOR.refused).name]
    sent_away = [SENT_AWAY[wire.properties["ce_commandid"]] for wire in noes]
    done = [(row["number"], row["wish"], row["driver"]) for row in desk.rows(ride)]
    free = {number for number, (status, _) in enumerate(stand, 1) if status == "free"}
    for _, wish, number in sorted([*done, *((when, wish, None) for when, wish in sent_away)]):
        match wish.split():
            case ["hold"] if number:
                assert number in free, f"{number} is shown as free"
            case ["any"] | ["null"] | ["in", _] if number:  # a neighbour may have mended what was refused
                assert number in free, f"{number} is handed out twice"
                free.remove(number)
            case ["any"] | ["hold"] | ["null"]:
                assert not free, "somebody was sent away though a driver was free"
            case ["in", city]:
                assert city not in {stand[one - 1][1] for one in free}, "somebody was sent away from one"
            case ["busy", _]:
                free.discard(number)
            case ["free", _]:
                free.add(number)
    assert {row["id"] for row in desk.rows(driver) if row["status"] == "free"} == free


# --- by a unique column


def test_a_row_is_found_by_a_unique_column_with_rows_by_key_in_one_statement(desk: Desk) -> None:
    """One statement for each table locks in one order, whatever the rows are named by."""
    hire(desk, "free", "busy")

    def find(uow: UnitOfWork) -> None:
        uow.load([(driver.c.plate, "P2"), (driver, 1), (driver.c.plate, "P9")])
        assert uow.find(driver, driver.c.plate, "P2") == uow.get(driver, 2)
        assert uow.find(driver, driver.c.plate, "P9") is None
        with pytest.raises(LookupError, match=r"driver.plate 'P1' was not loaded"):
            uow.find(driver, driver.c.plate, "P1")
        uow.put(driver, {**uow.find(driver, driver.c.plate, "P2"), "status": "free"})

    with heard(desk) as statements:
        desk.runtime.transactions.commit(find)
    assert len([said for said in statements if 'FROM "driver"' in said]) == 1
    assert [(row["status"], row["revision"]) for row in desk.rows(driver) if row["id"] == 2] == [("free", 2)]


def test_what_neighbours_did_to_a_unique_column_is_seen(desk: Desk) -> None:
    """Its value may be another row's by now, or nobody's."""
    hire(desk, "free", "free")

    def work(uow: UnitOfWork) -> None:
        uow.load([(driver.c.plate, plate) for plate in ("P1", "P2", "NEW", "NEWER")])
        uow.put(driver, {**uow.find(driver, driver.c.plate, "P1"), "plate": "NEW"})
        assert (uow.find(driver, driver.c.plate, "P1"), uow.find(driver, driver.c.plate, "NEW")["id"]) == (None, 1)
        uow.drop()
        assert (uow.find(driver, driver.c.plate, "P1")["id"], uow.find(driver, driver.c.plate, "NEW")) == (1, None)
        uow.put(driver, {**uow.find(driver, driver.c.plate, "P1"), "plate": "NEW"})
        uow.keep()
        assert (uow.find(driver, driver.c.plate, "P1"), uow.find(driver, driver.c.plate, "NEW")["id"]) == (None, 1)
        uow.put(driver, {**uow.find(driver, driver.c.plate, "NEW"), "plate": "NEWER"})
        assert (uow.find(driver, driver.c.plate, "NEW"), uow.find(driver, driver.c.plate, "NEWER")["id"]) == (None, 1)

    desk.runtime.transactions.commit(work)
    assert sorted(row["plate"] for row in desk.rows(driver)) == ["NEWER", "P2"]


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_a_row_by_a_unique_column_that_is_locked_elsewhere_is_waited_for_by_its_reader_alone(desk: Desk) -> None:
    """As a row by its key is."""
    hire(desk, "free", "free")

    def find(uow: UnitOfWork) -> None:
        uow.pass_locked = True
        uow.load([(driver.c.plate, plate) for plate in ("P1", "P2", "P3")])
        with pytest.raises(Unavailable, match=r"driver.plate 'P1' is held"):
            uow.find(driver, driver.c.plate, "P1")
        assert uow.find(driver, driver.c.plate, "P2")["id"] == 2
        assert uow.find(driver, driver.c.plate, "P3") is None

    with desk.runtime.write.connect() as connection:
        connection.execute(select(driver).where(driver.c.id == 1).with_for_update())
        desk.runtime.transactions.commit(find)


# --- the ordinary path


def test_rows_by_key_cost_the_same_statements_as_ever(desk: Desk) -> None:
    """The inbox with the clock, the rows, and what is written: nobody pays for pools who has none."""
    hire(desk, "free", "free")
    with heard(desk) as statements:
        desk.worker.settle(wishes("busy 1", "busy 2"))
    read = [said for said in statements if said.startswith("SELECT")]
    assert len(read) == 2
    assert "inbox" in read[0]
    assert '"driver"' in read[1]
    assert " OR " not in read[1]
