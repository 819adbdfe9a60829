"""Let answers come late, early, doubled and against each other: one outcome each, written in the command log."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, arrived, deliver, exchange, make_desk
from tests.service.stage import (
    BOTH,
    POSTGRESQL,
    Gate,
    answer,
    kinds_of,
    log_of,
    mail_sent,
    pass_time,
    settings_on,
    start_sagas,
)

from correo.messages import SendPasswordMail
from correo.service import CORREO
from generador.messages import (
    GeneratePassword,
    PasswordGenerated,
    PasswordRevoked,
    RevokePassword,
)
from generador.service import GENERADOR
from generador.tables import password
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.tables import dead_letter, failure, incident
from pulsaga.saga.steps import hours, minutes
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import wake_due_sagas
from pulsaga.settings import Settings

BEGUN = ["started", "issued"]
MAILING = [*BEGUN, "replied", "issued"]
GIVEN_UP = [*BEGUN, "timed-out", "compensating", "undo-issued"]


@pytest.fixture(params=["sqlite"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """SQLite, and PostgreSQL where two coordinators meet."""
    return settings_on(request, tmp_path)


@pytest.fixture
def coordinator(settings: Settings) -> Iterator[Desk]:
    """The coordinator's worker."""
    desk = make_desk(settings, "protools_saga")
    yield desk
    desk.runtime.write.dispose()


def end(coordinator: Desk) -> tuple[str, list[str]]:
    """Return the one saga's status and what kinds of entries its log holds."""
    (row,) = coordinator.rows(saga)
    return row["status"], kinds_of(coordinator, row["id"])


def last(coordinator: Desk, name: str) -> Wire:
    """Return the newest command of this name."""
    return coordinator.said(name)[-1]


def revoked(command: Wire) -> Delivery:
    """Confirm a compensation."""
    return answer(command, PasswordRevoked("u0", "revoked", 1.0, 2.0))


def let_the_deadline_pass(coordinator: Desk, seconds: float) -> None:
    """Go on to after a deadline and wake whoever is due."""
    pass_time(coordinator, seconds + 1)
    wake_due_sagas(coordinator.runtime).work()


def mailing(coordinator: Desk) -> Wire:
    """Bring one saga to its second step; return the SendPasswordMail."""
    (generate,) = start_sagas(coordinator, 1)
    coordinator.worker.settle([answer(generate)])
    return last(coordinator, contract_of(SendPasswordMail).name)


# --- refused


def test_the_second_wish_for_a_taken_name_ends_without_touching_the_first_ones_password(settings: Settings) -> None:
    """The loser has nothing to undo; not even a compensation may be sent that could hit the winner."""
    desks = [make_desk(settings, name) for name in ("protools_saga", "generador", "correo")]
    coordinator, generador, _ = desks
    first, second = (deliver(IssuePassword("ada", f"{name}@example.test")) for name in ("first", "second"))
    coordinator.worker.settle([first])
    exchange(desks)
    before = generador.rows(password)
    coordinator.worker.settle([second])
    exchange(desks)
    assert generador.rows(password) == before
    assert kinds_of(coordinator, second.wire.key) == [*BEGUN, "refused", "compensating", "ended"]
    assert kinds_of(coordinator, first.wire.key) == MAILING
    (loser,) = [row for row in coordinator.rows(saga) if row["id"] == second.wire.key]
    assert loser["status"] == "COMPENSATED"
    assert log_of(coordinator, loser["id"])[-2].code == "password-exists"
    assert coordinator.said(contract_of(RevokePassword).name) == []


def test_a_refusal_after_the_success_changes_nothing(coordinator: Desk) -> None:
    """The first answer to a command stands: a second one that says otherwise must not undo what was built on it."""
    (generate,) = start_sagas(coordinator, 1)
    no = GENERADOR.refused(contract_of(GeneratePassword).name, "password-exists", "says a second answer")
    coordinator.worker.settle([answer(generate)])
    coordinator.worker.settle([answer(generate, no)])
    assert end(coordinator) == ("RUNNING", MAILING)
    coordinator.worker.settle([mail_sent(last(coordinator, contract_of(SendPasswordMail).name)), answer(generate, no)])
    assert end(coordinator) == ("COMPLETED", [*MAILING, "replied", "ended"])
    assert coordinator.count(failure) == coordinator.count(incident) == 0


# --- after giving up


def test_a_compensation_that_overtakes_its_command_leaves_nothing_done(settings: Settings) -> None:
    """The command comes when its saga has ended already; it must be refused, and the saga must stay as it is."""
    coordinator, generador = make_desk(settings, "protools_saga"), make_desk(settings, "generador")
    (generate,) = start_sagas(coordinator, 1)
    let_the_deadline_pass(coordinator, minutes(15))
    undo = last(coordinator, contract_of(RevokePassword).name)
    for overtaking in (undo, generate):
        generador.worker.settle([arrived(overtaking)])
        coordinator.worker.settle([arrived(generador.broker.published[-1])])
    assert [wire.topic for wire in generador.broker.published] == [
        contract_of(GENERADOR.withdrawn).name,
        contract_of(GENERADOR.refused).name,
    ]
    assert generador.count(password) == 0
    assert end(coordinator) == ("COMPENSATED", [*GIVEN_UP, "undone", "ended"])


