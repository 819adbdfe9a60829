"""Build read models anew from events, beside the live ones and beside a system that goes on."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Acks, Desk, arrived, sit_down
from tests.service.passwords import SYSTEM
from tests.service.scene import play
from tests.service.stage import BOTH, POSTGRESQL, settings_on

from bff.tables import password
from generador.messages import PasswordGenerated, PasswordRevealed
from pulsaga import Id, Service, System
from pulsaga.broker import Wire
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.messages import Context, Message, command, event, new_id
from pulsaga.delivery.projection import Projection, Projector
from pulsaga.delivery.tables import audit
from pulsaga.delivery.tables import event as events
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError, Unavailable
from pulsaga.operate.acting import Act, Runtimes, Signature
from pulsaga.operate.erasing import ERASE_ACTION, ERASED_ACTION
from pulsaga.operate.rebuilding import building, shadow
from pulsaga.operate.rebuilding.events import Events
from pulsaga.operate.rebuilding.models import ReadModel, read_model, read_models
from pulsaga.operate.rebuilding.rebuild import compare, rebuild
from pulsaga.saga.tables import event_archive
from pulsaga.settings import Settings
from pulsaga_program.cli import commands
from pulsaga_program.databases import prepare_databases
from pulsaga_program.local.process import wait_until

ADA, BOB = Signature("ada", "the projection was wrong"), Signature("bob", "ada is right")
SERVICES = ("bff", "generador", "protools_saga")
DOOR = SYSTEM["bff"]
PASSWORDS = read_model(SYSTEM, "bff.password")
GRANTS = "SELECT oid::text, relacl::text, relowner::text FROM pg_class WHERE relname = 'password'"
SOME = 120
"""Passwords that are told of before a rebuild."""


@pytest.fixture(scope="module", params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Databases for all these tests: to make some takes longer than any of them."""
    return prepared(settings_on(request, tmp_path_factory.mktemp("home")))


def prepared(settings: Settings) -> Settings:
    for name in SERVICES:
        prepare_databases(SYSTEM, settings, SYSTEM[name])
    return settings


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is late in these tests but what never comes."""
    monkeypatch.setattr(building, "LAG_S", 0.0)


def nobody(_read: int) -> None:
    """Hear of no progress."""


@dataclass
class Stage:
    """The front door's read model of passwords, and generador, which tells of them."""

    settings: Settings
    desks: dict[str, Desk]
    projector: Engine
    reader: Engine
    carried: int = 0

    @property
    def runtimes(self) -> Runtimes:
        return Runtimes(SYSTEM, self.settings, lambda name: self.desks[name].runtime)

    def tell(self, *names: str, version: int = 1) -> None:
        """Let generador tell that passwords were generated, or revealed where that is no first version."""
        self.desks["generador"].runtime.transactions.run(lambda uow: record(uow, names, version))

    def project(self, project: Callable[[Message[Any]], Any] | None = None) -> None:
        """Project what was published since the last time, by another function where one is given."""
        published = self.desks["generador"].broker.published
        fresh, self.carried = published[self.carried :], len(published)
        self.settle(fresh, project)

    def settle(self, wires: Sequence[Wire], project: Callable[[Message[Any]], Any] | None = None) -> None:
        known = {cls: Projection(cls, project or one.function) for cls, one in DOOR.projecting.items()}
        reader = Reader(known, CODEC, self.desks["generador"].broker)
        Projector(known, reader, self.projector, Acks(), 500).settle([arrived(wire) for wire in wires])

    def shown(self) -> dict[str, tuple[str, int]]:
        with self.reader.connect() as connection:
            rows = connection.execute(select(password.c.username, password.c.status, password.c.version))
            return {name: (status, version) for name, status, version in rows}

    def write(self, statement: Any) -> None:
        with self.projector.begin() as tx:
            tx.execute(statement)

    def rebuild(self, tell: Callable[[int], object] = nobody, model: ReadModel = PASSWORDS) -> Counter[str]:
        """Rebuild; return how many rows of each kind differed."""
        outcome = rebuild(self.runtimes, model, ADA, tell, 5)
        assert outcome is not None
        return counted(outcome)

    def differs(self, model: ReadModel = PASSWORDS) -> Counter[str]:
        return counted(compare(self.runtimes, model, nobody, 5))


