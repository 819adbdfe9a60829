"""A system that has never heard of passwords, behind a front door of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.service.fakes import FakeBroker
from tests.service.rooms import Room

from pulsaga.delivery.avro import Codec
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import Message, command, contract_of, event
from pulsaga.delivery.tables import DELIVERY
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import Speaker, UnitOfWork
from pulsaga.running.runtime import Runtime
from pulsaga.saga.definition import Access, Saga
from pulsaga.saga.steps import Step, minutes
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.web.formats import Format
from pulsaga.web.front_door import tables
from pulsaga_program.schemas import derive

SECRET = "correct horse battery staple, 32 bytes and more"


@dataclass(frozen=True)
class Line:
    """So many of one thing."""

    sku: str
    quantity: int = field(metadata={"minimum": 1})
    gift: bool = False


@dataclass(frozen=True)
class Address:
    """Where it goes."""

    street: str
    floor: int | None = None


@command("shop.place-order")
@dataclass(frozen=True)
class PlaceOrder:
    """Ask for goods to be sent."""

    order_id: str
    customer: str
    lines: list[Line]
    to: Address
    discount: float = field(default=0.0, metadata={"examples": [0.25]})
    note: str | None = None
    tags: list[str] = field(default_factory=list)
    checked_by: str = "nobody"

    def __post_init__(self) -> None:
        if self.discount > 1:
            raise ValueError("nobody gets more than everything for nothing")


@command("shop.tidy")
@dataclass(frozen=True)
class Tidy:
    """Ask for the shelves to be tidied."""

    shelf: int


@command("shop.close")
@dataclass(frozen=True)
class Close:
    """Ask for the shop to be closed: nobody outside may."""

    at: str


@event("floor.swept")
@dataclass(frozen=True)
class Swept:
    """The floor is clean."""


@command("floor.sweep", replies=(Swept,))
@dataclass(frozen=True)
class Sweep:
    """Sweep the floor: what every workflow here comes down to."""

    at: str = "now"


def sweep(_message: Message[Sweep], uow: UnitOfWork) -> None:
    """Say that it is done."""
    uow.reply(Swept())


def saga(name: str, starts: type, subject: Any, access: Access | None) -> Saga[Any]:
    """Make a workflow whose steps are nobody's concern here."""
    steps = [Step[Any](lambda _data: Sweep(), deadline=minutes(1))]
    return Saga(name=name, starts=starts, data=starts, subject=subject, access=access, steps=steps)


FLOOR = Service("floor", handlers=[Handler(Sweep, sweep)])


GIVEN = ("order_id", "customer", "lines", "to", "discount", "note", "tags")
PLACE_ORDER = saga(
    "place-order",
    PlaceOrder,
    lambda order: order.order_id,
    Access(start="orders:write", owner=lambda order: order.customer, fields=GIVEN),
)
TIDY_UP = saga("tidy-up", Tidy, lambda tidy: f"shelf {tidy.shelf}", Access(start="operator", subject="shelf"))
CLOSE = saga("close", Close, lambda close: close.at, None)
WORKFLOWS = (PLACE_ORDER, TIDY_UP, CLOSE)

ORDER: Mapping[str, Any] = {
    "order_id": "o-1",
    "customer": "ada",
    "lines": [{"sku": "tea", "quantity": 2}, {"sku": "cup", "quantity": 1, "gift": True}],
    "to": {"street": "Strand 1", "floor": 3},
    "discount": 0.25,
    "tags": ["new"],
}
ORDER_XML = """<order>
  <order_id>o-1</order_id><customer>ada</customer>
  <lines>
    <line><sku>tea</sku><quantity>2</quantity></line>
    <line><sku>cup</sku><quantity> 1 </quantity><gift>true</gift></line>
  </lines>
  <to><street>Strand 1</street><floor>3</floor></to>
  <discount>0.25</discount>
  <tags><tag>new</tag></tags>
</order>"""
PLACED = PlaceOrder(
    "o-1", "ada", [Line("tea", 2), Line("cup", 1, gift=True)], Address("Strand 1", 3), discount=0.25, tags=["new"]
)


def open_shop(
    home: Path,
    workflows: tuple[Saga[Any], ...] = WORKFLOWS,
    floor: Service = FLOOR,
    formats: Sequence[Format] = (),
    **environment: str,
) -> Room:
    """Set up the front door of the shop."""
    system = System("shop", services=[floor], workflows=workflows, front_door=Service("door"), formats=formats)
    settings = Settings.read({"PROTOOLS_HOME": str(home), "AUTH": "none", **environment})
    broker, codec = FakeBroker(), Codec({contract_of(cls).dataschema: derive(cls) for cls in system.messages})
    write = open_database(settings, "door", "write", "owner", create=True)
    projector = open_database(settings, "door", "read", "projector", create=True)
    for metadata, engine in ((DELIVERY, write), (tables.WRITE, write), (tables.READ, projector)):
        metadata.create_all(engine)
    transactions = Transactions(write, broker, Speaker("door", codec, 0.0, settings.keys, settings.sweep_after))
    runtime = Runtime(system, settings, "door", broker, codec, write, transactions)
    read = open_database(settings, "door", "read", "reader")
    assert system.door is not None
    assert system.door.web is not None
    return Room(runtime, broker, projector, system.door.web(runtime, read))
