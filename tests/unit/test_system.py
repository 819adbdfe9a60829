"""Declare systems that cannot work, and see each refused by its name before anything is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table

from pulsaga import (
    Access,
    DefinitionError,
    Handler,
    Message,
    Saga,
    Service,
    SettingError,
    Step,
    System,
    UnitOfWork,
    command,
    contract_of,
    event,
    setting,
    values,
)
from pulsaga.settings import Settings
from pulsaga_program.preflight import check_system


def no_loops(_process: Any, _runtime: Any) -> list[Any]:
    """Add nothing to a process."""
    return []


@event("stock.reserved")
@dataclass(frozen=True)
class Reserved:
    """Stock is set aside."""


@event("stock.short")
@dataclass(frozen=True)
class Short:
    """Less is set aside than was asked for."""


@command("stock.reserve", replies=(Reserved,))
@dataclass(frozen=True)
class Reserve:
    """Set stock aside."""


@command("stock.reserve-some", replies=(Reserved, Short))
@dataclass(frozen=True)
class ReserveSome:
    """Set aside what there is."""


@command("stock.release")
@dataclass(frozen=True)
class Release:
    """Undo a reservation; it declares no reply."""

    undoes: str


@event("mail.sent")
@dataclass(frozen=True)
class Sent:
    """A mail was sent."""


@command("stock.tell", replies=(Sent,))
@dataclass(frozen=True)
class Tell:
    """A command that another service would answer."""


@command("shop.order")
@dataclass(frozen=True)
class Order:
    """Ask for goods."""


@command("shop.order-item")
@dataclass(frozen=True)
class OrderItem:
    """Ask for goods of a kind."""

    sku: str


@dataclass(frozen=True)
class Needy:
    """Data that nobody gives."""

    sku: str
    receipt: str
    note: str | None


@dataclass(frozen=True)
class Leg:
    """A part of data."""

    at: datetime


@dataclass(frozen=True)
class Timed:
    """Data that would come back as text."""

    legs: tuple[Leg, ...] = ()


@command("stock.forget", replies=(Reserved,))
@dataclass(frozen=True)
class Forget:
    """Undo a reservation, without telling which."""


@command("other.order")
@dataclass(frozen=True)
class OrderElsewhere:
    """Ask another system for goods."""


def handle(_message: Message[Any], _uow: UnitOfWork) -> None: ...


def learn_reserved(order: Order, _reply: Reserved) -> Order:
    return order


def learn_both(order: Order, _reply: Reserved | Short) -> Order:
    return order


def stock(*commands: type) -> Service:
    return Service("stock", handlers=[Handler(each, handle) for each in commands])


def flow(*steps: Step[Order], name: str = "order", starts: type = Order, version: int = 1) -> Saga[Any]:
    return Saga(name, starts=starts, data=Order, subject=lambda _order: "o-1", steps=list(steps), version=version)


class Making:
    """An object that makes a command when it is called, or by a method."""

    def __call__(self, _order: Order) -> Reserve:
        return Reserve()

    def of(self, _order: Order) -> Reserve:
        return Reserve()


def made_of(_what: str, _order: Order) -> Reserve:
    return Reserve()


def learn_with(_what: str, order: Order, _reply: Reserved) -> Order:
    return order


def in_a_closure() -> Callable[[Order], Any]:
    wanted = Reserve
    return lambda _order: wanted()


def table_called(name: str) -> MetaData:
    tables = MetaData()
    Table(name, tables, Column("id", String, primary_key=True))
    return tables


def unreadable(_order: Nowhere) -> Reserve:  # type: ignore[name-defined]  # noqa: F821 - as behind TYPE_CHECKING
    return Reserve()


def two(_order: Order) -> Any:
    return Reserve() if _order else ReserveSome()


ANYBODY = Access(start="caller")
RESERVE = Step[Order](lambda _order: Reserve(), deadline=60)
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a command without a receiver": (
        lambda: System("shop", workflows=[flow(RESERVE)]),
        r"order@1, step 1 sends stock\.reserve, which no service of shop handles",
    ),
    "a command that its service does not handle": (
        lambda: System("shop", services=[stock(ReserveSome)], workflows=[flow(RESERVE)]),
        r"sends stock\.reserve, which no service of shop handles",
    ),
    "a reply that nobody handles": (
        lambda: System(
            "shop",
            services=[stock(ReserveSome)],
            workflows=[flow(Step(lambda _order: ReserveSome(), learn=learn_reserved, deadline=60))],
        ),
        r"order@1, step 1: nobody handles the reply stock\.short",
    ),
    "a compensation without replies": (
        lambda: System(
            "shop",
            services=[stock(Reserve, Release)],
            workflows=[flow(Step(lambda _o: Reserve(), undo=lambda _o, undoes: Release(undoes), deadline=60))],
        ),
        r"order@1, step 1 sends stock\.release, which declares no replies",
    ),
    "two workflows of one command": (
        lambda: System("shop", services=[stock(Reserve)], workflows=[flow(RESERVE), flow(RESERVE, name="again")]),
        r"shop\.order starts two workflows, order and again",
    ),
    "a start that belongs to another": (
        lambda: System("shop", services=[stock(Reserve)], workflows=[flow(RESERVE, starts=OrderElsewhere)]),
        r"order@1 is started by other\.order: a command of shop is needed",
    ),
    "a reply that is another's to tell": (
        lambda: System("shop", services=[stock(Tell)], workflows=[flow(Step(lambda _order: Tell(), deadline=60))]),
        r"stock\.tell is answered by mail\.sent, which is another's to tell",
    ),
    "a compensation that does not tell what it undoes": (
        lambda: System(
            "shop",
            services=[stock(Reserve, Forget)],
            workflows=[flow(Step(lambda _o: Reserve(), undo=lambda _o, _undoes: Forget(), deadline=60))],
        ),
        r"order@1, step 1 undoes by stock\.forget, which has no field `undoes`",
    ),
    "data without a field of the starting command": (
        lambda: System("shop", services=[stock(Reserve)], workflows=[flow(RESERVE, starts=OrderItem)]),
        r"workflow order: Order has no field sku",
    ),
    "data that nobody gives": (
        lambda: System(
            "shop",
            services=[stock(Reserve)],
            workflows=[Saga("order", starts=OrderItem, data=Needy, subject=lambda _d: "o-1", steps=[RESERVE])],
        ),
        r"workflow order: Needy needs a default for receipt$",
    ),
    "data that a log cannot keep": (
        lambda: System(
            "shop",
            services=[stock(Reserve)],
            workflows=[Saga("order", starts=Order, data=Timed, subject=lambda _d: "o-1", steps=[RESERVE])],
        ),
        r"workflow order: field legs of Timed: a saga's log cannot keep <class 'datetime.datetime'>",
    ),
    "a workflow without steps": (lambda: flow(), r"workflow order has no steps"),
    "two pivots": (lambda: flow(*[Step(two, pivot=True, deadline=60)] * 2), r"workflow order has two pivots"),
    "a workflow that no URL can name": (lambda: flow(RESERVE, name="my order"), r"workflow 'my order': a name is of"),
    "a step that does not say what it sends": (
        lambda: System("shop", services=[stock(Reserve)], workflows=[flow(Step(two, deadline=60))]),
        r"a step's function names 2 commands; annotate what it returns",
    ),
    "a step that is annotated with a name that is not there": (
        lambda: System("shop", services=[stock(Reserve)], workflows=[flow(Step(unreadable, deadline=60))]),
        r"test_system, line \d+: name 'Nowhere' is not defined",
    ),
    "a step that is given the class of its command": (
        lambda: System("shop", services=[stock(Reserve)], workflows=[flow(Step(Reserve, deadline=60))]),  # type: ignore[arg-type]
        r"Reserve: a step takes a function that makes its command",
    ),
    "a partial learn that does not take every reply": (
        lambda: System(
            "shop",
            services=[stock(ReserveSome)],
            workflows=[flow(Step(lambda _o: ReserveSome(), learn=partial(learn_with, "all"), deadline=60))],
        ),
        r"order@1, step 1: nobody handles the reply stock\.short",
    ),
    "a service that no variable or role can name": (
        lambda: Service("my-stock"),
        r"service 'my-stock': a name is of small letters, digits and _",
    ),
    "a service whose name leaves no room for its roles": (lambda: Service("s" * 41), r"40 at most"),
    "a table that the framework has, too": (
        lambda: Service("stock", tables=table_called("event")),
        r"service stock: a table called event is in every database already",
    ),
    "a view that the framework has, too": (
        lambda: Service("stock", views=table_called("failure")),
        r"service stock: a table called failure is in every database already",
    ),
    "a view that every front door has, too": (
        lambda: System("shop", front_door=Service("door", views=table_called("command"))),
        r"a table called command is in the databases of every front door already",
    ),
    "a command of another service": (
        lambda: System("shop", services=[Service("depot", handlers=[Handler(Reserve, handle)])]),
        r"service depot handles stock\.reserve, which is stock's",
    ),
    "a message without an owner": (lambda: command("reserve"), r"message 'reserve': a name is owner\.what-happens"),
    "replies that are no tuple": (
        lambda: command("stock.count", replies=Reserved),  # type: ignore[arg-type]
        r"message stock\.count: its replies are a tuple",
    ),
    "two services of one name": (
        lambda: System("shop", services=[stock(Reserve), stock(Reserve)]),
        r"two services called stock",
    ),
    "two workflows of one name": (
        lambda: System("shop", services=[stock(Reserve)], workflows=[flow(RESERVE), flow(RESERVE)]),
        r"two workflows called order@1",
    ),
    "a kind of process that every service has": (
        lambda: Service("stock", processes={"web": lambda _process, _runtime: []}),
        r"service stock: web is a kind of process of every service",
    ),
    "a port of no process": (
        lambda: Service("stock", ports={"grpc": 7100}),
        r"service stock: a port for grpc, which is",
    ),
    "a kind of process whose port is a service's": (
        lambda: System("shop", services=[Service("stock", processes={"shop": no_loops}, ports={"shop": 7100})]),
        r"system shop: two ports called shop",
    ),
    "two handlers of one message": (lambda: stock(Reserve, Reserve), r"service stock: two handlers of stock\.reserve"),
}


@pytest.mark.parametrize(("declare", "named"), WRONG.values(), ids=WRONG)
def test_a_system_that_cannot_work_is_refused_by_name(declare: Callable[[], object], named: str) -> None:
    """Otherwise its sagas would hang until their deadlines, and nobody would know why."""
    with pytest.raises(DefinitionError, match=named):
        declare()


@pytest.mark.parametrize("function", [Making(), Making().of, partial(made_of, "all"), in_a_closure()])
def test_whatever_can_be_called_may_make_a_command(function: Callable[[Order], Any]) -> None:
    """A partial, an object, a method and a closure are functions to whoever writes a step."""
    System("shop", services=[stock(Reserve)], workflows=[flow(step := Step(function, deadline=60))])
    assert step.sends is Reserve


def test_a_learn_that_takes_every_reply_is_taken() -> None:
    """The refusal above is of the reply that is left out, not of having two."""
    step = Step[Order](lambda _order: ReserveSome(), learn=learn_both, deadline=60)
    system = System("shop", services=[stock(ReserveSome)], workflows=[flow(step)])
    assert {Reserved, Short} <= set(system.coordinator.handling)


def test_the_coordinator_hears_every_answer_to_every_version_and_starts_the_newest() -> None:
    """A saga of an older version still runs to its end."""
    newer = flow(Step(lambda _order: ReserveSome(), deadline=60), version=2)
    system = System("shop", services=[stock(Reserve, ReserveSome)], workflows=[flow(RESERVE), newer])
    assert system.sagas.starting[Order] is newer
    heard = set(system.coordinator.consumes)
    assert {"stock.reserved", "stock.short", "stock.command-refused", "stock.command-failed"} <= heard


def elsewhere(name: str, *replies: type) -> Any:
    """Declare a command in a package that is not this one."""
    made = make_dataclass("Made", [], frozen=True, namespace={"__module__": contract_of.__module__})
    return command(name, replies=replies)(made)


def test_a_service_answers_by_one_class_though_its_commands_are_declared_in_two_packages() -> None:
    """The coordinator looked for the schema of the refused answer beside the command: it is committed once."""
    count = elsewhere("stock.count", Reserved)
    depot = stock(Reserve, count)
    steps = flow(RESERVE, Step[Order](lambda _order: count(), deadline=60))
    heard = System("shop", services=[depot], workflows=[steps]).coordinator.handling
    assert [cls for cls in heard if contract_of(cls).name == "stock.command-refused"] == [depot.refused]


def test_a_front_door_hears_what_the_coordinator_tells_though_workflows_start_in_two_packages() -> None:
    """The newer version of a workflow may be listed before the first of another."""
    other = elsewhere("shop.order-elsewhere")
    flows = [flow(RESERVE, version=2), flow(RESERVE, name="other", starts=other)]
    system = System("shop", services=[stock(Reserve)], workflows=[replace(each, access=ANYBODY) for each in flows])
    assert system.door is not None
    assert set(system.door.projecting) <= set(system.coordinator.messages)


def test_a_system_may_be_made_from_another_with_its_front_door() -> None:
    """What was completed once was completed twice, and refused for its own tables."""
    own = Service("front_door", routes=list)
    opened = replace(flow(RESERVE), access=ANYBODY)
    system = System("shop", services=[stock(Reserve)], workflows=[opened], front_door=own)
    other = replace(system, version="2.0.0")
    assert system.door
    assert other.door
    assert (other.names, other.door.messages) == (system.names, system.door.messages)


def test_a_system_without_workflows_keeps_its_schemas_at_home() -> None:
    """They were written among the files of the framework."""
    assert {contract_of(cls).module for cls in System("bare_shop").messages} == {__name__}


def test_a_table_gets_its_revision_but_for_what_is_only_added_to() -> None:
    """A row that two transactions write at once is found by its revision."""
    tables = MetaData()
    Table("item", tables, Column("sku", String, primary_key=True))
    Table("note", tables, Column("id", String, primary_key=True), info={"append_only": True})
    Service("stock", tables=tables)
    assert "revision" in tables.tables["item"].c
    assert "revision" not in tables.tables["note"].c


def test_ports_are_assigned_or_given_and_every_process_is_named() -> None:
    """A new service needs no line in a list of ports."""

    def web(_runtime: Any, _read: Any) -> Any:
        raise AssertionError("not asked for")

    door = Service("door", web=web)
    system = System("shop", services=[Service("stock", web=web), Service("quiet", handlers=[])], front_door=door)
    assert system.ports(Settings.read({})) == {"door": 3000, "shop": 3001, "stock": 3002}
    assert system.port_of(Settings.read({"STOCK_PORT": "7000"}), "stock") == 7000
    assert ("quiet", "worker") not in system.processes
    with pytest.raises(DefinitionError, match="quiet has no web process"):
        system.port_of(Settings.read({}), "quiet")


def test_a_service_may_have_a_kind_of_process_of_its_own() -> None:
    """Not every server speaks HTTP."""
    stock_by_grpc = Service("stock", processes={"grpc": no_loops})
    assert System("shop", services=[stock_by_grpc]).processes == (
        ("shop", "worker"),
        ("stock", "grpc"),
        ("shop", "web"),
    )


def test_a_kind_of_process_may_have_a_port_settings_and_secrets_of_its_own() -> None:
    """`config show` tells them, and `up` refuses two servers on one port."""

    @dataclass(frozen=True, kw_only=True)
    class Shelves:
        shelves: int = setting("SHELVES", values.count, "3")

    @dataclass(frozen=True, kw_only=True)
    class Signs:
        sign: str = setting("SIGN", values.text, "open")

    service = Service(
        "stock",
        processes={"grpc": no_loops},
        ports={"grpc": 7100},
        settings=[Shelves, Signs],
        secrets=["STOCK_SECRET"],
    )
    system, given = System("shop", services=[service]), Settings.read({"STOCK_SECRET": "s" * 32})
    shown = system.shown(given)
    assert shown.items() >= {"GRPC_PORT": "7100", "SHELVES": "3", "SIGN": "open", "STOCK_SECRET": "(hidden)"}.items()
    assert "GRPC_URL" not in shown
    assert system.port_of(Settings.read({"GRPC_PORT": "7200"}), "grpc") == 7200
    with pytest.raises(SettingError, match=r"^SHOP_PORT: 7100 is the port of GRPC_PORT, too|^GRPC_PORT: 7100 is"):
        check_system(system, Settings.read({"SHOP_PORT": "7100", "AUTH": "none"}))


def test_a_secret_is_text_that_embedded_mode_makes_and_others_are_asked_for(tmp_path: Path) -> None:
    """What is given in one mode is good in the other; what is too short is named, and not shown."""
    embedded = Settings.read({"PROTOOLS_HOME": str(tmp_path)})
    made = embedded.secret("STOCK_SECRET")
    assert made == embedded.secret("STOCK_SECRET") == embedded.key_file("STOCK_SECRET").read_bytes()
    assert Settings.read({"STOCK_SECRET": made.decode()}).secret("STOCK_SECRET") == made
    with pytest.raises(SettingError, match=r"^STOCK_SECRET: is missing"):
        Settings.read({"BROKER_HOST": "pulsar"}).secret("STOCK_SECRET")
    with pytest.raises(SettingError, match=r"^STOCK_SECRET: holds 6 bytes"):
        Settings.read({"STOCK_SECRET": "hidden"}).secret("STOCK_SECRET")