def test_a_success_after_the_deadline_is_noted_and_undone(coordinator: Desk) -> None:
    """Its compensation is on the way and names its command: the success must not make the saga go on."""
    (generate,) = start_sagas(coordinator, 1)
    let_the_deadline_pass(coordinator, minutes(15))
    coordinator.worker.settle([answer(generate)])
    coordinator.worker.settle([answer(generate)])
    assert end(coordinator) == ("COMPENSATING", [*GIVEN_UP, "late"])
    assert log_of(coordinator, generate.key)[-1].code == "compensate"
    coordinator.worker.settle([revoked(last(coordinator, contract_of(RevokePassword).name))])
    assert end(coordinator) == ("COMPENSATED", [*GIVEN_UP, "late", "undone", "ended"])
    assert coordinator.said(contract_of(SendPasswordMail).name) == []


def test_a_success_after_the_deadline_of_the_pivot_completes(coordinator: Desk) -> None:
    """A mail cannot be taken back, so its saga waits for an operator, or for the answer that comes after all."""
    mail = mailing(coordinator)
    let_the_deadline_pass(coordinator, hours(1))
    assert end(coordinator) == ("SUSPENDED", [*MAILING, "timed-out", "suspended"])
    assert [(row["kind"], row["subject"]) for row in coordinator.rows(incident)] == [("suspended", mail.key)]
    coordinator.worker.settle([mail_sent(mail)])
    assert end(coordinator) == ("COMPLETED", [*MAILING, "timed-out", "suspended", "resumed", "replied", "ended"])


@pytest.mark.parametrize("ended", [False, True])
def test_a_success_after_compensation_began_follows_its_policy(coordinator: Desk, ended: bool) -> None:
    """The mail was refused and then sent: `ignore` says so in the log, once, and goes on compensating."""
    mail = mailing(coordinator)
    no = CORREO.refused(contract_of(SendPasswordMail).name, "mailbox-refused", "550")
    coordinator.worker.settle([answer(mail, no)])
    confirmed = revoked(last(coordinator, contract_of(RevokePassword).name))
    both = [mail_sent(mail), mail_sent(mail)]
    for batch in ([confirmed], both) if ended else (both, [confirmed]):
        coordinator.worker.settle(batch)
    undone, late = ["undone", "ended"], ["late"]
    tail = [*undone, *late] if ended else [*late, *undone]
    assert end(coordinator) == ("COMPENSATED", [*MAILING, "refused", "compensating", "undo-issued", *tail])
    assert [entry.code for entry in log_of(coordinator, mail.key) if entry.kind == "late"] == ["ignore"]


# --- early


@pytest.fixture
def next_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the coordinator's next command ids be known beforehand."""
    ids = [new_id() for _ in range(10)]
    given = iter(ids)
    for place in ("coordinator", "moving"):
        monkeypatch.setattr(f"pulsaga.saga.{place}.new_id", lambda: next(given))
    return ids


def early(wish: Delivery, command_id: str) -> Delivery:
    """Reply to a command that nobody has seen yet."""
    body = PasswordGenerated("ada", "issued", 1.0, 1.0, "sealed")
    return deliver(body, saga_id=wish.wire.key, command_id=command_id, version=1)


def heals(coordinator: Desk) -> bool:
    """Give the failures their turn; tell whether the saga has gone on and nothing is left of the trouble."""
    (kept,) = coordinator.rows(failure)
    assert (kept["attempts"], "LookupError: no saga" in kept["error"]) == (1, True)
    coordinator.make_due()
    coordinator.worker.retry_failures()
    assert coordinator.count(failure) == coordinator.count(dead_letter) == coordinator.count(incident) == 0
    return end(coordinator) == ("RUNNING", MAILING)


@pytest.mark.parametrize("together", [False, True])
def test_a_reply_that_overtakes_its_start_is_kept_and_heals(
    coordinator: Desk, next_ids: list[str], together: bool
) -> None:
    """MassTransit#3807: the reply finds no saga, in a batch before or in the same; it is tried again, not lost."""
    wish = deliver(IssuePassword("u0", "u0@example.test"))
    reply = early(wish, next_ids[0])
    for batch in [[reply, wish]] if together else [[reply], [wish]]:
        coordinator.worker.settle(batch)
    assert end(coordinator) == ("RUNNING", BEGUN)
    assert heals(coordinator)


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_a_reply_that_comes_while_its_start_is_being_committed_heals(coordinator: Desk, next_ids: list[str]) -> None:
    """MassTransit#3807, at another coordinator: it neither waits for the start nor takes the reply for poison."""
    rival = make_desk(coordinator.runtime.settings, "protools_saga")
    wish, gate = deliver(IssuePassword("u0", "u0@example.test")), Gate(coordinator)
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(coordinator.worker.settle, [wish])
        assert gate.reached.wait(PATIENCE_S)
        rival.worker.settle([early(wish, next_ids[0])])
        assert (rival.count(saga), rival.count(failure)) == (0, 1)
        gate.open.set()
        starting.result(PATIENCE_S)
    assert heals(rival)


