"""Sign up, log in, choose other passwords and addresses: usuarios on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, deliver, make_desk
from tests.service.rooms import Room, eventually, keep_password, room
from tests.service.stage import BOTH, POSTGRESQL, pass_time, settings_on
from tests.service.web import serving

from correo.messages import PasswordMailSent
from generador.tables import password as vault_password
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import event, unpack
from pulsaga.errors import DomainError
from pulsaga.sealing import unseal_text
from pulsaga.web import Answered, Guesses, Problem, Rate, TooManyAttempts
from pulsaga.web.access import guesses
from system import SYSTEM
from usuarios.accounts import Accounts, Session, Wrong
from usuarios.messages import AdoptEmail, DropProposal, ProposeEmail, ResetIssued, UserChanged
from usuarios.tables import issued, reset, usuario

ADA = {
    "username": "ada",
    "email": "ada@example.test",
    "first_name": "Ada",
    "last_name": "L",
    "phone": "",
    "password": "correct horse",
}
BOB = {**ADA, "username": "bob", "email": "bob@example.test"}
HOME = "10.1.1.1"


@pytest.fixture(params=BOTH)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = make_desk(settings_on(request, tmp_path), "usuarios", system=SYSTEM)
    yield made
    made.runtime.write.dispose()


@pytest.fixture
def accounts(desk: Desk) -> Accounts:
    return Accounts(desk.runtime)


def user(desk: Desk, username: str = "ada") -> Any:
    (row,) = (row for row in desk.rows(usuario) if row["username"] == username)
    return row


def told(desk: Desk) -> list[UserChanged]:
    """Return what was told of users, in order."""
    wires = [unpack(row["wire"]) for row in sorted(desk.rows(event), key=lambda row: row["id"])]
    return [desk.read(UserChanged, wire) for wire in wires if wire.topic == "usuarios.user-changed"]


# --- sign-up


def test_who_signs_up_is_there_and_told_of(desk: Desk, accounts: Accounts) -> None:
    """In one transaction; the password is nowhere, and what is told says nothing of it."""
    session = accounts.sign_up(ADA)
    row = user(desk)
    assert (row["id"], row["version"]) == (session.user["id"], 1)
    assert row["password_hash"].startswith("$argon2id$")
    (state,) = told(desk)
    assert (state.user_id, state.username, state.email, state.admin) == (row["id"], "ada", "ada@example.test", False)
    kept = repr([desk.rows(table) for table in (usuario, event)])
    assert ADA["password"] not in kept
    assert row["password_hash"] not in repr(desk.rows(event))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"email": "other@example.test"}, "username-taken"),
        ({"username": "bob"}, "email-taken"),
        ({"username": "bob", "email": "ADA@Example.test"}, "email-taken"),
    ],
)
def test_names_and_addresses_are_one_users(desk: Desk, accounts: Accounts, change: Any, code: str) -> None:
    """An address however it is written; the second leaves nothing."""
    accounts.sign_up(ADA)
    with pytest.raises(DomainError) as no:
        accounts.sign_up({**ADA, **change})
    assert no.value.code == code
    assert (len(desk.rows(usuario)), len(told(desk))) == (1, 1)


def test_of_those_who_sign_up_at_once_with_one_name_one_is_kept(desk: Desk, accounts: Accounts) -> None:
    """The others hear why, not that something broke."""
    outcomes: list[str] = []

    def sign_up() -> None:
        try:
            accounts.sign_up(ADA)
            outcomes.append("kept")
        except DomainError as no:
            outcomes.append(no.code)

    threads = [threading.Thread(target=sign_up) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(outcomes) == ["kept", *["username-taken"] * 5]
    assert len(desk.rows(usuario)) == 1


# --- log-in


@pytest.mark.parametrize("name", ["ada", "ada@example.test", "Ada@EXAMPLE.test"])
def test_a_user_logs_in_by_name_or_address(accounts: Accounts, name: str) -> None:
    """And with the right password only."""
    accounts.sign_up(ADA)
    assert accounts.log_in(name, ADA["password"], None, HOME).user["username"] == "ada"
    with pytest.raises(Wrong):
        accounts.log_in(name, "incorrect horse", None, HOME)


def test_guesses_are_slowed_and_the_owner_is_not(
    desk: Desk, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was right from where they are is kept out by no stranger; for unknown names it is the same."""
    monkeypatch.setattr(guesses, "OF_SOURCE", Rate(3600.0, 10))
    accounts.sign_up(ADA)
    accounts.log_in("ada", ADA["password"], None, HOME)
    for name in ("ada", "nobody"):
        tried = [outcome(accounts, name, "wrong", "10.6.6.6") for _ in range(12)]
        assert tried == ["wrong"] * 10 + ["too many"] * 2
    assert outcome(accounts, "ada", ADA["password"], HOME) == "in"
    assert outcome(accounts, "ada", ADA["password"], "10.6.6.6") == "too many"


