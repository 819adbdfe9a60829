"""Put one poisonous message among a hundred good ones: it ends in front of an operator, they never notice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import replace
from math import ceil, log2
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Acks, Desk, deliver, make_desk
from tests.service.stage import BOTH, POSTGRESQL, Bill, counted, settings_on

from generador.handlers import generate_password
from generador.messages import GeneratePassword, PasswordGenerated, RevokePassword
from generador.projections import project_password
from generador.service import GENERADOR
from generador.tables import password, password_view
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.projection import Projection, Projector
from pulsaga.delivery.tables import dead_letter, failure, incident
from pulsaga.settings import Settings
from system import SYSTEM

GOOD = 100
ATTEMPTS = 3
"""FAILURE_ATTEMPTS of these tests."""
POISON = "poison"
A_LETTER = GeneratePassword(POISON)


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """SQLite always, PostgreSQL too."""
    return settings_on(request, tmp_path)


# --- what is wrong with it


def with_properties(delivery: Delivery, **properties: str) -> Delivery:
    """Change CloudEvents attributes (without their `ce_`) of a delivery."""
    changed = {f"ce_{name}": value for name, value in properties.items()}
    wire = delivery.wire._replace(properties={**delivery.wire.properties, **changed})
    return delivery._replace(wire=wire)


def with_body(delivery: Delivery, body: bytes) -> Delivery:
    """Change the bytes of a delivery."""
    return delivery._replace(wire=delivery.wire._replace(body=body))


SPOILED: dict[str, tuple[Delivery, str]] = {
    "corrupt bytes": (with_body(deliver(A_LETTER), b"\xff\xff\xff\xff"), "Undecodable"),
    "no bytes": (with_body(deliver(A_LETTER), b""), "Undecodable"),
    "unknown type": (with_properties(deliver(A_LETTER), type="generador.no-such-thing"), "is unknown here"),
    "no schema": (deliver(A_LETTER)._replace(schema=""), "names no schema version"),
    "NUL in a string": (deliver(GeneratePassword("poi\0son")), "NUL"),
    "no id": (with_properties(deliver(A_LETTER), id=""), "UUIDv7"),
    "NUL in its id": (with_properties(deliver(A_LETTER), id="\0" * 36), "UUIDv7"),
    "handler raises": (deliver(A_LETTER), "RuntimeError: poison"),
    "database refuses": (deliver(GeneratePassword("refused")), "IntegrityError"),
}
"""What can be wrong with a message, and a word of the reason that an operator must read."""
ON_POSTGRESQL = ("NUL in a string", "database refuses")
CASES: list[Any] = [("sqlite", kind) for kind in SPOILED]
CASES += [pytest.param("postgresql", kind, marks=pytest.mark.postgres) for kind in ON_POSTGRESQL]


def poisonous(message: Any, uow: Any) -> None:
    """Handle as generador does, but for two names that break it, each at another place."""
    generate_password(message, uow)
    if message.body.username == POISON:
        raise RuntimeError(POISON)
    if message.body.username == "refused":
        uow.put(password, {**uow.get(password, "refused"), "status": None})


HANDLER = replace(GENERADOR.handling[GeneratePassword], function=poisonous)
POISONED = {**GENERADOR.handling, GeneratePassword: HANDLER}


def around(*bad: Delivery) -> list[Delivery]:
    """Put what is bad into the middle of a hundred good commands."""
    good = [deliver(GeneratePassword(f"u{new_id()}")) for _ in range(GOOD)]
    return [*good[: GOOD // 2], *bad, *good[GOOD // 2 :]]


def has_buried_once(desk: Desk) -> str:
    """Check that there is one dead letter after exactly N attempts, with one incident; return its reason."""
    (letter,) = desk.rows(dead_letter)
    assert letter["attempts"] == ATTEMPTS
    assert [row["kind"] for row in desk.rows(incident)] == ["dead-letter"]
    assert desk.count(failure) == 0
    return str(letter["error"])


# --- exactly once, with its reason


@pytest.mark.parametrize(("settings", "kind"), CASES, indirect=["settings"])
def test_poison_is_one_dead_letter_with_its_reason_however_often_it_comes(settings: Settings, kind: str) -> None:
    """Redeliveries and re-sends are not attempts: they must neither hasten the end nor call the operator twice."""
    poison, reason = SPOILED[kind]
    desk = make_desk(settings, "generador", POISONED)
    for attempts in range(1, ATTEMPTS):
        desk.worker.settle([poison])
        desk.worker.settle([poison, poison])
        assert [row["attempts"] for row in desk.rows(failure)] == [attempts]
        desk.make_due()
        desk.worker.retry_failures()
    desk.worker.settle([poison, poison])
    assert reason in has_buried_once(desk)
    assert desk.count(password) == 0


@pytest.mark.parametrize("kind", ["handler raises", "database refuses"])
def test_a_command_that_dies_is_answered_under_one_id(settings: Settings, kind: str) -> None:
    """The saga must hear of it once, and again whenever the command is sent again: its first answer may be lost."""
    poison, _ = SPOILED[kind]
    desk = make_desk(settings, "generador", POISONED)
    desk.worker.settle([poison])
    desk.retry_until_buried()
    desk.worker.settle([poison])
    first, again = desk.said(contract_of(GENERADOR.failed).name)
    assert first == again
    assert first.properties["ce_commandid"] == poison.wire.properties["ce_id"]


# --- the neighbours


def bill_of(desk: Desk, batch: list[Delivery]) -> Bill:
    """Settle a batch and say what it cost."""
    with counted(desk.runtime.write) as bill:
        desk.worker.settle(batch)
    return bill


@pytest.mark.parametrize(("settings", "kind"), CASES, indirect=["settings"])
def test_a_hundred_good_messages_flow_in_the_same_batch_as_poison(settings: Settings, kind: str) -> None:
    """Who shares a topic with a broken message gets its password now, at the cost of a bounded number of commits."""
    desk = make_desk(settings, "generador", POISONED)
    without = bill_of(desk, around())
    bill = bill_of(desk, around(SPOILED[kind][0]))
    assert desk.count(password) == 2 * GOOD
    assert len(desk.said(contract_of(PasswordGenerated).name)) == 2 * GOOD
    assert len(desk.acks.acked) == 2 * GOOD + 1
    assert bill.commits <= without.commits + 2 * ceil(log2(GOOD))
    assert bill.rollbacks <= 2 * ceil(log2(GOOD)) + 2
    report = (
        f"{kind}: commits {without.commits} -> {bill.commits}, statements {without.statements} -> {bill.statements}"
    )
    print(f"{kind}: {report}")  # noqa: T201 - the figure is the point: poison's price for its neighbours
    again = bill_of(desk, around(SPOILED[kind][0]))
    assert again.commits <= bill.commits


def test_only_a_row_that_the_database_refuses_costs_its_neighbours_anything(settings: Settings) -> None:
    """What fails in Python is undone in Python: its neighbours' batch stays one transaction of as many statements."""
    desk = make_desk(settings, "generador", POISONED)
    without = bill_of(desk, around())
    bill = bill_of(desk, around(SPOILED["handler raises"][0], SPOILED["corrupt bytes"][0]))
    assert (bill.commits, bill.rollbacks) == (without.commits, without.rollbacks) == (1, 0)
    assert bill.statements <= without.statements + 5  # dead letters and failures are asked, two failure rows written


