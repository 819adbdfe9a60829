"""Live as a user of a running system: sign up, order, take another address, forget the password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.system.conftest import Mode
from tests.system.harness import Answer, System
from tests.system.mailboxes import Mail

WAIT = {"Prefer": "wait=30"}
PASSWORD = "correct horse battery"
SERVICES = ("generador", "correo", "usuarios", "pedidos")


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with mode.running(
        tmp_path_factory.mktemp("users"), only=SERVICES, RATE_LIMIT="none", PROTOOLS_FAULTS="on"
    ) as running:
        yield running


@dataclass
class User:
    """A user of a running system, logged in."""

    system: System
    name: str
    token: str = ""
    id: str = ""
    first: str = ""

    @property
    def email(self) -> str:
        return f"{self.name}@example.test"

    def sign_up(self) -> User:
        said = {"username": self.name, "email": self.email, "firstName": self.first}
        said |= {"password": PASSWORD, "passwordConfirm": PASSWORD}
        self._enter(self.system.post("/signup", said), 201)
        self.system.eventually(lambda: self.shown().status == 200)
        return self

    def log_in(self, password: str = PASSWORD, **more: str) -> Answer:
        return self.system.post("/login", {"username": self.name, "password": password, **more})

    def come_in(self, password: str = PASSWORD, **more: str) -> None:
        self._enter(self.log_in(password, **more), 200)

    def _enter(self, answer: Answer, status: int) -> None:
        assert answer.status == status, answer
        self.token, self.id = answer.json["token"], answer.json["data"]["user"]["_id"]

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def shown(self) -> Answer:
        return self.system.get(f"/users/{self.id}", **self.bearer)

    def ask_for(self, email: str, **headers: str) -> Answer:
        return self.system.put(f"/users/{self.id}/email", {"email": email}, **self.bearer, **headers)

    def mail(self, recipient: str, subject: str) -> Mail:
        """Return the newest mail of a subject, once it has come."""
        return self.system.eventually(
            lambda: next((m for m in self.system.mails_to(recipient) if m.message["Subject"] == subject), None)
        )

    def confirm(self, mail: Mail) -> Answer:
        return self.system.post("/signals/confirm-email", {"token": mail.token})


@pytest.fixture
def ada(system: System, request: pytest.FixtureRequest) -> User:
    """A user of this test's own."""
    return User(system, f"ada-{abs(hash(request.node.nodeid)) % 10**8}").sign_up()


def test_orders_are_the_users_own_and_come_once(ada: User) -> None:
    """Sign-up, order, its copy, list; another user sees none of it."""
    system, key = ada.system, {"X-Request-Id": "request-1"}
    orders = [system.post("/api/v1/order/", {"price": 400}, **ada.bearer, **key) for _ in range(2)]
    assert [answer.status for answer in orders] == [201, 201]
    (identifier,) = {answer.json["orderId"] for answer in orders}
    shown = system.get("/api/v1/order/", **ada.bearer).json
    assert (shown["results"], shown["data"]["data"][0]["_id"]) == (1, identifier)
    system.eventually(
        lambda: system.get("/api/v1/order/", **ada.bearer).json["data"]["data"][0]["status"] == "processing"
    )
    eve = User(system, f"{ada.name}-eve").sign_up()
    assert system.get("/api/v1/order/", **eve.bearer).json["results"] == 0
    assert system.post("/api/v1/order/", {"price": 1}, **eve.bearer, **key).json["orderId"] != identifier


