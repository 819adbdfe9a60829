"""The desk: it writes letters, and shreds old ones."""

from dataclasses import dataclass
from typing import TypedDict

from pulsaga import DomainError, Handler, Id, Message, Rows, Service, UnitOfWork, command, event
from sqlalchemy import Column, MetaData, Text


@event("desk.letter-written")
@dataclass(frozen=True)
class LetterWritten:
    """A letter is on its way."""


@command("desk.ask-for-approval", replies=(LetterWritten,))
@dataclass(frozen=True)
class AskForApproval:
    """Write to whoever approves trips, with a link that says yes."""

    trip: str
    price: int
    sealed_token: str = ""
    """The link's token, under TOKEN_KEY."""


@command("desk.remind", replies=(LetterWritten,))
@dataclass(frozen=True)
class Remind:
    """Write to the travellers before they leave."""

    city: str


@event("desk.tidied")
@dataclass(frozen=True)
class Tidied:
    """The desk is tidy."""


@command("desk.tidy", replies=(Tidied,))
@dataclass(frozen=True)
class Tidy:
    """Tidy the desk."""

    day: str


class Letter(TypedDict):
    """A letter; the token in it stays sealed until it is sent."""

    id: str
    text: str
    saga_id: str
    sealed_token: str


TABLES = MetaData()
letter = Rows[Letter](
    "letter",
    TABLES,
    Column("id", Id, primary_key=True),
    Column("text", Text, nullable=False),
    Column("saga_id", Id, nullable=False),
    Column("sealed_token", Text, nullable=False),
)


def ask_for_approval(message: Message[AskForApproval], uow: UnitOfWork) -> None:
    """Write the letter; a duty of this service would open the token and mail it."""
    asked = message.body
    text = f"May we go to {asked.trip} for {asked.price}?"
    row: Letter = {"id": message.id, "text": text, "saga_id": message.saga_id, "sealed_token": asked.sealed_token}
    uow.put(letter, row)
    uow.reply(LetterWritten())


def remind(message: Message[Remind], uow: UnitOfWork) -> None:
    """Write a letter; refuse with `unreachable`."""
    if message.body.city.startswith("Erewhon"):
        raise DomainError("unreachable", "no letter arrives there, wherever it is")
    text = f"Do not forget {message.body.city}."
    uow.put(letter, {"id": message.id, "text": text, "saga_id": message.saga_id, "sealed_token": ""})
    uow.reply(LetterWritten())


def tidy(_message: Message[Tidy], uow: UnitOfWork) -> None:
    """Do what is done at night."""
    uow.reply(Tidied())


DESK = Service(
    "desk",
    tables=TABLES,
    keys=["TOKEN_KEY"],
    handlers=[
        Handler(AskForApproval, ask_for_approval, reads=lambda m: [(letter, m.id)]),
        Handler(Remind, remind, reads=lambda m: [(letter, m.id)]),
        Handler(Tidy, tidy),
    ],
)
