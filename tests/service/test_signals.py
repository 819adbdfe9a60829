"""Send signals over HTTP: who may, to which command, when; and what of it reaches the coordinator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.service.rooms import Room
from tests.service.shop import FLOOR, SECRET, Sweep, Swept, Tidy, open_shop
from tests.service.test_workflows import sent

from pulsaga import BEARER, OWNER, Access, Await, DefinitionError, Handler, Saga, Service, Step, System, command
from pulsaga.delivery.messages import Context, Message, new_id
from pulsaga.delivery.tables import outbox
from pulsaga.saga.branches import StepState
from pulsaga.saga.snapshots import write_steps
from pulsaga.saga.tokens import digest_of
from pulsaga.settings import Settings
from pulsaga.web.access.callers import Role
from pulsaga.web.access.tokens import issue
from pulsaga.web.front_door.commands.projections import project_command
from pulsaga.web.front_door.tables import awaited, signal_token
from pulsaga.web.front_door.tables import command as shown_command
from pulsaga_program.preflight import check_front_door

XML = {"Content-Type": "application/xml", "Accept": "application/xml"}


@command("shop.approve")
@dataclass(frozen=True)
class Approve:
    """Say yes."""

    at_most: int = 0

    def __post_init__(self) -> None:
        if self.at_most < 0:
            raise ValueError("nobody approves less than nothing")


@command("shop.confirm")
@dataclass(frozen=True)
class Confirm:
    """Say that it was you."""


@command("shop.hurry")
@dataclass(frozen=True)
class Hurry:
    """Say that it cannot wait; whoever sends it, no caller."""


def waiting(*waits: Await[Any], name: str = "tidy-up") -> Saga[Any]:
    sweep = Step[Any](lambda _data: Sweep(), deadline=60.0)
    access = Access(start="caller", subject="shelf")
    return Saga(
        name, starts=Tidy, data=Tidy, subject=lambda tidy: str(tidy.shelf), access=access, steps=[*waits, sweep]
    )


@command("floor.send-link", replies=(Swept,))
@dataclass(frozen=True)
class SendLink:
    """Bring somebody a link."""

    sealed_token: str = ""


@command("shop.agree")
@dataclass(frozen=True)
class Agree:
    """Say yes by a link."""

    at_most: int = 0


@command("shop.tokened")
@dataclass(frozen=True)
class Tokened:
    """Say something that holds a token of another kind."""

    token: str


@command("shop.object")
@dataclass(frozen=True)
class Object:
    """Say no by a link, also before anybody has asked."""


TIDY_UP = waiting(
    Await(Confirm, deadline=60.0, by=OWNER, early=True),
    Await(Approve, deadline=60.0, by="shop:approve"),
    Await(Hurry, deadline=60.0),
    *(Step[Any](lambda _data: SendLink(), token_for=signal, deadline=60.0) for signal in (Agree, Object)),
    Await(Agree, deadline=60.0, by=BEARER),
    Await(Object, deadline=60.0, by=BEARER, early=True),
)
HALL = replace(FLOOR, handlers=[*FLOOR.handlers, Handler(SendLink, lambda _message, uow: uow.reply(Swept()))])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Room]:
    """The shop, which asks who calls."""
    made = open_shop(tmp_path, (TIDY_UP,), HALL, AUTH="", JWT_SECRET=SECRET)
    yield made
    made.close()


def by(name: str, role: Role = "caller", scope: str = "") -> dict[str, str]:
    settings = Settings.read({"JWT_SECRET": SECRET})
    return {"Authorization": f"Bearer {issue(settings, name, role, 60.0, scope.split())}"}


def told(
    shop: Room, version: int, status: str = "RUNNING", tokens: Mapping[str, str] | None = None, **states: str
) -> str:
    """Let ada's saga have moved to where these signals stand, as the coordinator tells it; return its id."""
    identifier = SAGA_ID
    steps = {
        str(number): StepState(state, signal=f"shop.{name}")  # type: ignore[arg-type]
        for number, (name, state) in enumerate(states.items())
    }
    moved = shop.runtime.system.sagas.moved(
        saga_id=identifier, workflow="tidy-up@1", subject="7", status=status, reason_code="", reason_detail="",
        started_at=1.0, moved_at=1.0, cancellable=True, steps=write_steps(steps, tokens=tokens), entries="[]",
    )  # fmt: skip
    message: Message[Any] = Message(
        moved, new_id(), "/test", "7", "", Context(identifier, actor="ada"), version=version
    )
    for table, row in project_command(message):
        with shop.projector.begin() as tx:
            if table in (awaited, shown_command, signal_token):
                tx.execute(table.delete().where(table.c.id == row["id"]))
            tx.execute(table.insert().values(row))
    return identifier


SAGA_ID = new_id()
ADA = {"name": "ada"}


