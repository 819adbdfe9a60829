"""Workflows that live in tests only: `place-order` undoes what it reserved, `post-notice` begins past the front door.

This file is loaded from where its schemas and migrations lie.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Integer, MetaData, String, Table, select

from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import Message, command, event
from pulsaga.delivery.tables import Id
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError
from pulsaga.operate.verify import Check, Checks, FactTable
from pulsaga.saga.definition import Saga
from pulsaga.saga.steps import Step, minutes
from pulsaga.service import Service
from pulsaga.system import System

STOCK_OF_EACH = 2

# --- stock


@event("stock.reserved")
@dataclass(frozen=True)
class StockReserved:
    """Stock is set aside."""

    quantity: int


@event("stock.released")
@dataclass(frozen=True)
class StockReleased:
    """A reservation is undone."""


@command("stock.reserve", replies=(StockReserved,))
@dataclass(frozen=True)
class ReserveStock:
    """Set stock aside."""

    sku: str
    quantity: int


@command("stock.release", replies=(StockReleased,))
@dataclass(frozen=True)
class ReleaseStock:
    """Undo a reservation."""

    undoes: str


STOCK_TABLES = MetaData()
reservation = Table(
    "reservation",
    STOCK_TABLES,
    Column("id", Id, primary_key=True),
    Column("sku", String, nullable=False),
    Column("quantity", Integer, nullable=False),
)


def reserve(message: Message[ReserveStock], uow: UnitOfWork) -> None:
    """Reserve, if that is not too much."""
    wanted = message.body
    if wanted.quantity > STOCK_OF_EACH:
        raise DomainError("sold-out", f"fewer than {wanted.quantity} of {wanted.sku} are left")
    uow.put(reservation, {"id": message.id, "sku": wanted.sku, "quantity": wanted.quantity})
    uow.reply(StockReserved(wanted.quantity))


def release(message: Message[ReleaseStock], uow: UnitOfWork) -> None:
    """Give back what was reserved."""
    if kept := uow.get(reservation, message.body.undoes):
        uow.put(reservation, {**kept, "quantity": 0})
    uow.reply(StockReleased())


STOCK = Service(
    "stock",
    tables=STOCK_TABLES,
    handlers=[
        Handler(ReserveStock, reserve, reads=lambda m: [(reservation, m.id)]),
        Handler(ReleaseStock, release, reads=lambda m: [(reservation, m.body.undoes)]),
    ],
    checks=Checks(
        facts=[
            FactTable(
                "reservation",
                lambda floor: select(reservation.c.id, reservation.c.quantity).where(reservation.c.id >= floor.id),
                index=["id"],
            )
        ],
        checks=[
            Check(
                "orphaned",
                "reservation",
                "an order was given up, and its stock is still set aside",
                """
                SELECT r.id, r.quantity || ' of saga ' || o.saga_id FROM reservation r JOIN owned o USING (id)
                WHERE o.saga_status = 'COMPENSATED' AND r.quantity > 0
                """,
            )
        ],
    ),
)

# --- board


@event("board.posted")
@dataclass(frozen=True)
class NoticePosted:
    """A notice hangs on the board."""


@command("board.post", replies=(NoticePosted,))
@dataclass(frozen=True)
class PostNotice:
    """Hang a notice on the board; `rude` ones are refused."""

    text: str


BOARD_TABLES = MetaData()
notice = Table("notice", BOARD_TABLES, Column("id", Id, primary_key=True), Column("text", String, nullable=False))


def post(message: Message[PostNotice], uow: UnitOfWork) -> None:
    """Post a notice."""
    if "rude" in message.body.text:
        raise DomainError("rude", "nobody would like to read that")
    uow.put(notice, {"id": message.id, "text": message.body.text})
    uow.reply(NoticePosted())


BOARD = Service("board", tables=BOARD_TABLES, handlers=[Handler(PostNotice, post, reads=lambda m: [(notice, m.id)])])

# --- workflows


@command("shop.place-order")
@dataclass(frozen=True)
class PlaceOrder:
    """Ask for goods to be set aside, and for everybody to hear of it."""

    order_id: str
    quantity: int
    note: str


@command("shop.post-notice")
@dataclass(frozen=True)
class Announce:
    """Ask for a notice."""

    text: str


PLACE_ORDER = Saga(
    name="place-order",
    starts=PlaceOrder,
    data=PlaceOrder,
    subject=lambda order: order.order_id,
    steps=[
        Step(
            lambda order: ReserveStock("tea", order.quantity),
            undo=lambda _order, undoes: ReleaseStock(undoes),
            deadline=minutes(5),
        ),
        Step(lambda order: PostNotice(order.note), pivot=True, deadline=minutes(5)),
    ],
)
POST_NOTICE = Saga(
    name="post-notice",
    starts=Announce,
    data=Announce,
    subject=lambda notice: notice.text,
    steps=[Step(lambda notice: PostNotice(notice.text), deadline=minutes(5))],
)


def shop(front_door: Service | None = None) -> System:
    """Put the system together."""
    return System("shop", services=[STOCK, BOARD], workflows=[PLACE_ORDER, POST_NOTICE], front_door=front_door)