def test_retries_of_poison_do_not_hold_up_the_channel(settings: Settings) -> None:
    """Each due failure runs alone, in transactions of its own."""
    desk = make_desk(settings, "generador", POISONED)
    poisons = [poison for poison, _ in SPOILED.values()]
    desk.worker.settle(poisons)
    for _ in range(ATTEMPTS):
        desk.worker.settle(around(*poisons))
        desk.make_due()
        desk.worker.retry_failures()
    assert desk.count(password) == ATTEMPTS * GOOD
    assert desk.count(dead_letter) == len({row["subject"] for row in desk.rows(incident)}) == len(poisons)


# --- refused instead of buried


def test_an_expired_command_is_refused_once_among_good_ones(settings: Settings) -> None:
    """It is nobody's fault and no failure; a redelivery repeats the answer, not the incident."""
    expired = deliver(A_LETTER, expires_at="2026-01-02T00:00:00.000Z")
    desk = make_desk(settings, "generador", POISONED)
    for _ in range(3):
        desk.worker.settle(around(expired))
    assert desk.count(password) == 3 * GOOD
    assert [row["code"] for row in desk.rows(incident)] == ["expired"]
    assert len({wire.properties["ce_id"] for wire in desk.said(contract_of(GENERADOR.refused).name)}) == 1
    assert desk.count(failure) == desk.count(dead_letter) == 0