def counted(outcome: building.Outcome) -> Counter[str]:
    return +sum((Counter(dict(one.counts)) for one in outcome.differences), Counter[str]())


def record(uow: UnitOfWork, names: Sequence[str], version: int = 1) -> None:
    for name in names:
        generated, revealed = (
            PasswordGenerated(name, "issued", 1.0, 1.0, "x"),
            PasswordRevealed(name, "revealed", 1.0, 2.0),
        )
        body = generated if version == 1 else revealed
        uow.record(body, name, version, context=Context(new_id()))


def shouting(message: Message[Any]) -> Any:
    """Project as an older release did, which was wrong."""
    return [
        (table, {**row, "status": row["status"].upper()})
        for table, row in DOOR.projecting[type(message.body)].function(message)
    ]


def staged(settings: Settings) -> Iterator[Stage]:
    """Give a stage, and take from the databases afterwards what was played on it."""
    desks = {name: sit_down(settings, name, None, SYSTEM) for name in SERVICES}
    engines = [open_database(settings, "bff", "read", "projector"), open_database(settings, "bff", "read", "reader")]
    made = Stage(settings, desks, *engines)
    yield made
    made.write(delete(password))
    for desk in desks.values():
        with desk.runtime.write.begin() as tx:
            for table in (events, audit):
                tx.execute(delete(table))
    for engine in (*engines, *(desk.runtime.write for desk in desks.values())):
        engine.dispose()


@pytest.fixture
def stage(settings: Settings) -> Iterator[Stage]:
    yield from staged(settings)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stage]:
    """A stage on SQLite, for what no database does in a way of its own."""
    yield from staged(prepared(Settings.read({"PROTOOLS_HOME": str(tmp_path)})))


# --- under load


@contextmanager
def beside(work: Callable[[int], object]) -> Iterator[Callable[[], int]]:
    """Do something again and again while the block runs; tell how often it was done."""
    stopping, done, errors = threading.Event(), [0], list[Exception]()

    def run() -> None:
        try:
            while not stopping.is_set():
                work(done[0])
                done[0] += 1
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: done[0]
    finally:
        stopping.set()
        thread.join(PATIENCE_S)
    assert errors == []


