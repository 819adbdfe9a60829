"""Talk with the workflow: no broker, no database, no waiting."""

from pulsaga.testing import given

from trips.bookings import (
    BookRoom,
    BookSeat,
    CancelRoom,
    CancelSeat,
    RoomBooked,
    RoomCancelled,
    SeatBooked,
    SeatCancelled,
)
from trips.desk import AskForApproval, LetterWritten, Remind
from trips.payments import Pay, PayBack
from trips.plan_trip import PLAN_TRIP, Approve, PlanTrip, Traveller

DEAR = PlanTrip("Rome", nights=4, travellers=(Traveller("ada"), Traveller("bob")))


def test_a_dear_trip_is_asked_for_and_given_back_when_nobody_is_reached() -> None:
    """All of it: what was booked, and what was paid."""
    saga = given(PLAN_TRIP, DEAR)
    room = saga.sends(BookRoom("Rome", 4)).replies(RoomBooked(400))
    seats = [saga.sends(BookSeat("Rome", name)).replies(SeatBooked(80)) for name in ("ada", "bob")]
    saga.sends(AskForApproval("Rome", 560)).replies(LetterWritten())
    saga.signals(Approve("the boss"))
    assert saga.data.approved_by == "the boss"
    payment = saga.sends(Pay("Rome", 560)).replies(Pay("Rome", 560))
    saga.passes(1).sends(Remind("Rome")).refuses("unreachable")
    saga.sends(PayBack("Rome", payment.command_id)).replies(PayBack("Rome", payment.command_id))
    saga.sends(CancelRoom(room.command_id)).replies(RoomCancelled())
    for seat in seats:
        saga.sends(CancelSeat(seat.command_id)).replies(SeatCancelled())
    saga.ends("COMPENSATED", reason="unreachable")


def test_a_traveller_who_cannot_go_takes_the_others_bookings_back() -> None:
    """Though they were made at the same time."""
    saga = given(PLAN_TRIP, DEAR)
    room = saga.sends(BookRoom("Rome", 4)).replies(RoomBooked(400))
    ada = saga.sends(BookSeat("Rome", "ada")).replies(SeatBooked(80))
    saga.sends(BookSeat("Rome", "bob")).refuses("no-passport")
    saga.sends(CancelRoom(room.command_id)).replies(RoomCancelled())
    saga.sends(CancelSeat(ada.command_id)).replies(SeatCancelled())
    saga.ends("COMPENSATED", reason="no-passport")
