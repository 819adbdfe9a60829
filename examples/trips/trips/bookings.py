"""Rooms and seats: booked one by one, and given back."""

from dataclasses import dataclass
from typing import TypedDict

from pulsaga import DomainError, Handler, Id, Message, Rows, Service, UnitOfWork, command, event
from sqlalchemy import Boolean, Column, MetaData, String


@event("hotels.room-booked")
@dataclass(frozen=True)
class RoomBooked:
    """A room is booked."""

    price: int


@event("hotels.room-cancelled")
@dataclass(frozen=True)
class RoomCancelled:
    """A room is free again."""


@command("hotels.book-room", replies=(RoomBooked,))
@dataclass(frozen=True)
class BookRoom:
    """Book a room."""

    city: str
    nights: int


@command("hotels.cancel-room", replies=(RoomCancelled,))
@dataclass(frozen=True)
class CancelRoom:
    """Give a room back."""

    undoes: str


@event("flights.seat-booked")
@dataclass(frozen=True)
class SeatBooked:
    """A seat is booked."""

    price: int


@event("flights.seat-cancelled")
@dataclass(frozen=True)
class SeatCancelled:
    """A seat is free again."""


@command("flights.book-seat", replies=(SeatBooked,))
@dataclass(frozen=True)
class BookSeat:
    """Book a seat."""

    city: str
    traveller: str


@command("flights.cancel-seat", replies=(SeatCancelled,))
@dataclass(frozen=True)
class CancelSeat:
    """Give a seat back."""

    undoes: str


class Booking(TypedDict):
    """What one command booked."""

    id: str
    what: str
    booked: bool


ROOMS, SEATS = MetaData(), MetaData()


def bookings(tables: MetaData) -> Rows[Booking]:
    """Make the table of a service."""
    return Rows[Booking](
        "booking",
        tables,
        Column("id", Id, primary_key=True),
        Column("what", String, nullable=False),
        Column("booked", Boolean, nullable=False),
    )


room, seat = bookings(ROOMS), bookings(SEATS)


def book_room(message: Message[BookRoom], uow: UnitOfWork) -> None:
    """Book a room, at 100 a night; refuse with `no-such-place`."""
    if message.body.city == "Atlantis":
        raise DomainError("no-such-place", "nobody has found it yet")
    uow.put(room, {"id": message.id, "what": message.body.city, "booked": True})
    uow.reply(RoomBooked(100 * message.body.nights))


def cancel_room(message: Message[CancelRoom], uow: UnitOfWork) -> None:
    """Give back the room that one BookRoom booked."""
    if row := uow.get(room, message.body.undoes):
        uow.put(room, {**row, "booked": False})
    uow.reply(RoomCancelled())


def book_seat(message: Message[BookSeat], uow: UnitOfWork) -> None:
    """Book a seat, at 80; refuse with `no-passport`."""
    if message.body.traveller == "Nemo":
        raise DomainError("no-passport", "Nobody has no passport")
    uow.put(seat, {"id": message.id, "what": f"{message.body.traveller} to {message.body.city}", "booked": True})
    uow.reply(SeatBooked(80))


def cancel_seat(message: Message[CancelSeat], uow: UnitOfWork) -> None:
    """Give back the seat that one BookSeat booked."""
    if row := uow.get(seat, message.body.undoes):
        uow.put(seat, {**row, "booked": False})
    uow.reply(SeatCancelled())


HOTELS = Service(
    "hotels",
    tables=ROOMS,
    handlers=[
        Handler(BookRoom, book_room, reads=lambda m: [(room, m.id)]),
        Handler(CancelRoom, cancel_room, reads=lambda m: [(room, m.body.undoes)]),
    ],
)
FLIGHTS = Service(
    "flights",
    tables=SEATS,
    handlers=[
        Handler(BookSeat, book_seat, reads=lambda m: [(seat, m.id)]),
        Handler(CancelSeat, cancel_seat, reads=lambda m: [(seat, m.body.undoes)]),
    ],
)