def test_another_address_counts_once_it_is_confirmed(ada: User) -> None:
    """The page behind the link changes nothing by being read; both addresses are told; the history shows who did it."""
    system, new = ada.system, f"new-{ada.email}"
    asked = ada.ask_for(new)
    assert asked.status == 202, asked
    mail = ada.mail(new, "Confirm your new address")
    assert [system.get("/confirm-email").status for _ in range(2)] == [200, 200]
    assert ada.shown().json["email"] == ada.email
    heard = ada.confirm(mail)
    assert heard.status == 202, heard
    assert system.outcome(asked.json["id"])["status"] == "completed"
    system.eventually(lambda: ada.shown().json["email"] == new)
    ada.mail(ada.email, "Your address was changed")
    history = system.get(f"/users/{ada.id}/emails", **ada.bearer).json["emails"]
    assert [(one["email"], one["actor"]) for one in history] == [
        (ada.email, f"usuarios~{ada.id}"),
        (new, f"usuarios~{ada.id}"),
    ]
    assert ada.confirm(mail).status == 409
    assert system.post("/login", {"email": new, "password": PASSWORD}).status == 200


def test_what_is_asked_for_while_its_owner_is_away_is_done_later(ada: User) -> None:
    """Who gave up waiting is not answered by a second command; nothing is asked for twice."""
    system, new = ada.system, f"later-{ada.email}"
    with system.without("run", "usuarios", "worker"):
        asked = ada.ask_for(new, Prefer="wait=1", Idempotency_Key="later")
        assert (asked.status, asked.json["status"]) == (202, "accepted"), asked
    assert ada.ask_for(new, Idempotency_Key="later").json["id"] == asked.json["id"]
    assert ada.confirm(ada.mail(new, "Confirm your new address")).status == 202
    assert system.outcome(asked.json["id"])["status"] == "completed"
    assert len({mail.raw for mail in system.mails_to(new)}) == 1


def test_an_issued_password_is_for_the_address_that_the_user_has_and_for_one_log_in(ada: User) -> None:
    """Mailed to the user whatever was asked for; changed at the log-in."""
    system = ada.system
    issued = system.post("/passwords", {"username": ada.name}, **ada.bearer, **WAIT)
    assert issued.status == 201, issued
    mail = ada.mail(ada.email, "Your password is ready")
    secret = system.post("/reveals", {"token": mail.token}).json["password"]
    assert ada.log_in(secret).json["code"] == "password-change-required"
    ada.come_in(secret, newPassword="chosen at log-in")
    assert ada.log_in(secret, newPassword="chosen again").status == 401
    assert ada.log_in().status == 401
    ada.come_in("chosen at log-in")


def test_a_stranger_who_asked_first_gets_no_account(system: System) -> None:
    """The takeover: a password for a name, mailed to oneself, before its user signs up."""
    name = f"late-{len(system.answers)}"
    issued = system.post("/passwords", {"username": name, "email": "mallory@evil.test"}, **WAIT)
    assert issued.status == 201, issued
    ada = User(system, name).sign_up()
    mail = ada.mail("mallory@evil.test", "Your password is ready")
    secret = system.post("/reveals", {"token": mail.token}).json["password"]
    assert ada.log_in(secret, newPassword="chosen by mallory").status == 401
    ada.come_in()


def test_a_forgotten_password_is_replaced_by_a_mailed_link(ada: User) -> None:
    """Once; and whoever was logged in is so no more."""
    system, before = ada.system, ada.bearer
    assert system.post("/forgotten-passwords", {"email": ada.email}).status == 204
    said = {"token": ada.mail(ada.email, "Choose another password").token}
    said |= {"password": "another horse", "passwordConfirm": "another horse"}
    assert system.get("/reset").status == 200
    assert [system.post("/password-resets", said).status for _ in range(2)] == [200, 410]
    system.eventually(lambda: system.get("/api/v1/order/", **before).status == 401)
    assert ada.log_in().status == 401
    ada.come_in("another horse")