@pytest.mark.parametrize(
    ("who", "signal", "status"),
    [
        ({"name": "ada"}, "confirm", 202),
        ({"name": "eve"}, "confirm", 404),
        ({"name": "eve", "role": "operator"}, "confirm", 202),
        ({"name": "eve", "role": "reader"}, "confirm", 403),
        (None, "confirm", 401),
        ({"name": "ada"}, "approve", 403),
        ({"name": "boss", "scope": "shop:approve"}, "approve", 202),
        ({"name": "boss", "scope": "shop:write"}, "approve", 403),
        (None, "approve", 401),
        ({"name": "ada"}, "hurry", 404),
        ({"name": "root", "role": "admin"}, "hurry", 404),
        ({"name": "ada"}, "wave", 404),
    ],
)
def test_who_may_send_which_signal(shop: Room, who: dict[str, str] | None, signal: str, status: int) -> None:
    """The owner, who has the right, and nobody else; of a signal that is no caller's nobody hears that it exists."""
    identifier = told(shop, 1, confirm="awaiting", approve="awaiting", hurry="awaiting")
    headers = by(**who) if who else {}
    answer = shop.http.post(f"/commands/{identifier}/signals/{signal}", json={}, headers=headers)
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert len(shop.rows(outbox)) == (status == 202)


@pytest.mark.parametrize(
    ("state", "moved", "signal", "status"),
    [
        ("awaiting", "RUNNING", "approve", 202),
        ("awaiting", "SUSPENDED", "approve", 202),
        ("done", "RUNNING", "approve", 202),
        ("done", "COMPLETED", "approve", 202),
        ("awaiting", "COMPENSATING", "approve", 409),
        ("awaiting", "COMPENSATED", "approve", 409),
        (None, "RUNNING", "approve", 409),
        (None, "RUNNING", "confirm", 202),
        ("awaiting", "COMPENSATED", "confirm", 409),
    ],
    ids=[
        "waits",
        "stuck",
        "again",
        "again-at-the-end",
        "given-up",
        "too-late",
        "early",
        "early-and-kept",
        "kept-too-late",
    ],
)
def test_when_a_signal_is_heard(shop: Room, state: str | None, moved: str, signal: str, status: int) -> None:
    """Early, twice, late: whoever sends it is told at once, as far as is known here; the saga has the last word."""
    identifier = told(shop, 1, moved, **({signal: state} if state else {}))
    headers = by("ada", scope="shop:approve")
    answer = shop.http.post(f"/commands/{identifier}/signals/{signal}", json={}, headers=headers)
    assert answer.status_code == status
    if status == 409:
        assert answer.get_json()["code"] == "not-awaited"
    assert len(shop.rows(outbox)) == (status == 202)


def test_what_is_open_is_what_was_told_last(shop: Room) -> None:
    """The newest move says it, whether the step was reached before or now."""
    told(shop, 1, approve="awaiting")
    identifier = told(shop, 2, "COMPENSATING", approve="awaiting")
    answer = shop.http.post(f"/commands/{identifier}/signals/approve", json={}, headers=by("b", scope="shop:approve"))
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("body", "at_most"),
    [({"json": {"at_most": 5}}, 5), ({"json": {}}, 0), ({"data": "<yes><at_most>5</at_most></yes>"}, 5)],
    ids=["json", "default", "xml"],
)
def test_a_signal_carries_what_was_said_by_whom_to_which_saga(shop: Room, body: dict[str, Any], at_most: int) -> None:
    """In both languages."""
    identifier = told(shop, 1, approve="awaiting")
    headers = by("boss", scope="shop:approve") | (XML if "data" in body else {})
    answer = shop.http.post(f"/commands/{identifier}/signals/approve", headers=headers, **body)
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/commands/{identifier}")
    (message,) = sent(shop, Approve)
    assert message.body == Approve(at_most)
    assert (message.saga_id, message.context.actor, message.subject) == (identifier, "boss", "7")
    assert message.id != identifier


@pytest.mark.parametrize(
    "body",
    [{"at_most": "many"}, {"at_most": -1}, {"much": 1}, [], "yes"],
    ids=["type", "own-rule", "unknown", "list", "text"],
)
def test_a_signal_that_is_wrong_goes_nowhere(shop: Room, body: Any) -> None:
    """And says which field."""
    identifier = told(shop, 1, approve="awaiting")
    answer = shop.http.post(
        f"/commands/{identifier}/signals/approve", json=body, headers=by("boss", scope="shop:approve")
    )
    assert answer.status_code in (400, 422)
    assert shop.rows(outbox) == []


# --- by a token

TOKENS = {"agree": "a" * 43, "object": "o" * 43}
GIVEN = {digest_of(token): f"shop.{name}" for name, token in TOKENS.items()}


def bear(shop: Room, signal: str, token: Any, **rest: Any) -> Any:
    return shop.http.post(f"/signals/{signal}", json={"token": token, **rest})


