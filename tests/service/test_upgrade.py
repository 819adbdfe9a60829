"""Bring databases and a broker's backlog of before to the program of now, and run what they hold to its end.

`tests/data/landing-18` holds what an earlier version left, and says how it was made. Time goes on where it ended.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, make_url, select, text
from tests.contract.brokers import EmbeddedServer
from tests.patience import PATIENCE_S
from tests.receiver import Receiver, receiving
from tests.service.desk import CODEC, Acks, Desk, make_desk
from tests.service.desk import arrived as received
from tests.service.passwords import SYSTEM
from tests.service.stage import BOTH, settings_on

from pulsaga.broker import Broker, Delivery, Wire, connect, connect_admin
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.projection import Projector
from pulsaga.delivery.tables import failure, outbox, unpack
from pulsaga.operate import sagas
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.operate.replaying import replay
from pulsaga.operate.verify.report import verify
from pulsaga.operate.verify.scope import Scope
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.tables import saga
from pulsaga.settings import Settings, Side
from pulsaga_program import databases
from pulsaga_program.bootstrap import prepare_broker
from pulsaga_program.databases import SIDES, histories_of, prepare_databases

LANDING = Path(__file__).parents[1] / "data" / "landing-18"
NAMED = "landing18"
"""How databases and roles are called in what was dumped."""
DATABASES = [*product(SYSTEM.names, SIDES)]
ADA = Signature("ada", "it was left by the version before")
QUIET_S = 0.1
"""Seconds in which a broker would have given more, if there were any."""
SOON_S, DAYS_S = 130.0, 2 * 86400.0
"""Seconds after the end of before: what waits there is due, but no deadline; every deadline is over."""

VERSION = "_version"
"""How the tables' names end in which histories note how far they came."""
MINUTE_S = 60.0
"""Longest time after which a caller is called whose command has ended."""

Row = Mapping[str, Any]
Table = Mapping[tuple[Any, ...], Row]


@dataclass(frozen=True)
class Before:
    """An installation of before: `settings` say that its last moment is now, `folder` holds its files."""

    settings: Settings
    folder: Path

    @cached_property
    def told(self) -> dict[str, Any]:
        """What the old program noted: ids of sagas by what they show, what its `verify` found, its broker's backlog."""
        return dict(json.loads((self.folder / "scene.json").read_text()))

    @property
    def ids(self) -> dict[str, str]:
        return dict(self.told["ids"])

    def later(self, seconds: float) -> Settings:
        """Settings by which so many seconds have passed."""
        return replace(self.settings, clock_offset=self.settings.clock_offset + seconds)

    def engine(self, service: str, side: Side) -> Engine:
        return open_database(self.settings, service, side, "owner")

    def migrate(self) -> None:
        for service in SYSTEM.all:
            prepare_databases(SYSTEM, self.settings, service)

    def tables(self, service: str, side: Side) -> dict[str, Table]:
        """Every row of every table of a database, by its key; where migrations note how far they came is left out."""
        engine, found = self.engine(service, side), MetaData()
        with engine.connect() as connection:
            found.reflect(connection)
            tables = [table for table in found.sorted_tables if not table.name.endswith(VERSION)]
            rows = {table: connection.execute(select(table)).mappings().all() for table in tables}
        engine.dispose()
        return {t.name: {tuple(row[c.name] for c in t.primary_key): dict(row) for row in rows[t]} for t in tables}

    def all_tables(self) -> dict[str, Table]:
        return {
            f"{service} {side} {name}": rows
            for service, side in DATABASES
            for name, rows in self.tables(service, side).items()
        }

    def differences(self, service: str, side: Side) -> list[Any]:
        """What a database differs in from the tables that the code knows."""
        known = [history.tables for history in histories_of(SYSTEM, SYSTEM[service], side)]
        engine, options = self.engine(service, side), {"compare_type": True, "target_metadata": known}
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options | {"include_name": _keeps_no_version})
            found = compare_metadata(context, known)
        engine.dispose()
        return list(found)

    def versions(self) -> dict[str, list[str]]:
        """How far each history of each database has come."""
        found: dict[str, list[str]] = {}
        for service, side in DATABASES:
            engine = self.engine(service, side)
            with engine.connect() as connection:
                for history in histories_of(SYSTEM, SYSTEM[service], side):
                    query = text(f"SELECT version_num FROM {history.version_table}")
                    found[f"{service} {side} {history.name}"] = list(connection.execute(query).scalars())
            engine.dispose()
        return found