def outcome(accounts: Accounts, name: str, password: str, address: str) -> str:
    try:
        accounts.log_in(name, password, None, address)
    except Wrong:
        return "wrong"
    except TooManyAttempts:
        return "too many"
    return "in"


def test_who_may_not_log_in_any_more_does_not(desk: Desk, accounts: Accounts) -> None:
    """As if they were not there; and every token of before is over, which is told."""
    session = accounts.sign_up(ADA)
    accounts.mark(session.user["id"], "active", False, "boss")
    with pytest.raises(Wrong):
        accounts.log_in("ada", ADA["password"], None, HOME)
    first, second = told(desk)
    assert (first.active, second.active) == (True, False)
    assert second.sessions_not_before > first.created_at


def test_a_mark_that_is_there_changes_nothing(desk: Desk, accounts: Accounts) -> None:
    """Sessions end when something changes."""
    session = accounts.sign_up(ADA)
    accounts.mark(session.user["id"], "active", True, "boss")
    assert len(told(desk)) == 1
    with pytest.raises(DomainError, match="no such user"):
        accounts.mark(new_id(), "admin", True, "boss")


# --- another password


def test_who_knows_the_password_chooses_another_and_ends_every_session(desk: Desk, accounts: Accounts) -> None:
    """The session that is given with it is good."""
    session = accounts.sign_up(ADA)
    with pytest.raises(Wrong):
        accounts.change_password(session.user["id"], "incorrect horse", "another horse", HOME)
    accounts.change_password(session.user["id"], ADA["password"], "another horse", HOME)
    assert told(desk)[-1].sessions_not_before == user(desk)["sessions_not_before"] > user(desk)["created_at"]
    assert outcome(accounts, "ada", ADA["password"], HOME) == "wrong"
    assert outcome(accounts, "ada", "another horse", HOME) == "in"


def link(desk: Desk) -> str:
    """Return the newest token that was mailed to ada, as correo opens it."""
    wires = [unpack(row["wire"]) for row in desk.rows(event)]
    bodies = [desk.read(ResetIssued, wire) for wire in wires if wire.topic == "usuarios.reset-issued"]
    newest = max(bodies, key=lambda body: body.expires_at)
    return unseal_text(newest.sealed_token, desk.runtime.settings.keys("RESET_KEY"), newest.username)


def test_a_forgotten_password_is_replaced_by_its_link_once(desk: Desk, accounts: Accounts) -> None:
    """The link is kept as a hash; nothing is said about whether an address is known."""
    accounts.sign_up(ADA)
    accounts.forget("nobody@example.test")
    assert desk.rows(reset) == []
    accounts.forget("ada@example.test")
    accounts.forget("ada@example.test")  # a second one at once would only fill the mailbox
    (row,) = desk.rows(reset)
    token = link(desk)
    assert token not in repr(desk.rows(reset)) + repr(desk.rows(event))
    assert accounts.reset(token, "another horse").user["username"] == "ada"
    assert outcome(accounts, "ada", "another horse", HOME) == "in"
    for used in (token, "unknown"):
        with pytest.raises(DomainError) as no:
            accounts.reset(used, "a third horse")
        assert no.value.code == ("link-used" if used == token else "unknown-token")
    assert row["expires_at"] - row["created_at"] == 3600


