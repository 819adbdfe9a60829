"""Services of one kind, for systems that are put together at random: each does a piece of work, and undoes it.

A command says what becomes of it: `do` is answered at once, `later` by whoever calls `finish`; `refuse` is refused,
`wait` waits for something that is down, `break` fails, and a condition passes over what is to `skip`.
This file is loaded from where its schemas and migrations lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, select

from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import Message, command, event
from pulsaga.delivery.projection import Projection
from pulsaga.delivery.tables import Id, pack_context, unpack_context
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError, Unavailable
from pulsaga.operate.verify import Check, Checks, FactTable
from pulsaga.saga.definition import Saga
from pulsaga.saga.steps import BEARER, Await, Child, Each, ForEach, Limit, Parallel, Sleep, Step, When, minutes
from pulsaga.service import Service

SYSTEM_NAME = "lab"
NAMES = ("alfa", "beta", "gama")
MOST_WORKFLOWS = 3


@dataclass(frozen=True)
class Kind:
    """One service of the pool: what it takes, tells and keeps."""

    service: Service
    do: type
    undo: type
    work: Table
    finish: Callable[[UnitOfWork], object]
    """Answers all that was left for later."""


@dataclass(frozen=True)
class Order:
    """What a workflow of the pool knows: its subject, and what becomes of each step, step by step."""

    subject: str
    plan: str


def starting(number: int) -> type:
    """Make the command that starts the n-th workflow."""

    @command(f"{SYSTEM_NAME}.start-{number}")
    @dataclass(frozen=True)
    class Start:
        """Ask for a workflow."""

        subject: str
        plan: str

    return Start


@command(f"{SYSTEM_NAME}.confirm")
@dataclass(frozen=True)
class Confirm:
    """Let a workflow go on that waits for somebody."""

    who: str


@command(f"{SYSTEM_NAME}.permit")
@dataclass(frozen=True)
class Permit:
    """Let a workflow go on whose token one bears."""


STARTS = [starting(number) for number in range(MOST_WORKFLOWS)]


def kind(name: str, listens: type | None = None) -> Kind:
    """Make a service; with an event, it hears of that one too."""

    @event(f"{name}.done")
    @dataclass(frozen=True)
    class Done:
        """A piece of work is done."""

        work: str

    @event(f"{name}.undone")
    @dataclass(frozen=True)
    class Undone:
        """A piece of work is undone, or will never be done."""

        work: str

    @command(f"{name}.do", replies=(Done,))
    @dataclass(frozen=True)
    class Do:
        """Ask for a piece of work; it may bring a token."""

        fate: str
        sealed_token: str = ""

    @command(f"{name}.undo", replies=(Undone,))
    @dataclass(frozen=True)
    class Undo:
        """Ask for a piece of work to be undone."""

        undoes: str

    tables, views = MetaData(), MetaData()
    work = Table(
        "work",
        tables,
        Column("id", Id, primary_key=True),
        Column("revision", Integer, nullable=False),
        Column("state", String, nullable=False),
        Column("context", String, nullable=False),
    )
    shown = Table("shown", views, Column("id", Id, primary_key=True), Column("version", Integer, nullable=False))

    def do(message: Message[Any], uow: UnitOfWork) -> None:
        fate, context = message.body.fate, pack_context(message.follow())
        if fate == "refuse":
            raise DomainError("refused", "it was asked to")
        if fate == "break":
            raise RuntimeError("broken")
        if fate == "wait":
            _wait_once(message.id)
        uow.put(work, {"id": message.id, "state": "waiting" if fate == "later" else "done", "context": context})
        if fate != "later":
            uow.reply(Done(message.id))

    def undo(message: Message[Any], uow: UnitOfWork) -> None:
        undoes = message.body.undoes
        if row := uow.get(work, undoes):
            uow.put(work, {**row, "state": "undone"})
        uow.reply(Undone(undoes))

    def finish(uow: UnitOfWork) -> None:
        for row in uow.claim(work, work.c.state == "waiting", work.c.id, 100):
            uow.put(work, {**row, "state": "done"})
            uow.record(Done(row["id"]), row["id"], 1, answers=row["id"], context=unpack_context(row["context"]))

    def show(message: Message[Any]) -> Iterable[tuple[Table, Any]]:
        return ((shown, {"id": message.body.work, "version": message.version}),)

    handlers: list[Handler[Any]] = [
        Handler(Do, do, reads=lambda m: [(work, m.id)]),
        Handler(Undo, undo, reads=lambda m: [(work, m.body.undoes)]),
    ]
    if listens:
        handlers.append(Handler(listens, lambda _message, _uow: None))
    service = Service(
        name,
        handlers=handlers,
        projections=[Projection(Done, show)],
        tables=tables,
        views=views,
        checks=_checks(name, work, shown),
    )
    return Kind(service, Do, Undo, work, finish)


_waited: set[str] = set()


def _wait_once(identifier: str) -> None:
    if identifier not in _waited:
        _waited.add(identifier)
        raise Unavailable("what it needs is down")


def _checks(name: str, work: Table, shown: Table) -> Checks:
    return Checks(
        facts=[
            FactTable(f"{name}_work", lambda floor: select(work.c.id, work.c.state).where(work.c.id >= floor.id)),
            FactTable(f"{name}_shown", lambda floor: select(shown.c.id).where(shown.c.id >= floor.id), side="read"),
        ],
        in_hand=f"SELECT id FROM {name}_work WHERE state = 'waiting'",
        checks=[
            Check(
                "lost",
                "work",
                "work was answered for, and is not there",
                f"SELECT answers, type FROM event WHERE type = :service || '.done' "
                f"AND answers NOT IN (SELECT id FROM {name}_work)",
            ),
            Check(
                "orphaned",
                "work",
                "work was done that no saga asked for",
                f"SELECT id, state FROM {name}_work WHERE id NOT IN (SELECT id FROM issued)",
            ),
            Check(
                "diverged",
                "work-view",
                "work that was done is not shown",
                f"SELECT answers, type FROM event WHERE type = :service || '.done' "
                f"AND id NOT IN (SELECT id FROM outbox) AND answers NOT IN (SELECT id FROM {name}_shown)",
            ),
        ],
    )


@event("gama.happened")
@dataclass(frozen=True)
class Happened:
    """Something happened, and whoever waits for it may go on."""


ALFA = kind("alfa")
BETA = kind("beta", listens=ALFA.service.projections[0].event)
GAMA = kind("gama")
KINDS = [ALFA, BETA, replace(GAMA, service=replace(GAMA.service, events=[Happened]))]


@dataclass(frozen=True)
class Piece:
    """A step of a workflow: which service of the pool does it, and whether it can be undone."""

    kind: int
    undoable: bool
    late: str = "park"
    around: str = ""
    """What stands around it: `when` a condition, `sleep` a rest before it, `retry` another try after a refusal.

    Or a `limit` above it, an `await` before it, a `token` that it brings and a signal behind it, a `child` before all;
    or branches: `parallel` and `wait` another step beside it, `each` it is taken for every item.
    """


LIMIT = Limit("scarce", at_most=1, wait=minutes(30))


def workflow(number: int, pieces: list[Piece], pivot: int | None, of: int = 0) -> Saga[Any]:
    """Make the n-th workflow of so many; its children are of the next."""
    pieces = _with_one_token(pieces)
    steps = [node for index, piece in enumerate(pieces) for node in _nodes(index, piece, is_pivot=index == pivot)]
    for index, piece in enumerate(pieces):
        if piece.around == "child" and index != pivot and number + 1 < of:
            steps.insert(0, _child(number + 1, piece))
    return Saga(
        name=f"flow-{number}", starts=STARTS[number], data=Order, subject=lambda order: order.subject, steps=steps
    )


def _with_one_token(pieces: list[Piece]) -> list[Piece]:
    """Leave the first token alone: of two nobody could say for which of two signals it is."""
    first = next((piece for piece in pieces if piece.around == "token"), None)
    return [piece if piece is first or piece.around != "token" else replace(piece, around="") for piece in pieces]


def _nodes(index: int, piece: Piece, *, is_pivot: bool) -> list[Any]:
    step = _step(index, piece, is_pivot=is_pivot)
    if piece.around == "sleep":
        return [Sleep(1), step]
    if piece.around == "await":
        return [Await(Confirm, deadline=minutes(5), early=piece.late == "ignore"), step]
    if piece.around == "token":
        return [step, Await(Permit, by=BEARER, deadline=minutes(5), early=piece.late == "ignore")]
    if is_pivot:
        return [step]
    match piece.around:
        case "when":
            return [When(lambda order: order.plan.split()[index] != "skip", [step], otherwise=[Sleep(1)])]
        case "parallel":
            return [Parallel([Sleep(1), step], _step(index + 1, piece))]
        case "wait":
            return [Parallel(step, _step(index + 1, piece), fail="wait")]
        case "each":
            return [ForEach(items, lambda item: item, [_step(index, piece)], at_most=2)]
    return [step]


def _child(number: int, piece: Piece) -> Child[Order]:
    def start(order: Order) -> Any:
        return STARTS[number](order.subject, order.plan)

    start.__annotations__["return"] = STARTS[number]
    told: Any = {"late": piece.late}
    return Child(start, deadline=minutes(5), **told)


def items(order: Order) -> list[str]:
    """List what an order has of items: what becomes of each, and its number."""
    return [f"{fate} {number}" for number, fate in enumerate(order.plan.split()[:3])]


def _step(index: int, piece: Piece, *, is_pivot: bool = False) -> Step[Any]:
    made = KINDS[piece.kind]

    def do(known: Any) -> Any:
        fates = known.item.split() if isinstance(known, Each) else known.plan.split()[index:] + ["do"]
        return made.do(fates[0])

    def undo(_known: Any, undoes: str) -> Any:
        return made.undo(undoes)

    do.__annotations__["return"], undo.__annotations__["return"] = made.do, made.undo
    undoing = undo if piece.undoable else None
    retryable = ("refused",) if piece.around == "retry" else ()
    limit = LIMIT if piece.around == "limit" else None
    token_for = Permit if piece.around == "token" else None
    told: Any = {
        "pivot": is_pivot,
        "late": piece.late,
        "retryable": retryable,
        "tries": 2,
        "limit": limit,
        "token_for": token_for,
    }
    return Step(do, undo=undoing, deadline=minutes(5), **told)