@pytest.mark.parametrize("apart", [True, False])
def test_another_body_under_a_known_id_is_refused_among_good_ones(settings: Settings, apart: bool) -> None:
    """The first body stands, whether the second comes in the same batch or a later one."""
    identifier = new_id()
    first, second = (deliver(GeneratePassword(name), identifier=identifier) for name in ("ada", "eve"))
    desk = make_desk(settings, "generador", POISONED)
    for batch in [around(first), around(second)] if apart else [around(first, second)]:
        desk.worker.settle(batch)
    names = {row["username"] for row in desk.rows(password)}
    assert ("ada" in names, "eve" in names) == (True, False)
    assert [(row["code"], row["subject"]) for row in desk.rows(incident)] == [("same-id-other-body", identifier)]
    assert desk.count(failure) == desk.count(dead_letter) == 0
    assert len(names) == (2 * GOOD if apart else GOOD) + 1


def test_a_conflict_that_is_redelivered_is_no_news(settings: Settings) -> None:
    """Redelivery is normal: an operator must not be called again for what is known."""
    identifier = new_id()
    first, second = (deliver(GeneratePassword(name), identifier=identifier) for name in ("ada", "eve"))
    desk = make_desk(settings, "generador", POISONED)
    for delivery in (first, second, second):
        desk.worker.settle([delivery])
    assert desk.count(incident) == 1


def test_another_body_under_the_id_of_a_failure_is_not_lost_without_a_word(settings: Settings) -> None:
    """What waits to be retried owns its id: a second body under it is a conflict and not a redelivery."""
    identifier = new_id()
    desk = make_desk(settings, "generador", POISONED)
    desk.worker.settle([deliver(A_LETTER, identifier=identifier)])
    desk.worker.settle([deliver(GeneratePassword("refused"), identifier=identifier)])
    assert [row["code"] for row in desk.rows(incident)] == ["same-id-other-body"]


# --- poison that reaches further


def test_bytes_of_another_schema_are_not_taken_for_a_command(settings: Settings) -> None:
    """Avro reads a longer record as a shorter one; who would act on it acts on something that nobody said."""
    desk = make_desk(settings, "generador", POISONED)
    wrong = with_body(deliver(A_LETTER), CODEC.encode(IssuePassword("ada", "ada@example.test")))
    desk.worker.settle(around(wrong))
    desk.retry_until_buried()
    assert "Undecodable" in has_buried_once(desk)
    assert desk.count(password) == GOOD


def settles(desk: Desk, batch: list[Delivery]) -> bool:
    """Settle a batch in a thread; tell whether it was done before patience ended."""
    with ThreadPoolExecutor() as pool:
        settled = pool.submit(desk.worker.settle, batch)
        try:
            settled.result(timeout=PATIENCE_S)
        except TooLate:
            desk.worker.stop()
            return False
    return True


@pytest.mark.parametrize("attribute", ["id", "correlationid"])
@pytest.mark.parametrize("end", ["-zzzz-zzzzzzzzzzzz", "-8000-" + "\0" * 12], ids=["letters", "NUL"])
def test_an_id_that_only_begins_like_one_stops_nobody(settings: Settings, attribute: str, end: str) -> None:
    """One message with a strange id must not hold up a topic: not for a second, let alone for ever."""
    desk = make_desk(settings, "generador", POISONED)
    strange = with_properties(deliver(GeneratePassword("eve")), **{attribute: new_id()[:18] + end})
    assert settles(desk, around(strange))
    desk.retry_until_buried()
    assert desk.count(password) == GOOD
    assert "UUIDv7" in has_buried_once(desk)


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_an_undo_of_what_is_no_id_stops_nobody(settings: Settings) -> None:
    """The inbox is asked for whatever a body says it undoes, and PostgreSQL refuses to look for what is no UUID."""
    desk = make_desk(settings, "generador", POISONED)
    assert settles(desk, around(deliver(RevokePassword("ada", undoes="whatever it was"))))
    desk.retry_until_buried()
    assert desk.count(password) == GOOD
    has_buried_once(desk)


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_naming_the_rows_to_read_may_fail_for_one_message_alone(settings: Settings, error: type[Exception]) -> None:
    """`reads` is the handler's own code and sees the same strange messages."""

    def reads(message: Any) -> Any:
        if message.body.username == POISON:
            raise error("cannot say")
        return GENERADOR.handling[GeneratePassword].reads(message)

    desk = make_desk(
        settings, "generador", {GeneratePassword: Handler(GeneratePassword, generate_password, reads=reads)}
    )
    desk.worker.settle(around(deliver(A_LETTER)))
    desk.retry_until_buried()
    assert desk.count(password) == GOOD
    assert "cannot say" in has_buried_once(desk)