def test_a_link_is_no_good_after_its_time_or_after_another_password(desk: Desk, accounts: Accounts) -> None:
    """Whoever finds an old mail finds nothing."""
    session = accounts.sign_up(ADA)
    accounts.forget("ada@example.test")
    token = link(desk)
    accounts.change_password(session.user["id"], ADA["password"], "another horse", HOME)
    with pytest.raises(DomainError, match="another password"):
        accounts.reset(token, "a third horse")
    pass_time(desk, 120)
    accounts.forget("ada@example.test")
    fresh = link(desk)
    assert fresh != token
    pass_time(desk, 3601)
    with pytest.raises(DomainError, match="expired"):
        accounts.reset(fresh, "a third horse")


# --- a password that was issued


class Issued:
    """A vault beside usuarios, which has issued a password for ada."""

    def __init__(self, desk: Desk, vault: Room) -> None:
        self.desk, self.vault = desk, vault
        keep_password(vault, "ada", "an-issued-password", "token")
        with vault.runtime.write.connect() as connection:
            self.saga_id = connection.execute(select(vault_password.c.saga_id)).scalar_one()

    def mailed_to(self, email: str, saga_id: str = "", sent_at: float = 1.0) -> None:
        sent = PasswordMailSent(new_id(), "ada", email, "sent", 1, 0.0, sent_at)
        self.desk.worker.settle([deliver(sent, saga_id=saga_id or self.saga_id)])


@pytest.fixture
def vault(desk: Desk, tmp_path: Path) -> Iterator[Issued]:
    made = room("generador", tmp_path / "vault", INTERNAL_TOKEN=desk.runtime.settings.environment["INTERNAL_TOKEN"])
    with serving(made.app) as web:
        desk.runtime.settings.environment["GENERADOR_URL"] = web.url  # type: ignore[index]
        yield Issued(desk, made)
    made.close()


def entered(desk: Desk, new_password: str | None = None, password: str = "an-issued-password") -> Session:
    return Accounts(desk.runtime).log_in("ada", password, new_password, HOME)


def test_an_issued_password_is_good_once_with_another_in_its_place(desk: Desk, vault: Issued) -> None:
    """Without one nothing is used up."""
    Accounts(desk.runtime).sign_up(ADA)
    vault.mailed_to("ada@example.test")
    with pytest.raises(DomainError) as no:
        entered(desk)
    assert no.value.code == "password-change-required"
    assert entered(desk, "chosen at log-in").user["username"] == "ada"
    with pytest.raises(Wrong):
        entered(desk, "chosen again")
    assert outcome(Accounts(desk.runtime), "ada", "chosen at log-in", HOME) == "in"
    (row,) = desk.rows(issued)
    assert row["used"] is True


def test_an_issued_password_counts_only_if_its_mail_went_to_the_users_address(desk: Desk, vault: Issued) -> None:
    """Else whoever asked for a password of this name before its user signed up would take the account over."""
    vault.mailed_to("mallory@evil.test")
    Accounts(desk.runtime).sign_up(ADA)
    with pytest.raises(Wrong):
        entered(desk, "chosen by mallory")
    assert outcome(Accounts(desk.runtime), "ada", ADA["password"], HOME) == "in"


def test_a_mail_of_another_password_makes_none_good(desk: Desk, vault: Issued) -> None:
    """What was mailed to the user is another one than what the vault holds now; nor does an older mail count."""
    Accounts(desk.runtime).sign_up(ADA)
    vault.mailed_to("ada@example.test", saga_id=new_id(), sent_at=9.0)
    vault.mailed_to("ada@example.test", sent_at=5.0)
    with pytest.raises(Wrong):
        entered(desk, "chosen by somebody")


def test_with_the_vault_down_a_chosen_password_is_good_all_the_same(desk: Desk, vault: Issued) -> None:
    """Only who brings an issued one has to come back."""
    Accounts(desk.runtime).sign_up(ADA)
    vault.mailed_to("ada@example.test")
    desk.runtime.settings.environment["GENERADOR_URL"] = "http://127.0.0.1:9"  # type: ignore[index]
    assert outcome(Accounts(desk.runtime), "ada", ADA["password"], HOME) == "in"
    with pytest.raises(Problem) as down:
        entered(desk, "chosen at log-in")
    assert down.value.status == 503


class Silent:
    """A vault that does not tell."""

    def __init__(self, problem: Problem | None) -> None:
        self._problem = problem

    def ask(self, *_: Any) -> Answered:
        if self._problem:
            raise self._problem
        return Answered(429, {"code": "too-many-attempts", "detail": "wait"}, {})