def _keeps_no_version(name: str | None, kind: str, _parents: Any) -> bool:
    return kind != "table" or not str(name).endswith(VERSION)


def restore(settings: Settings, folder: Path) -> None:
    """Put files or dumps to where an installation with these settings has its databases, as the old program did."""
    for service, side in DATABASES:
        url = make_url(settings.database_url(service, side))
        if url.get_backend_name() == "sqlite":
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"{service}-{side}.sqlite", str(url.database))
            continue
        databases._create_database(settings, service, url)
        dump = (folder / f"{service}-{side}.sql").read_text().replace(NAMED, settings.db_name)
        login = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(login, autocommit=True) as connection:
            connection.execute(f'SET ROLE "{settings.db_name}_{service}_owner"')
            connection.execute(dump)


@pytest.fixture(params=BOTH)
def before(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Before:
    """An installation of before, just stopped, that no newer program has seen."""
    folder = tmp_path / "landing"
    with tarfile.open(LANDING / f"{request.param}.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    settings = settings_on(request, tmp_path / "home", WEBHOOK_PRIVATE="allow")
    restore(settings, folder)
    ended_at = json.loads((folder / "scene.json").read_text())["ended_at"]
    offset = ended_at - time.time()
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(offset * 1e9))  # ids are made then, too
    extract = import_module("pulsaga.operate.verify.extract")
    monkeypatch.setattr(extract, "MEMORY_S", 1e9)  # ids know no test offset: judge all, however old the files are
    return Before(replace(settings, clock_offset=offset), folder)


# --- nothing is lost


def losses(before: Mapping[str, Table], after: Mapping[str, Table]) -> list[str]:
    """Name what there was before and is not any more: tables, rows, values. Columns may be gained, or change names."""
    lost = [f"{name} is gone" for name in before if name not in after]
    for name in before.keys() & after.keys():
        missing = before[name].keys() - after[name].keys()
        lost += [f"{name}: {len(missing)} of {len(before[name])} rows are gone"] if missing else []
        lost += [f"{name}: {column} differs" for column in _changed(before[name], after[name])]
    return lost


def _changed(before: Table, after: Table) -> Iterator[str]:
    """Yield the columns whose values no column of now holds: the same one, or one that is new."""
    kept = [(row, after[key]) for key, row in before.items() if key in after]
    if kept:
        old, new = kept[0][0].keys(), kept[0][1].keys()
        for column in old:
            heirs = [column] if column in new else [name for name in new if name not in old]
            if not any(all(was[column] == is_[heir] for was, is_ in kept) for heir in heirs):
                yield column


def test_every_row_is_there_after_the_migrations_and_after_the_next_start(before: Before) -> None:
    """The framework's histories find tables that they did not make; they take them over as they are, once."""
    was = before.all_tables()
    before.migrate()
    once = before.all_tables(), before.versions()
    assert losses(was, once[0]) == []
    before.migrate()
    assert (before.all_tables(), before.versions()) == once


def test_what_was_left_has_something_of_everything(before: Before) -> None:
    """An empty table shows nothing: each is filled, and sagas stand in every status, in the archive, too."""
    was = before.all_tables()
    filled = {name.split()[-1] for name, rows in was.items() if rows}
    assert {name.split()[-1] for name in was} == filled
    assert {row["status"] for row in was[f"{SYSTEM.name} write saga"].values()} == {
        *("RUNNING", "COMPENSATING", "SUSPENDED"),
        *TERMINAL,
    }
    assert len(was[f"{SYSTEM.name} write saga_archive"]) == 3


def test_adopted_databases_are_like_new_ones(before: Before) -> None:
    """A migration that is taken for done and was not is a column that is missing, on somebody's production database."""
    before.migrate()
    assert {f"{service} {side}": before.differences(service, side) for service, side in DATABASES} == {
        f"{service} {side}": [] for service, side in DATABASES
    }


# --- the proof that a loss would be seen


def test_a_history_that_adopts_nothing_is_stopped_by_the_tables_that_are_there(
    before: Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the look at what is there the first migration runs again; nothing of the database is touched."""
    was = before.all_tables()
    monkeypatch.setattr(databases, "_adopt", lambda *_: None)
    with pytest.raises(databases.MigrationFailed, match="already exists"):
        before.migrate()
    assert before.all_tables() == was


@pytest.mark.parametrize("before", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "loss"),
    [
        ("DROP TABLE target", "protools_saga write target is gone"),
        ("DELETE FROM outbox", "protools_saga write outbox: 6 of 6 rows are gone"),
        ("ALTER TABLE target DROP COLUMN probe_at", "protools_saga write target: probe_at differs"),
        ("UPDATE saga_archive SET seq = 0", "protools_saga write saga_archive: seq differs"),
        ("ALTER TABLE target RENAME COLUMN probe_at TO knock_at", None),
    ],
)
def test_a_loss_would_be_seen(before: Before, statement: str, loss: str | None) -> None:
    """A table that is emptied or made anew, rows, a column, its values; a new name alone is no loss."""
    was, engine = before.all_tables(), before.engine(SYSTEM.name, "write")
    with engine.begin() as tx:
        tx.exec_driver_sql(statement)
    engine.dispose()
    assert losses(was, before.all_tables()) == [loss] * (loss is not None)


# --- what tools show of it


def found(settings: Settings) -> set[tuple[str, str]]:
    """What `verify` finds: each class with its ids."""
    findings = verify(SYSTEM, settings, Scope()).findings
    return {(finding.check.kind, identifier) for finding in findings for identifier, _ in finding.ids}


def test_verify_finds_what_it_found_before(before: Before) -> None:
    """No more and no less: what lies in the old broker, what could not be projected, successes that came late."""
    before.migrate()
    assert found(before.settings) == {(kind, i) for kind, _, _, ids in before.told["findings"] for i in ids}


def test_archived_sagas_are_shown_with_their_logs(before: Before) -> None:
    """An audit asks years later."""
    world = World(before)
    shown = {
        label: sagas.log_of(world.runtimes, saga_id) for label, saga_id in before.ids.items() if "archived" in label
    }
    assert {label: view and view["status"] for label, view in shown.items()} == {
        "archived-completed": "COMPLETED",
        "archived-compensated": "COMPENSATED",
        "archived-cancelled": "COMPENSATED",
    }
    assert all(view and len(view["log"]) > 2 for view in shown.values())


# --- the world goes on


@dataclass
class World:
    """Every service of now at its desk over the databases of before, some seconds later."""

    before: Before
    later_s: float = SOON_S
    desks: dict[str, Desk] = field(default_factory=dict)
    published: list[Wire] = field(default_factory=list)
    """What all services have said, in this order; `carried` tells how much of it was delivered."""
    carried: int = 0

    def __post_init__(self) -> None:
        for name in SYSTEM.names:
            self.desks[name] = make_desk(self.before.later(self.later_s), name)
            self.desks[name].broker.published = self.published

    @property
    def runtimes(self) -> Runtimes:
        return Runtimes(SYSTEM, self.before.later(self.later_s), lambda service: self.desks[service].runtime)

    def do_duties(self, *names: str) -> None:
        for name in names or SYSTEM.names:
            desk = self.desks[name]
            for make in desk.service.duties:
                make(desk.runtime).work()
            desk.runtime.transactions.outbox.sweep()
            desk.worker.retry_failures()

    def carry_on(self) -> None:
        """Do all that is due and carry what is said, until nobody says anything new."""
        self.do_duties()
        while fresh := self.published[self.carried :]:
            self.carried += len(fresh)
            for name, desk in self.desks.items():
                if heard := [received(wire) for wire in fresh if wire.topic in desk.service.consumes]:
                    desk.worker.settle(heard)
                self.project(name, fresh)
            self.do_duties()

    def project(self, name: str, wires: Sequence[Wire]) -> None:
        """Bring a read database up to date, with what it could not take before."""
        desk, engine = self.desks[name], open_database(self.before.settings, name, "read", "projector")
        reader = Reader(desk.service.projecting, desk.runtime.codec, desk.broker)
        projector = Projector(desk.service.projecting, reader, engine, Acks(), 500)
        projector.settle([received(wire) for wire in wires if wire.topic in desk.service.projects])
        with engine.begin() as tx:
            tx.execute(failure.update().values(due_at=0))  # a read model knows no test offset
        projector.retry_failures()
        engine.dispose()

    def statuses(self) -> dict[str, str]:
        """How each saga that is not archived stands."""
        return {row["id"]: row["status"] for row in self.desks[SYSTEM.name].rows(saga)}

    def of_status(self, status: str) -> list[str]:
        return [saga_id for saga_id, found in self.statuses().items() if found == status]

    def status(self, label: str) -> str:
        return self.statuses()[self.before.ids[label]]


@pytest.fixture
def broker(before: Before, tmp_path: Path) -> Iterator[Broker]:
    """The broker of before with its backlog, run and prepared by the program of now."""
    shutil.copy(before.folder / "broker.sqlite", tmp_path / "broker.sqlite")
    server, namespace = EmbeddedServer(tmp_path), before.settings.namespace
    server.start()
    admin = connect_admin(server.url, "", namespace)
    prepare_broker(admin, SYSTEM.all)
    admin.close()
    client = connect(server.url, CommittedSchemas(), namespace)
    assert client.is_connected()
    yield client
    client.close()
    server.kill()


def take_backlog(world: World, broker: Broker) -> dict[str, list[list[str]]]:
    """Have every service take what the broker has for it, on its own subscriptions; return topics and ids by these.

    Their writers' schemas are asked of the broker, too.
    """
    taken: dict[str, list[list[str]]] = {}
    for name, desk in world.desks.items():
        desk.broker.schema = broker.schema  # type: ignore[method-assign]
        for subscription, topics in ((name, desk.service.consumes), (desk.service.projector, desk.service.projects)):
            batch = backlog(broker, subscription, topics, len(world.before.told["backlog"][subscription]))
            taken[subscription] = sorted([d.wire.topic, d.wire.properties["ce_id"]] for d in batch)
            if subscription == name:
                desk.worker.settle(batch)
            else:
                world.project(name, [delivery.wire for delivery in batch])
    return taken


def backlog(broker: Broker, subscription: str, topics: Sequence[str], expected: int) -> list[Delivery]:
    """Take and acknowledge what a subscription has yet to take: so many messages, or more."""
    consumer, batch = broker.subscribe(subscription, topics), list[Delivery]()
    while more := consumer.receive(500, QUIET_S if len(batch) >= expected else PATIENCE_S):
        batch += more
    consumer.ack(batch)
    consumer.close()
    return batch


def named(file: Path) -> set[tuple[str, ...]]:
    """Return every schema of a topic and every subscription to one that a broker's file knows."""
    with closing(sqlite3.connect(file)) as broker:
        schemas = broker.execute("SELECT name, CAST(version AS TEXT), avsc FROM schema JOIN topic ON topic = topic.id")
        subscribed = "SELECT topic.name, subscription.name FROM subscription JOIN topic ON topic = topic.id"
        return {*schemas, *broker.execute(subscribed)}


@pytest.fixture
def receiver(before: Before) -> Iterator[Receiver]:
    """A caller that waits to be called back, where it is reached today."""
    with receiving() as made:
        assert SYSTEM.door is not None
        engine = before.engine(SYSTEM.door.name, "write")
        with engine.begin() as tx:
            tx.execute(text("UPDATE webhook SET url = :url"), {"url": made.url})
        engine.dispose()
        yield made


def test_everything_that_was_under_way_ends(before: Before, broker: Broker, receiver: Receiver) -> None:
    """What waits in the databases and in the broker goes on at once; what is suspended goes on once it is resumed."""
    world = World(before)
    assert take_backlog(world, broker) == before.told["backlog"]
    world.carry_on()
    assert {world.status(label) for label in GOING_ON} == {"COMPLETED"}
    assert {world.status(label) for label in ("recalled", "recalling")} == {"COMPENSATED"}
    assert sorted(world.of_status("SUSPENDED")) == sorted(before.ids[label] for label in ("suspended", "deaf"))

    assert replay(world.runtimes, before.ids["dead"], SYSTEM.name, ADA)
    assert sagas.act(world.runtimes, before.ids["suspended"], "retry-step", ADA)
    assert sagas.act(world.runtimes, before.ids["deaf"], "resume", ADA)
    world.carry_on()
    assert {world.status(label) for label in ("dead", "suspended", "deaf")} == {"COMPLETED"}
    assert set(world.statuses().values()) == TERMINAL
    assert_at_rest(world)
    World(before, SOON_S + MINUTE_S).carry_on()
    assert [json.loads(body)["id"] for _, body in receiver.taken] == [before.ids["on-call"]]


def test_what_is_too_late_is_undone_or_suspended_and_ends_by_hand(
    before: Before, broker: Broker, receiver: Receiver
) -> None:
    """The program stood still until every deadline was over: timers of before ring, answers of before come too late."""
    world = World(before, DAYS_S)
    world.do_duties(SYSTEM.name)
    assert world.of_status("RUNNING") == []
    take_backlog(world, broker)
    world.carry_on()
    assert {world.status(label) for label in TOO_LATE} == {"COMPENSATED"}
    assert world.of_status("SUSPENDED")
    for saga_id in world.of_status("SUSPENDED"):
        assert sagas.act(world.runtimes, saga_id, "compensate", ADA)
    world.carry_on()
    assert {world.status(label) for label in ("suspended", "deaf")} == {"COMPENSATED"}
    assert set(world.statuses().values()) == TERMINAL
    assert_at_rest(world)


GOING_ON = (
    *("rotating", "on-call", "waiting", "failing", "unmailed", "unsent", "unanswered", "unpublished"),
    *("asked", "begun", "generated", "addressed", "told", "to-rotate", "silent"),
)
"""Sagas that only wait for time to pass, a message to come, or a broker to be there."""


TOO_LATE = ("failing", "unsent", "unanswered", "begun", "generated", "to-rotate", "silent")
"""Those of them that wait for a password, and can be undone."""


def assert_at_rest(world: World) -> None:
    """Nothing waits any more, and `verify` finds nothing but successes that came late."""
    assert {name: (desk.count(outbox), desk.count(failure)) for name, desk in world.desks.items()} == dict.fromkeys(
        world.desks, (0, 0)
    )
    assert {kind for kind, _ in found(world.runtimes.settings)} == {"late"}


def test_what_lay_in_an_outbox_is_published_as_it_was_written(before: Before) -> None:
    """Its topic, its envelope, its bytes: whoever reads it knows the schema that it names, and so do we."""
    outboxes = [rows for name, rows in before.all_tables().items() if name.endswith(" outbox")]
    kept = {identifier: unpack(row["wire"]) for rows in outboxes for (identifier,), row in rows.items()}
    world = World(before)
    for desk in world.desks.values():
        desk.runtime.transactions.outbox.sweep()
    assert sorted(wire.properties["ce_id"] for wire in world.published) == sorted(kept)
    assert all(wire == kept[wire.properties["ce_id"]] for wire in world.published)
    classes, schemas = {contract_of(cls).name: cls for cls in SYSTEM.messages}, CommittedSchemas()
    for wire in world.published:
        CODEC.decode(classes[wire.topic], wire.body, schemas[wire.properties["ce_dataschema"]])


def test_the_broker_of_before_has_every_topic_schema_and_subscription_of_now_by_its_name(
    before: Before, broker: Broker, tmp_path: Path
) -> None:
    """What is added is new beside it: nothing that lies there has lost its reader or the schema it was written with."""
    was, is_ = (named(folder / "broker.sqlite") for folder in (before.folder, tmp_path))
    assert was <= is_