@pytest.mark.parametrize(
    ("signal", "token", "status"),
    [
        ("agree", TOKENS["agree"], 202),
        ("agree", TOKENS["object"], 404),
        ("agree", TOKENS["agree"][:-1], 404),
        ("agree", digest_of(TOKENS["agree"]), 404),
        ("agree", SAGA_ID, 404),
        ("agree", "\ud800", 400),
        ("agree", "", 422),
        ("agree", "x" * 201, 422),
        ("agree", None, 422),
        ("agree", 5, 422),
        ("confirm", TOKENS["agree"], 404),
        ("hurry", TOKENS["agree"], 404),
        ("object", TOKENS["object"], 202),
    ],
)
def test_who_bears_a_token_sends_its_signal_and_no_other(shop: Room, signal: str, token: Any, status: int) -> None:
    """Nobody asks who they are; what they hear does not say whom it reaches."""
    identifier = told(shop, 1, tokens=GIVEN, agree="awaiting", confirm="awaiting", hurry="awaiting")
    answer = bear(shop, signal, token)
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert len(shop.rows(outbox)) == (status == 202)
    if status == 202:
        assert answer.get_json() == {"signal": signal}
        (message,) = sent(shop, Agree if signal == "agree" else Object)
        assert (message.saga_id, message.subject) == (identifier, "7")
        assert message.context.actor == f"bearer:{digest_of(token)}"
        assert token not in repr(message)
    for word in (identifier, "7"):
        assert word not in answer.get_data(as_text=True).replace(answer.headers.get("X-Request-Id", "-"), "")


@pytest.mark.parametrize(
    ("state", "moved", "signal", "answer"),
    [
        ("awaiting", "SUSPENDED", "agree", (202, None)),
        ("done", "RUNNING", "agree", (409, "already-sent")),
        ("done", "COMPLETED", "agree", (409, "already-sent")),
        ("awaiting", "COMPENSATED", "agree", (409, "not-awaited")),
        (None, "RUNNING", "agree", (409, "not-awaited")),
        (None, "RUNNING", "object", (202, None)),
        ("awaiting", "COMPENSATED", "object", (409, "not-awaited")),
    ],
)
def test_a_token_is_good_while_its_signal_is_waited_for_and_once(
    shop: Room, state: str | None, moved: str, signal: str, answer: tuple[int, str | None]
) -> None:
    """Used, early, after the end: whoever bears it is told at once, as far as is known here."""
    told(shop, 1, moved, tokens=GIVEN, **({signal: state} if state else {}))
    said = bear(shop, signal, TOKENS[signal])
    assert (said.status_code, said.get_json().get("code")) == answer
    assert len(shop.rows(outbox)) == (answer[0] == 202)


def test_what_is_said_with_a_token_is_held_to_the_signal(shop: Room) -> None:
    """In both languages, as everywhere."""
    told(shop, 1, tokens=GIVEN, agree="awaiting")
    token = TOKENS["agree"]
    for wrong in ({"at_most": "many"}, {"much": 1}):
        assert bear(shop, "agree", token, **wrong).status_code == 422
    assert shop.rows(outbox) == []
    text = f"<agree><token>{token}</token><at_most>5</at_most></agree>"
    assert shop.http.post("/signals/agree", data=text, headers=XML).status_code == 202
    (message,) = sent(shop, Agree)
    assert message.body == Agree(5)


@pytest.mark.parametrize("identifier", [new_id(), "x", "'", "\u0000"])
def test_a_signal_to_nobody_goes_nowhere(shop: Room, identifier: str) -> None:
    """There is no command of this id."""
    for signal in ("confirm", "approve"):
        headers = by("boss", scope="shop:approve")
        assert shop.http.post(f"/commands/{identifier}/signals/{signal}", json={}, headers=headers).status_code == 404
    assert shop.rows(outbox) == []


def test_signals_are_described_where_callers_look(shop: Room) -> None:
    """The document is made of the routes: those of signals that callers may send, and of no other."""
    document = shop.http.get("/openapi.json").get_json()
    paths = [path for path in document["paths"] if "/signals/" in path]
    own = [f"/commands/{{identifier}}/signals/{name}" for name in ("approve", "confirm")]
    assert paths == [*own, "/signals/agree", "/signals/object"]


@pytest.mark.parametrize(
    ("workflows", "why"),
    [
        ([waiting(Await(Approve, deadline=60.0, by="wizard"))], "wizard: a role is one of"),
        (
            [
                waiting(Await(Approve, deadline=60.0, by=OWNER), Await(Approve, deadline=60.0, by="shop:approve")),
            ],
            "shop.approve: all that wait for it let the same callers send it",
        ),
        (
            [
                waiting(
                    Step[Any](lambda _data: SendLink(), token_for=Tokened, deadline=60.0),
                    Await(Tokened, deadline=60.0, by=BEARER),
                )
            ],
            "signal tokened: Tokened: field token: by it callers show their right",
        ),
    ],
    ids=["no-role", "two-rights", "token-twice"],
)
def test_a_signal_that_cannot_be_opened_refuses_to_start(workflows: list[Saga[Any]], why: str) -> None:
    """A slip would let in everybody, or nobody."""
    system = System("shop", services=[HALL], workflows=workflows, front_door=Service("door"))
    with pytest.raises(DefinitionError, match=why):
        check_front_door(system)