@pytest.mark.parametrize("silent", [Silent(None), Silent(Problem(503, "unavailable", "down"))], ids=["full", "down"])
def test_a_wrong_guess_is_counted_whatever_the_vault_says(
    desk: Desk, vault: Issued, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody counts while the vault is down, and the right password would be found."""
    monkeypatch.setattr(guesses, "OF_SOURCE", Rate(3600.0, 10))
    accounts = Accounts(desk.runtime)
    accounts.sign_up(ADA)
    vault.mailed_to("ada@example.test")
    monkeypatch.setattr(accounts, "_vault", silent)
    for _ in range(10):
        with pytest.raises(Problem):
            accounts.log_in("ada", "wrong", None, "10.6.6.6")
    assert outcome(accounts, "ada", ADA["password"], "10.6.6.6") == "too many"


@pytest.fixture(params=[POSTGRESQL])
def on_postgresql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = make_desk(settings_on(request, tmp_path), "usuarios", system=SYSTEM)
    yield made
    made.runtime.write.dispose()


def test_no_session_of_the_old_password_outlives_the_change(
    on_postgresql: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log-in that comes between the change's clock and its lock would be younger than the change."""
    accounts, thief = Accounts(on_postgresql.runtime), Accounts(on_postgresql.runtime)
    user_id = accounts.sign_up(ADA).user["id"]
    for one, place in ((thief, "10.6.6.6"), (accounts, HOME)):
        one.log_in("ada", ADA["password"], None, place)
    stolen: list[str] = []
    attempt = Guesses.attempt

    def slow(budgets: Guesses, uow: Any, name: str, source: Any, opened: Any) -> Any:
        found = attempt(budgets, uow, name, source, opened)
        if source[1] == HOME:
            thread = threading.Thread(target=lambda: stolen.append(outcome(thief, "ada", ADA["password"], "10.6.6.6")))
            thread.start()
            thread.join(1.0)  # it waits for the lock, or has been let in
        return found

    monkeypatch.setattr(Guesses, "attempt", slow)
    accounts.change_password(user_id, ADA["password"], "another horse", HOME)
    eventually(lambda: stolen == ["wrong"], PATIENCE_S)


# --- another address

NEW = "ada@new.test"


def propose(desk: Desk, user_id: str, email: str = NEW) -> str:
    saga_id = new_id()
    desk.worker.settle([deliver(ProposeEmail(user_id, email), saga_id=saga_id)])
    return saga_id


def answers(desk: Desk, topic: str) -> int:
    return len(desk.said(f"usuarios.{topic}"))


def test_an_address_is_proposed_then_adopted(desk: Desk, accounts: Accounts) -> None:
    """Until then mails go to the old one."""
    user_id = accounts.sign_up(ADA).user["id"]
    saga_id = propose(desk, user_id)
    assert (user(desk)["email"], user(desk)["proposed_email"]) == ("ada@example.test", NEW)
    desk.worker.settle([deliver(AdoptEmail(user_id, NEW), saga_id=saga_id)])
    row = user(desk)
    assert (row["email"], row["email_key"], row["proposed_email"], row["version"]) == (NEW, NEW, None, 2)
    assert [state.email for state in told(desk)] == ["ada@example.test", NEW]
    assert answers(desk, "email-adopted") == 1


def test_a_link_that_went_to_the_old_address_is_over(desk: Desk, accounts: Accounts) -> None:
    """Whoever reads that mailbox is not the user any more."""
    user_id = accounts.sign_up(ADA).user["id"]
    accounts.forget("ada@example.test")
    desk.worker.settle([deliver(AdoptEmail(user_id, NEW), saga_id=propose(desk, user_id))])
    with pytest.raises(DomainError) as no:
        accounts.reset(link(desk), "another horse")
    assert no.value.code == "link-used"


@pytest.mark.parametrize("how", ["reset", "deactivated"])
def test_a_pending_change_of_address_ends_with_the_sessions(desk: Desk, accounts: Accounts, how: str) -> None:
    """Else whoever stole a session asks for another address, and confirms it after the owner has recovered."""
    user_id = accounts.sign_up(ADA).user["id"]
    saga_id = propose(desk, user_id, "thief@evil.test")
    if how == "reset":
        accounts.forget("ada@example.test")
        accounts.reset(link(desk), "another horse")
    else:
        for active in (False, True):
            accounts.mark(user_id, "active", active, "boss")
    desk.worker.settle([deliver(AdoptEmail(user_id, "thief@evil.test"), saga_id=saga_id)])
    assert (user(desk)["email"], answers(desk, "command-refused")) == ("ada@example.test", 1)


@pytest.mark.parametrize("email", ["ada@example.test", "bob@example.test", "BOB@example.test", "no address"])
def test_an_address_that_cannot_be_the_users_is_refused(desk: Desk, accounts: Accounts, email: str) -> None:
    """Format, free, differs."""
    user_id = accounts.sign_up(ADA).user["id"]
    accounts.sign_up(BOB)
    propose(desk, user_id, email)
    assert answers(desk, "command-refused") == 1
    assert user(desk)["proposed_email"] is None


def test_an_address_that_was_taken_since_is_not_adopted(desk: Desk, accounts: Accounts) -> None:
    """It was free when it was proposed."""
    user_id = accounts.sign_up(ADA).user["id"]
    saga_id = propose(desk, user_id)
    accounts.sign_up({**BOB, "email": NEW})
    desk.worker.settle([deliver(AdoptEmail(user_id, NEW), saga_id=saga_id)])
    assert answers(desk, "command-refused") == 1
    assert user(desk)["email"] == "ada@example.test"


def test_a_newer_proposal_takes_the_place_of_the_one_before(desk: Desk, accounts: Accounts) -> None:
    """The link of the older one does nothing any more, and its undoing leaves the newer alone."""
    user_id = accounts.sign_up(ADA).user["id"]
    older = propose(desk, user_id, "first@new.test")
    newer = propose(desk, user_id, NEW)
    desk.worker.settle([deliver(AdoptEmail(user_id, "first@new.test"), saga_id=older)])
    assert (answers(desk, "command-refused"), user(desk)["email"]) == (1, "ada@example.test")
    asked = deliver(ProposeEmail(user_id, "first@new.test"), saga_id=older).wire.properties["ce_id"]
    desk.worker.settle([deliver(DropProposal(user_id, asked), saga_id=older)])
    assert (user(desk)["proposed_email"], user(desk)["proposed_by"]) == (NEW, newer)


def test_a_proposal_that_is_older_than_the_newest_is_refused(desk: Desk, accounts: Accounts) -> None:
    """A dead letter that is replayed after a later change was done must not bring the old address back."""
    user_id = accounts.sign_up(ADA).user["id"]
    old, new = (accepted(ProposeEmail(user_id, email), at) for email, at in (("old@new.test", 1), (NEW, 2)))
    desk.worker.settle([new])
    desk.worker.settle([old])
    (refused,) = desk.said("usuarios.command-refused")
    body = desk.read(SYSTEM["usuarios"].refused, refused)
    assert (refused.properties["ce_commandid"], body.code) == (old.wire.properties["ce_id"], "superseded")
    assert user(desk)["proposed_email"] == NEW


def accepted(body: Any, minute: int) -> Any:
    """Deliver a command of a saga that the front door accepted at a minute of one hour."""
    delivery = deliver(body, saga_id=new_id())
    at = {"ce_acceptedtime": f"2026-01-01T00:{minute:02}:00.000Z"}
    return delivery._replace(wire=delivery.wire._replace(properties={**delivery.wire.properties, **at}))


@pytest.fixture(params=[POSTGRESQL])
def read_side(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return settings_on(request, tmp_path)


@pytest.mark.parametrize(("service", "table"), [("correo", "address"), ("bff", "app_user"), ("bff", "email_history")])
def test_what_others_keep_of_users_is_written_by_projectors_alone(read_side: Any, service: str, table: str) -> None:
    """By role: not even the service that owns the database writes it otherwise than by projection."""
    from sqlalchemy import text
    from sqlalchemy.exc import ProgrammingError

    from pulsaga.delivery.database import open_database

    make_desk(read_side, service, system=SYSTEM).runtime.write.dispose()
    engine = open_database(read_side, service, "read", "reader")
    with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()