def test_an_early_reply_that_comes_again_in_time_is_not_done_twice_by_its_retry(
    coordinator: Desk, next_ids: list[str]
) -> None:
    """NServiceBus#4993: the redelivery heals first, then the deferred retry of the same id meets the inbox."""
    wish = deliver(IssuePassword("u0", "u0@example.test"))
    reply = early(wish, next_ids[0])
    for batch in ([reply], [wish], [reply]):
        coordinator.worker.settle(batch)
    assert end(coordinator) == ("RUNNING", MAILING)
    assert heals(coordinator)
    assert len(coordinator.said(contract_of(SendPasswordMail).name)) == 1


# --- doubled


@pytest.mark.parametrize("same_id", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_the_same_reply_twice_moves_its_saga_once(coordinator: Desk, same_id: bool, together: bool) -> None:
    """Redelivered or said anew under another id, in one batch or two: one next command, one line in the log."""
    (generate,) = start_sagas(coordinator, 1)
    first = answer(generate)
    replies = [first, first if same_id else answer(generate)]
    for batch in [replies] if together else [[reply] for reply in replies]:
        coordinator.worker.settle(batch)
    assert end(coordinator) == ("RUNNING", MAILING)
    assert len(coordinator.said(contract_of(SendPasswordMail).name)) == 1


def test_a_whole_conversation_said_twice_ends_as_if_said_once(settings: Settings) -> None:
    """Every message of a saga arrives twice, in one batch and then once more."""
    coordinator = make_desk(settings, "protools_saga")
    wish = deliver(IssuePassword("u0", "u0@example.test"))
    coordinator.worker.settle([wish, wish])
    reply = answer(last(coordinator, contract_of(GeneratePassword).name))
    coordinator.worker.settle([wish, reply, reply])
    sent = mail_sent(last(coordinator, contract_of(SendPasswordMail).name))
    coordinator.worker.settle([sent, reply, wish, sent])
    coordinator.worker.settle([sent, reply, wish])
    assert end(coordinator) == ("COMPLETED", [*MAILING, "replied", "ended"])


# --- a timeout as the reply lands (MassTransit#525)


def test_a_reply_in_the_turn_before_the_timeout_wins(coordinator: Desk) -> None:
    """MassTransit#525: the deadline was that of the first step, which is done when its turn comes."""
    (generate,) = start_sagas(coordinator, 1)
    pass_time(coordinator, minutes(15) + 1)
    coordinator.worker.settle([answer(generate)])
    wake_due_sagas(coordinator.runtime).work()
    assert end(coordinator) == ("RUNNING", MAILING)


def test_a_timeout_in_the_turn_before_the_reply_wins(coordinator: Desk) -> None:
    """MassTransit#525, the other way round: the reply is late by a moment, and late is late."""
    (generate,) = start_sagas(coordinator, 1)
    let_the_deadline_pass(coordinator, minutes(15))
    coordinator.worker.settle([answer(generate)])
    wake_due_sagas(coordinator.runtime).work()
    assert end(coordinator) == ("COMPENSATING", [*GIVEN_UP, "late"])


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_a_timeout_passes_over_a_saga_whose_reply_is_being_handled(coordinator: Desk) -> None:
    """MassTransit#525, at two coordinators at once: the timer sees the row locked, and later the step done."""
    rival = make_desk(coordinator.runtime.settings, "protools_saga")
    (generate,) = start_sagas(coordinator, 1)
    gate = Gate(coordinator)
    with ThreadPoolExecutor() as pool:
        replying = pool.submit(coordinator.worker.settle, [answer(generate)])
        assert gate.reached.wait(PATIENCE_S)
        let_the_deadline_pass(rival, minutes(15))
        gate.open.set()
        replying.result(PATIENCE_S)
    wake_due_sagas(rival.runtime).work()
    assert end(coordinator) == ("RUNNING", MAILING)
    assert rival.said(contract_of(RevokePassword).name) == []


@pytest.mark.parametrize("settings", BOTH, indirect=True)
def test_a_reply_waits_for_a_timeout_that_is_being_handled_and_is_late(coordinator: Desk) -> None:
    """MassTransit#525, the timer first: the reply must see the saga as the timer left it, not as it was before."""
    rival = make_desk(coordinator.runtime.settings, "protools_saga")
    (generate,) = start_sagas(coordinator, 1)
    gate = Gate(rival)
    with ThreadPoolExecutor() as pool:
        waking = pool.submit(let_the_deadline_pass, rival, minutes(15))
        assert gate.reached.wait(PATIENCE_S)
        replying = pool.submit(coordinator.worker.settle, [answer(generate)])
        gate.open.set()
        waking.result(PATIENCE_S)
        replying.result(PATIENCE_S)
    assert end(coordinator) == ("COMPENSATING", [*GIVEN_UP, "late"])
    assert coordinator.said(contract_of(SendPasswordMail).name) == []