def test_a_projection_that_was_mended_shows_itself_while_the_system_goes_on(stage: Stage) -> None:
    """A release mends a projection: what is shown becomes right at once for all, and nobody misses anything."""
    stage.tell(*(f"u{number}" for number in range(SOME)))
    stage.project(shouting)
    counts, before = list[int](), grants(stage)

    def live(number: int) -> None:
        stage.tell(f"live{number}")
        stage.tell(f"u{number % SOME}", version=2 + number // SOME)
        stage.project()

    def look(_number: int) -> None:
        with stage.reader.connect() as connection:
            counts.append(connection.execute(select(func.count()).select_from(password)).scalar_one())

    with beside(look), beside(live) as told:
        assert wait_until(lambda: told() > 2, PATIENCE_S)
        found = stage.rebuild()
        until = told() + 3
        assert wait_until(lambda: told() > until, PATIENCE_S)
    assert 0 < found["changed"] <= SOME
    assert found["foreign"] == 0
    assert counts == sorted(counts)
    assert {status for status, _ in stage.shown().values()} == {"issued", "revealed"}
    assert stage.differs() == Counter()
    assert grants(stage) == before


def grants(stage: Stage) -> Any:
    """Return what PostgreSQL knows of the table and of who may use it."""
    if stage.reader.dialect.name == "sqlite":
        return None
    with stage.reader.connect() as connection:
        return connection.execute(text(GRANTS)).one()


def test_a_reader_that_has_begun_sees_the_old_rows_to_the_end(stage: Stage) -> None:
    """A list that is read page by page in one transaction must not be half old and half new, nor hold anybody up."""
    stage.tell("ada")
    stage.project(shouting)
    with stage.reader.connect().execution_options(isolation_level=SNAPSHOT[stage.reader.dialect.name]) as reading:
        statuses = select(password.c.status)
        assert reading.execute(statuses).scalars().all() == ["ISSUED"]
        assert stage.rebuild() == {"changed": 1}
        assert reading.execute(statuses).scalars().all() == ["ISSUED"]
        reading.rollback()
        assert reading.execute(statuses).scalars().all() == ["issued"]


SNAPSHOT = {"sqlite": "SERIALIZABLE", "postgresql": "REPEATABLE READ"}


# --- what comes meanwhile


def test_what_is_told_behind_what_was_read_is_not_lost(stage: Stage) -> None:
    """An event may come at any key while the rebuild is far beyond it; the projector has shown it, so it must stay."""
    stage.tell("bob")
    stage.project()
    meanwhile = once(lambda: [stage.tell("ada"), stage.tell("bob", version=2), stage.project()])
    assert stage.rebuild(meanwhile) == Counter()
    assert stage.shown() == {"ada": ("issued", 1), "bob": ("revealed", 2)}


def test_without_a_second_look_at_the_events_one_would_be_lost(small: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that the test above can fail."""
    pages = Events.pages
    monkeypatch.setattr(Events, "pages", lambda self, since=None: pages(self) if since is None else ())
    small.tell("bob")
    small.project()
    assert small.rebuild(once(lambda: [small.tell("ada"), small.project()])) == {"foreign": 1}
    assert list(small.shown()) == ["bob"]


def test_what_was_begun_before_and_is_committed_after_it_was_looked_for_is_not_lost(stage: Stage) -> None:
    """Transactions commit in any order: a cursor of ids or times would have passed this one by."""
    stage.tell("zoe")
    stage.project()
    with stage.desks["generador"].runtime.write.begin() as tx:
        uow = UnitOfWork(tx, stage.desks["generador"].runtime.transactions.outbox.speaker)
        record(uow, ["ada"])
        uow.flush()

        def meanwhile() -> None:
            tx.commit()
            stage.settle(uow.outgoing)

        assert stage.rebuild(once(meanwhile)) == Counter()
    assert stage.shown() == {"ada": ("issued", 1), "zoe": ("issued", 1)}


@pytest.mark.parametrize(("each", "passes"), [(range(10, 1000, 10), 2), (range(90, 5, -10), 4)])
def test_a_system_that_tells_more_than_is_read_does_not_hold_it_up_for_ever(
    small: Stage, monkeypatch: pytest.MonkeyPatch, each: range, passes: int
) -> None:
    """Each pass reads all keys: it ends where a pass is no shorter, or after a few; the lock covers the rest."""
    monkeypatch.setattr(building, "PAGE", 5)
    told, numbers = list[int](), iter(each)

    def more() -> None:
        small.tell(*(f"u{len(told)}-{number}" for number in range(next(numbers))))

    def tell(read: int) -> None:
        told.append(read)
        assert len(told) < 6, "it goes on for ever"
        more()

    more()
    assert small.rebuild(tell) == {"missing": sum(each[: passes + 1])}
    assert len(told) == passes


def test_what_is_projected_during_the_swap_waits_for_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that came between the last look at the events and the swap would count as nobody's, and be deleted."""
    stage.tell("ada")
    stage.project()
    looks, projecting = list[float](), threading.Thread(target=lambda: [stage.tell("bob"), stage.project()])

    def at_the_second(_runtimes: Runtimes, since: float) -> None:
        looks.append(since)
        if len(looks) == 2:
            projecting.start()
            projecting.join(0.5)

    monkeypatch.setattr("pulsaga.operate.rebuilding.rebuild.refuse_while_erasing", at_the_second)
    assert stage.rebuild() == Counter()
    projecting.join(PATIENCE_S)
    assert sorted(stage.shown()) == ["ada", "bob"]


def once(work: Callable[[], object]) -> Callable[[int], None]:
    """Return what does something when it is first told that events were read."""
    told = list[int]()

    def tell(read: int) -> None:
        told.append(read)
        if len(told) == 1:
            work()

    return tell


def test_an_event_that_was_told_and_not_projected_yet_changes_nothing_later(small: Stage) -> None:
    """The new rows may be ahead of the projector: what it has in hand is older than what is shown."""
    small.tell("ada")
    small.tell("ada", version=2)
    assert small.rebuild() == {"missing": 1}
    small.project()
    assert small.shown() == {"ada": ("revealed", 2)}


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_a_lock_that_is_not_given_is_given_up_and_nothing_is_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Projectors wait behind whoever waits for the lock: it must not be waited for long, nor for ever."""
    monkeypatch.setattr(shadow, "LOCK_MS", 20)
    stage.tell("ada")
    stage.project(shouting)
    with stage.projector.begin() as holding:
        holding.execute(update(password).values(status="HELD"))
        with pytest.raises(Unavailable, match="the read model cannot be locked"):
            stage.rebuild()
    assert stage.shown() == {"ada": ("HELD", 1)}
    assert stage.rebuild() == {"changed": 1}


# --- what differs


def test_each_difference_is_shown_and_gone_afterwards(stage: Stage) -> None:
    """Rows of nobody's events, lost ones, old ones and wrong ones: whatever happened to the table is put right."""
    stage.tell("ada", "bob", "cyd")
    stage.project()
    stage.tell("cyd", version=2)
    for statement in (
        insert(password).values(username="eve", version=9, status="issued", issued_at=0, changed_at=0),
        delete(password).where(password.c.username == "ada"),
        update(password).where(password.c.username == "bob").values(version=7, status="lost"),
    ):
        stage.write(statement)
    (found,) = compare(stage.runtimes, PASSWORDS, nobody, 5).differences
    assert found.counts == {"missing": 1, "behind": 1, "changed": 1, "foreign": 1}
    shown = {one["kind"]: (one["key"]["username"], one["columns"]) for one in found.examples}
    assert shown["changed"] == ("bob", {"version": [7, 1], "status": ["lost", "issued"]})
    assert [shown[kind][0] for kind in ("missing", "behind", "foreign")] == ["ada", "cyd", "eve"]
    assert "eve" in stage.shown()
    stage.rebuild()
    assert stage.shown() == {"ada": ("issued", 1), "bob": ("issued", 1), "cyd": ("revealed", 2)}


def test_columns_of_any_type_are_compared_and_swapped_in(stage: Stage) -> None:
    """A read model of others may hold JSON, which PostgreSQL does not compare, and nothing at all."""
    row = {"id": new_id(), "version": 1, "said": {"a": [1]}, "share": 0.1, "good": True, "raw": b"\0", "none": None}
    engine = open_database(stage.settings, "bff", "read", "owner")
    with engine.begin() as tx:
        kinds.create(tx)
    with engine.connect() as connection:
        made = shadow.Shadow(connection, [kinds])
        made.create()
        for expected in ({"missing": 1}, {}, {"changed": 1}):
            with made.writing() as tx:
                made.add({kinds: {(row["id"], 1): row}})
                found = made.tables["kinds"].difference(tx, 1)
                assert {kind: number for kind, number in found.counts.items() if number} == expected
                made.swap()
                assert tx.execute(select(kinds)).mappings().all() == [row]
                if not expected:
                    tx.execute(update(kinds).values(said={"a": [2]}))
    with engine.begin() as tx:
        kinds.drop(tx)
    engine.dispose()


kinds = Table(
    "kinds",
    MetaData(),
    Column("id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("said", JSON),
    Column("share", Double),
    Column("good", Boolean),
    Column("raw", LargeBinary),
    Column("none", String),
)


def test_every_read_model_of_a_system_is_what_its_events_tell(tmp_path: Path) -> None:
    """The proof that a rebuild builds what projectors show: of every way in which a command can end.

    What the projectors have not heard, because it lies in an outbox still, is shown afterwards.
    """
    settings = Settings.read({"PROTOOLS_HOME": str(tmp_path), "FAILURE_ATTEMPTS": "3"})
    scene = play(settings)
    runtimes = Runtimes(SYSTEM, settings, lambda name: scene.desks[name].runtime)
    archive_everything(scene.desks["protools_saga"].runtime.write)
    for model in read_models(SYSTEM):
        found = counted(compare(runtimes, model, nobody, 5))
        assert (found["changed"], found["foreign"]) == (0, 0)
        rebuild(runtimes, model, ADA, nobody, 5)
        assert counted(compare(runtimes, model, nobody, 5)) == Counter()


def archive_everything(engine: Engine) -> None:
    """Move half of the coordinator's events as `protools retention` does."""
    with engine.begin() as tx:
        middle = tx.execute(select(func.max(events.c.aggregate)).where(events.c.version > 4)).scalar_one()
        old = events.c.aggregate <= middle
        names = [column.name for column in events.columns]
        tx.execute(insert(event_archive).from_select(names, select(events).where(old)))
        assert tx.execute(delete(events).where(old)).rowcount > 10


# --- what is refused


def test_a_table_of_which_no_event_tells_anything_is_left_as_it_is(small: Stage) -> None:
    """Rows that somebody put there otherwise are not thrown away because no event knows of them."""
    small.write(insert(password).values(username="eve", version=9, status="issued", issued_at=0, changed_at=0))
    with pytest.raises(DomainError, match="no-events: .* password"):
        small.rebuild()
    outcome = rebuild(small.runtimes, read_model(SYSTEM, "bff"), ADA, nobody, 5)
    assert outcome is not None
    assert outcome.kept == ["password"]
    assert list(small.shown()) == ["eve"]


def test_an_event_that_cannot_be_projected_is_named_and_nothing_is_changed(
    small: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read model that lacks what one event tells would be swapped in as if it were whole."""
    small.tell("ada", "bob")
    small.project(shouting)
    broken = {**DOOR.projecting, PasswordGenerated: Projection(PasswordGenerated, _without_status)}
    monkeypatch.setitem(DOOR.__dict__, "projecting", broken)
    with pytest.raises(DomainError, match="unprojectable: generador.password-generated .*: .*NOT NULL"):
        small.rebuild()
    assert small.shown() == {"ada": ("ISSUED", 1), "bob": ("ISSUED", 1)}


def _without_status(message: Message[Any]) -> Any:
    return ((password, {"username": message.body.username, "version": message.version, "status": None}),)


def test_what_nobody_here_keeps_is_named(small: Stage) -> None:
    """Events of a service that is elsewhere, and commands, lie in no database that could be read."""

    @event("elsewhere.moved")
    @dataclass(frozen=True)
    class Moved:
        """Something moved, elsewhere."""

    @command("stock.move")
    @dataclass(frozen=True)
    class Move:
        """Move something."""

    views = read_model(SYSTEM, "bff").service.views
    stock = Service(
        "stock", views=views, projections=[Projection(Moved, _without_status), Projection(Move, _without_status)]
    )
    model = read_model(System("shop", services=[stock]), "stock.password")
    with pytest.raises(DomainError, match=r"elsewhere.moved is told by elsewhere, .*; stock.move is a command"):
        compare(small.runtimes, model, nobody, 5)


@pytest.mark.parametrize("ended", [False, True])
def test_a_rebuild_begins_again_once_somebody_is_erased(small: Stage, ended: bool) -> None:
    """What it has read may name a person whose name is gone from the read model by now: it would come back."""
    small.tell("ada")
    with pytest.raises(DomainError, match="erasing: .*u-1"):
        small.rebuild(once(lambda: erase(small, ended)))
    assert small.shown() == {}
    if ended:
        assert small.rebuild() == {"missing": 1}


def test_one_who_is_erased_while_it_is_swapped_in_is_noticed(small: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """To compare millions of rows takes minutes, in which an erasing may look through the table and be done."""
    small.tell("ada")
    swap = shadow.Shadow.swap
    monkeypatch.setattr(shadow.Shadow, "swap", lambda self: [swap(self), erase(small, ended=True)])
    with pytest.raises(DomainError, match="erasing: .*u-1"):
        small.rebuild()
    assert small.shown() == {}


def erase(stage: Stage, ended: bool) -> None:
    with stage.desks["protools_saga"].runtime.write.begin() as tx:
        for action in (ERASE_ACTION, *([ERASED_ACTION] if ended else [])):
            tx.execute(insert(audit).values(Act(ADA, action, "u-1").row(_now(tx))))


def _now(tx: Any) -> float:
    from pulsaga.delivery import database

    return database.now(tx)


def test_a_second_operator_has_to_agree_where_that_is_asked(small: Stage) -> None:
    """A read model is what everybody sees; who has it replaced, and what that changed, is in the audit."""
    small.tell("ada")
    two = replace(small.runtimes, settings=replace(small.settings, operator_approvals=2))
    assert rebuild(two, PASSWORDS, ADA, nobody, 5) is None
    assert small.shown() == {}
    assert rebuild(two, PASSWORDS, BOB, nobody, 5)
    assert list(small.shown()) == ["ada"]
    rows = sorted(small.desks["bff"].rows(audit), key=lambda row: row["id"])
    assert [(row["who"], row["action"], row["subject"]) for row in rows] == [
        ("ada", "rebuild wanted", "bff.password"),
        ("bob", "rebuild", "bff.password"),
        ("bob", "rebuilt", "bff.password"),
    ]
    assert json.loads(rows[-1]["detail"])["tables"]["password"]["missing"] == 1


def test_one_that_is_stopped_changes_nothing_and_is_run_again(stage: Stage) -> None:
    """A rebuild of millions of events may be cut off at any of them."""
    stage.tell("ada")
    stage.project(shouting)

    def stop(_read: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.rebuild(stop)
    assert stage.shown() == {"ada": ("ISSUED", 1)}
    assert stage.rebuild() == {"changed": 1}


# --- as it is typed


@pytest.mark.usefixtures("passwords_alone")
def test_the_difference_is_shown_on_the_command_line_and_then_swapped_in(
    small: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator looks first; a script knows by the exit code whether there is anything to do."""
    monkeypatch.setenv("PROTOOLS_HOME", str(small.settings.home))
    small.tell("ada")
    small.project(shouting)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(commands, ["projections", *arguments])
        return done.exit_code, done.output

    assert "bff.password" not in run("list")[1]
    assert run("rebuild", "bff.password")[0] == 2
    assert run("rebuild", "bff.nothing", "--dry-run")[0] == 2
    code, said = run("rebuild", "bff.password", "--dry-run")
    assert (code, "changed  username=ada  status: ISSUED → issued" in said) == (1, True)
    assert run("rebuild", "bff.password", "--why", "mended")[0] == 0
    code, said = run("rebuild", "bff.password", "--why", "to be sure")
    assert (code, "password: 1 rows; no difference" in said) == (0, True)
    code, said = run("rebuild", "bff.password", "--dry-run", "--json")
    assert (code, json.loads(said)["tables"][0]["changed"]) == (0, 0)
    assert small.shown() == {"ada": ("issued", 1)}