def test_a_change_that_is_replayed_after_a_newer_one_is_refused(ada: User) -> None:
    """Dead-lettered A, then B done, then A replayed: B stays, and A's saga ends as superseded."""
    system = ada.system
    first, second = f"first-{ada.email}", f"second-{ada.email}"
    with system.fault(f"usuarios.handled action=raise match=subject={ada.id} times=3"):
        dead = ada.ask_for(first).json["id"]
        system.eventually(lambda: system.command(dead)["status"] == "suspended")
    done = ada.ask_for(second).json["id"]
    assert ada.confirm(ada.mail(second, "Confirm your new address")).status == 202
    assert system.outcome(done)["status"] == "completed"
    ((letter,),) = (group["letters"] for group in json.loads(system.run("dead-letters", "list", "--json").stdout))
    replayed = system.run("dead-letters", "replay", letter["id"], "--as", "boss", "--why", "mended")
    assert replayed.returncode == 0, replayed.stderr
    system.eventually(lambda: system.command(dead)["status"] == "refused")
    assert system.command(dead)["reason"]["code"] == "superseded"
    system.eventually(lambda: ada.shown().json["email"] == second)


def test_a_user_who_is_erased_is_named_nowhere(system: System) -> None:
    """In no row of any database, nor in a message that is kept; others with the same letters keep theirs."""
    ada = User(system, "username", first="Ursula-Katherine").sign_up()
    near = User(system, "username2").sign_up()
    issued = system.post("/passwords", {"username": "username"}, **ada.bearer, **WAIT)
    assert issued.status == 201, issued
    ada.mail(ada.email, "Your password is ready")
    changed = ada.ask_for("le-guin@new.test").json["id"]
    assert system.run("erase", ada.id, "--as", "boss", "--why", "asked").returncode == 1, "a saga is running"
    assert ada.confirm(ada.mail("le-guin@new.test", "Confirm your new address")).status == 202
    assert system.outcome(changed)["status"] == "completed"
    ada.mail(ada.email, "Your address was changed")
    given_up = ada.ask_for("only-asked@new.test").json["id"]
    ada.mail("only-asked@new.test", "Confirm your new address")
    assert system.delete(f"/commands/{given_up}").status in (200, 202)
    assert system.outcome(given_up)["status"] == "refused"
    system.eventually(system.is_at_rest)
    erased = system.run("erase", ada.id, "--as", "boss", "--why", "asked")
    assert erased.returncode == 0, erased.stderr
    system.eventually(system.is_at_rest)
    for name in ("usuarios", "correo", "bff"):  # events tell of nobody any more either
        rebuilt = system.run("projections", "rebuild", name, "--why", "to be sure", "--json")
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert [one for one in json.loads(rebuilt.stdout)["tables"] if one["changed"] or one["foreign"]] == []
    gone = (b"username@example.test", b"le-guin@new.test", b"only-asked@new.test", b"Ursula-Katherine")
    stored = system.everything_stored()
    assert [name for name in gone if name in stored] == []
    assert system.rows("usuarios", "SELECT 1 FROM usuario WHERE username = 'username'") == []
    assert system.rows("generador", "SELECT 1 FROM password WHERE username = 'username'") == []
    shown = system.eventually(lambda: found if not (found := system.get(f"/users/{ada.id}").json)["active"] else None)
    assert (shown["username"][:7], shown["email"][:7]) == ("erased-", "erased-")
    assert ada.log_in().status == 401
    assert near.shown().json["email"] == "username2@example.test"
    again = system.run("erase", ada.id, "--as", "boss", "--why", "asked")
    assert (again.returncode, "nobody" in again.stderr) == (1, True)
    back = User(system, "username").sign_up()
    assert system.run("erase", back.id, "--as", "boss", "--why", "asked again").returncode == 0


def test_nothing_was_lost_doubled_or_left_waiting(system: System) -> None:
    """After all of the above; and no password that somebody chose is stored anywhere."""
    system.eventually(system.is_at_rest)
    checked: Any = system.run("verify")
    assert checked.returncode == 0, checked.stdout
    stored = system.everything_stored()
    for secret in (PASSWORD, "another horse", "chosen at log-in", "chosen by mallory"):
        assert secret.encode() not in stored
