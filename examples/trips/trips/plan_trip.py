"""The workflow plan-trip: book what is needed, ask above a sum, pay, remind; everything is given back where that fails."""

from dataclasses import dataclass, replace
from datetime import datetime

from pulsaga import (
    BEARER,
    Access,
    Await,
    Child,
    Each,
    Every,
    ForEach,
    Limit,
    Parallel,
    Saga,
    Schedule,
    Sleep,
    Step,
    When,
    command,
    hours,
    minutes,
)

from trips.bookings import BookRoom, BookSeat, CancelRoom, CancelSeat, RoomBooked, SeatBooked
from trips.desk import AskForApproval, Remind, Tidy
from trips.payments import Pay, PayBack

ASKED_ABOVE = 500


@dataclass(frozen=True)
class Traveller:
    """Who goes, and what the seat costs once that is known."""

    name: str
    price: int = 0


@command("trips.plan-trip")
@dataclass(frozen=True)
class PlanTrip:
    """Ask for a trip."""

    city: str
    nights: int
    travellers: tuple[Traveller, ...]
    remind_at: float = 0.0
    """Unix seconds."""


@dataclass(frozen=True)
class Trip(PlanTrip):
    """What the workflow knows: what was asked for, and what it learns."""

    room: int = 0
    seats: int = 0
    approved_by: str = ""

    @property
    def price(self) -> int:
        """What all of it costs."""
        return self.room + self.seats


@command("trips.approve")
@dataclass(frozen=True)
class Approve:
    """Say yes to a trip."""

    name: str


BOOK_ROOM = Step[Trip](
    lambda trip: BookRoom(trip.city, trip.nights),
    undo=lambda trip, undoes: CancelRoom(undoes),
    learn=lambda trip, reply: note_room(trip, reply),
    deadline=minutes(5),
)
BOOK_SEAT = Step[Each[Trip, Traveller]](
    lambda each: BookSeat(each.data.city, each.item.name),
    undo=lambda each, undoes: CancelSeat(undoes),
    learn=lambda each, reply: note_seat(each, reply),
    limit=Limit("airline", at_most=20),
    deadline=minutes(5),
)
ASK = Step[Trip](lambda trip: AskForApproval(trip.city, trip.price), token_for=Approve, deadline=hours(1))


def note_room(trip: Trip, reply: RoomBooked) -> Trip:
    """Keep what the room costs."""
    return replace(trip, room=reply.price)


def note_seat(each: Each[Trip, Traveller], reply: SeatBooked) -> Each[Trip, Traveller]:
    """Keep what the seat of one traveller costs."""
    return replace(each, item=replace(each.item, price=reply.price))


def note_approval(trip: Trip, approval: Approve) -> Trip:
    """Keep who said yes."""
    return replace(trip, approved_by=approval.name)


PLAN_TRIP = Saga[Trip](
    name="plan-trip",
    starts=PlanTrip,
    data=Trip,
    subject=lambda trip: trip.city,
    access=Access(start="caller", fields=["city", "nights", "travellers", "remind_at"]),
    steps=[
        Parallel(
            BOOK_ROOM,
            ForEach(
                items=lambda trip: trip.travellers,
                key=lambda traveller: traveller.name,
                steps=[BOOK_SEAT],
                learn=lambda trip, travellers: replace(trip, seats=sum(each.price for each in travellers)),
            ),
        ),
        When(
            lambda trip: trip.price > ASKED_ABOVE,
            [ASK, Await(Approve, by=BEARER, early=True, deadline=hours(48), learn=note_approval)],
        ),
        Child(
            lambda trip: Pay(trip.city, trip.price),
            undo=lambda trip, payment: PayBack(trip.city, payment),
            deadline=hours(1),
        ),
        Sleep(until=lambda trip: trip.remind_at),
        Step(lambda trip: Remind(trip.city), retry=Every(5, growth=2, at_most=300), pivot=True, deadline=hours(1)),
    ],
)


@command("trips.tidy-up")
@dataclass(frozen=True)
class TidyUp:
    """Ask for the desk to be tidied."""

    day: str


TIDY_UP = Saga[TidyUp](
    name="tidy-up",
    starts=TidyUp,
    data=TidyUp,
    subject=lambda tidy_up: tidy_up.day,
    steps=[Step(lambda tidy_up: Tidy(tidy_up.day), deadline=hours(1))],
)


def tidy_up(at: datetime) -> TidyUp:
    """Tidy up after the day that has ended."""
    return TidyUp(f"{at:%Y-%m-%d}")


NIGHTLY = Schedule("nightly", "0 3 * * *", timezone="Europe/Berlin", command=tidy_up)
