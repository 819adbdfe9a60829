"""Trips: one workflow that uses every kind of step, on four services."""

from pulsaga import System

from trips.bookings import FLIGHTS, HOTELS
from trips.desk import DESK
from trips.payments import PAY, PAY_BACK, PAYMENTS
from trips.plan_trip import NIGHTLY, PLAN_TRIP, TIDY_UP

SYSTEM = System(
    "trips",
    services=[HOTELS, FLIGHTS, DESK, PAYMENTS],
    workflows=[PLAN_TRIP, PAY, PAY_BACK, TIDY_UP],
    schedules=[NIGHTLY],
)
