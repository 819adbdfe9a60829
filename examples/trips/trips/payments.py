"""Payments: what was charged for a trip, and what was paid back."""

from dataclasses import dataclass
from typing import TypedDict

from pulsaga import Handler, Id, Message, Rows, Saga, Service, Step, UnitOfWork, command, event, minutes
from sqlalchemy import Column, Integer, MetaData, String


@event("payments.charged")
@dataclass(frozen=True)
class Charged:
    """It was charged."""

    amount: int


@event("payments.refunded")
@dataclass(frozen=True)
class Refunded:
    """It was paid back."""


@command("payments.charge", replies=(Charged,))
@dataclass(frozen=True)
class Charge:
    """Charge an amount for a trip."""

    city: str
    amount: int


@command("payments.refund", replies=(Refunded,))
@dataclass(frozen=True)
class Refund:
    """Pay back what was charged in one payment."""

    payment: str


class Payment(TypedDict):
    """What one payment holds."""

    id: str
    city: str
    amount: int


TABLES = MetaData()
payment = Rows[Payment](
    "payment",
    TABLES,
    Column("id", Id, primary_key=True),
    Column("city", String, nullable=False),
    Column("amount", Integer, nullable=False),
)


def charge(message: Message[Charge], uow: UnitOfWork) -> None:
    """Charge an amount."""
    uow.put(payment, {"id": message.saga_id, "city": message.body.city, "amount": message.body.amount})
    uow.reply(Charged(message.body.amount))


def refund(message: Message[Refund], uow: UnitOfWork) -> None:
    """Pay back what a payment holds."""
    if row := uow.get(payment, message.body.payment):
        uow.put(payment, {**row, "amount": 0})
    uow.reply(Refunded())


PAYMENTS = Service(
    "payments",
    tables=TABLES,
    handlers=[
        Handler(Charge, charge, reads=lambda m: [(payment, m.saga_id)]),
        Handler(Refund, refund, reads=lambda m: [(payment, m.body.payment)]),
    ],
)


@command("trips.pay")
@dataclass(frozen=True)
class Pay:
    """Ask for a trip to be paid."""

    city: str
    amount: int


@command("trips.pay-back")
@dataclass(frozen=True)
class PayBack:
    """Ask for a payment to be paid back, by its id."""

    city: str
    payment: str


PAY = Saga[Pay](
    name="pay",
    starts=Pay,
    data=Pay,
    subject=lambda pay: pay.city,
    steps=[Step(lambda pay: Charge(pay.city, pay.amount), pivot=True, deadline=minutes(15))],
)
PAY_BACK = Saga[PayBack](
    name="pay-back",
    starts=PayBack,
    data=PayBack,
    subject=lambda pay_back: pay_back.city,
    steps=[Step(lambda pay_back: Refund(pay_back.payment), pivot=True, deadline=minutes(15))],
)