# --- the read side


def projector_of(desk: Desk, settings: Settings) -> tuple[Projector, Callable[[Any], list[Any]]]:
    """Make generador's projector over its read database, and a way to read a table there."""
    service = SYSTEM["generador"]
    engine = open_database(settings, "generador", "read", "projector")
    reader = Reader(service.projecting, CODEC, desk.broker)

    def rows(table: Any) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(table.select()).mappings())

    return Projector(service.projecting, reader, engine, Acks(), settings.batch_limit), rows


def generated(username: str, version: int = 1) -> Delivery:
    """Tell that a password was generated."""
    return deliver(PasswordGenerated(username, "issued", 1.0, 1.0, "sealed"), command_id=new_id(), version=version)


def shown_beside(settings: Settings, poison: Delivery) -> tuple[int, int]:
    """Project good events around poison, twice; return how many are shown, and how many failures were kept."""
    projector, rows = projector_of(make_desk(settings, "generador"), settings)
    good = [generated(f"u{i}") for i in range(GOOD)]
    for _ in range(2):
        projector.settle([*good[: GOOD // 2], poison, *good[GOOD // 2 :]])
    return len({row["username"] for row in rows(password_view)} - {POISON}), len(rows(failure))


@pytest.mark.parametrize(
    "poison",
    [with_body(generated(POISON), b"\xff\xff"), with_properties(generated(POISON), version="")],
    ids=["bytes", "no version"],
)
def test_an_event_that_cannot_be_read_is_kept_and_its_neighbours_are_shown(
    settings: Settings, poison: Delivery
) -> None:
    """The read side meets the same poison: what it cannot show must not hide what it can."""
    assert shown_beside(settings, poison) == (GOOD, 1)


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_an_event_that_the_read_database_refuses_is_kept_and_its_neighbours_are_shown(settings: Settings) -> None:
    """Only the statement shows it: the batch is halved until the guilty event stands alone."""
    assert shown_beside(settings, generated(POISON, version=2**31)) == (GOOD, 1)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_version_that_no_column_holds_stops_no_projector(settings: Settings) -> None:
    """The same on SQLite, whose driver refuses a number before its database sees it."""
    assert shown_beside(settings, generated(POISON, version=2**64)) == (GOOD, 1)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_could_not_be_projected_is_projected_once_that_is_mended(settings: Settings) -> None:
    """A read model that stays behind for good tells its users yesterday's truth."""
    broken = [True]

    def project(message: Any) -> Any:
        if broken:
            raise RuntimeError("not yet")
        return project_password(message)

    service = SYSTEM["generador"]
    desk = make_desk(settings, "generador")
    engine = open_database(settings, "generador", "read", "projector")
    reader = Reader(service.projecting, CODEC, desk.broker)
    projector = Projector({PasswordGenerated: Projection(PasswordGenerated, project)}, reader, engine, Acks(), 10)
    projector.settle([generated("ada")])
    projector.retry_failures()
    with engine.connect() as connection:
        assert [row.attempts for row in connection.execute(failure.select())] == [2]
    broken.clear()
    with engine.begin() as tx:
        tx.execute(failure.update().values(due_at=0))
    projector.retry_failures()
    with engine.connect() as connection:
        assert [row.username for row in connection.execute(password_view.select())] == ["ada"]
        assert connection.execute(failure.select()).all() == []
