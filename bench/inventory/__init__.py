"""A system whose one workflow takes one step for each of its items: what an item costs is all that it has to tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pulsaga import (
    Access,
    Each,
    ForEach,
    Handler,
    Message,
    Saga,
    Service,
    Step,
    System,
    UnitOfWork,
    command,
    event,
    hours,
)


@event("shelves.counted")
@dataclass(frozen=True)
class Counted:
    """A shelf was counted."""

    number: int


@command("shelves.count", replies=(Counted,))
@dataclass(frozen=True)
class Count:
    """Count a shelf."""

    shelf: str


def count(message: Message[Count], uow: UnitOfWork) -> None:
    """Count a shelf: there are as many things on it as its name has letters."""
    uow.reply(Counted(len(message.body.shelf)))


@dataclass(frozen=True)
class Shelf:
    """A shelf, and what is on it once that is known."""

    name: str
    counted: int = 0


@command("inventory.take-stock")
@dataclass(frozen=True)
class TakeStock:
    """Ask for shelves to be counted."""

    shelves: tuple[Shelf, ...]


@dataclass(frozen=True)
class Stock(TakeStock):
    """What the workflow knows."""

    counted: int = 0


def note(each: Each[Stock, Shelf], reply: Counted) -> Each[Stock, Shelf]:
    """Keep what was counted."""
    return replace(each, item=replace(each.item, counted=reply.number))


COUNT = Step[Each[Stock, Shelf]](lambda each: Count(each.item.name), learn=note, deadline=hours(1))
TAKE_STOCK = Saga[Stock](
    name="take-stock",
    starts=TakeStock,
    data=Stock,
    subject=lambda stock: f"{len(stock.shelves)} shelves",
    access=Access(start="caller"),
    steps=[
        ForEach(
            lambda stock: stock.shelves,
            lambda shelf: shelf.name,
            [COUNT],
            learn=lambda stock, shelves: replace(stock, counted=sum(shelf.counted for shelf in shelves)),
        )
    ],
)
SYSTEM = System("inventory", services=[Service("shelves", handlers=[Handler(Count, count)])], workflows=[TAKE_STOCK])
