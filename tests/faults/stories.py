"""What is done to a system while its processes are killed, and what must be left of it then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import urllib3
from tests.patience import PATIENCE_S
from tests.system.harness import ENDED, System
from tests.system.trips import token_of

Begin = Callable[[System, str, str, str], str | None]
Wrong = Callable[[System, str, str], str]


@dataclass(frozen=True)
class Story:
    """The kinds of sagas that are run, each with the status in which it ends."""

    ends: Mapping[str, str]
    ask: Begin
    """Asks for a saga of a kind for a subject, under a key; returns the id of the command. May be cut off."""
    meanwhile: Callable[[System, str, str], object]
    """Given the kind and the id of the command, does what it waits for from outside. May be cut off."""
    wrong: Wrong
    """Given the kind and the subject, says what is wrong with what was done; nothing when all is well."""

    subject: Callable[[System, str], str] = lambda _system, _kind: new_name()
    """Returns a subject for a saga of a kind that no other saga has; what it needs before it begins is done here."""

    def run(self, system: System, kind: str, subject: str) -> str:
        """Ask until somebody answers; return how the command ended."""
        key = uuid4().hex
        identifier = str(system.eventually(lambda: _unless_cut_off(self.ask, system, kind, subject, key), PATIENCE_S))

        def ended() -> Any:
            _unless_cut_off(self.meanwhile, system, kind, identifier)
            shown = _unless_cut_off(system.command, identifier)
            return shown["status"] if shown and shown["status"] in ENDED else None

        return str(system.eventually(ended, PATIENCE_S))


def new_name() -> str:
    """Return a name that nobody else has."""
    return f"u{uuid4().hex[:12]}"


def _unless_cut_off(work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except urllib3.exceptions.HTTPError:
        return None


# --- passwords


def _ask_for_password(system: System, kind: str, subject: str, key: str) -> str | None:
    domain = "example.test" if kind == "happy" else system.mailbox.refused
    answer = system.post("/passwords", {"username": subject, "email": f"{subject}@{domain}"}, Idempotency_Key=key)
    return answer.json["id"] if answer.status == 202 else None


def _wrong_mails(system: System, kind: str, subject: str) -> str:
    mails = {mail.raw for mail in system.mailbox.mails() if subject.encode() in mail.raw}
    return "" if len(mails) == (kind == "happy") else f"{len(mails)} distinct mails"


PASSWORDS = Story({"happy": "completed", "compensated": "refused"}, _ask_for_password, lambda *_: None, _wrong_mails)


# --- trips: every kind of step


def _ask_for_trip(system: System, kind: str, subject: str, key: str) -> str | None:
    asked = {"city": subject, "nights": 5, "travellers": [{"name": "ada"}, {"name": "bob"}]}
    answer = system.post("/workflows/plan-trip", asked, Idempotency_Key=key)
    return answer.json["id"] if answer.status == 202 else None


def _approve(system: System, _kind: str, identifier: str) -> None:
    if token := token_of(system.rows, system.settings, identifier):
        system.post("/signals/approve", {"token": token, "name": "the boss"})


def _wrong_bookings(system: System, kind: str, subject: str) -> str:
    booked = [
        system.rows(service, "SELECT what FROM booking WHERE booked AND what LIKE :what", what=f"%{subject}")
        for service in ("hotels", "flights")
    ]
    paid = system.rows("payments", "SELECT amount FROM payment WHERE city = :city AND amount > 0", city=subject)
    found = [*map(len, booked), paid]
    return "" if found == ([1, 2, [(660,)]] if kind == "happy" else [0, 0, []]) else f"left over: {found}"


TRIPS = Story(
    {"happy": "completed", "compensated": "refused"},
    _ask_for_trip,
    _approve,
    _wrong_bookings,
    subject=lambda _system, kind: ("Erewhon-" if kind == "compensated" else "") + new_name(),
)
"""One that is approved, and one that is given back from its end."""


# --- orders: one that may start, and one of what is not in stock


def _ask_for_order(system: System, kind: str, subject: str, key: str) -> str | None:
    stock = 1 if kind == "happy" else 0
    product = _made(system, f"{key}-p", "/productos", nombre=f"for {subject}", stock=stock)
    if product is None or _made(system, f"{key}-d", "/conductores", nombre=f"for {subject}") is None:
        return None
    wish = {"id_producto": product, "cantidad": 1, "user_id": subject, "direccion_entrega": "Calle 1"}
    answer = system.post("/orders", wish, Idempotency_Key=key)
    return answer.json["id"] if answer.status == 202 else None


def _made(system: System, key: str, path: str, **body: Any) -> str | None:
    answer = system.post(path, body, Idempotency_Key=key, Prefer="wait=10")
    return answer.json["id"] if answer.status in (201, 202) else None


def _wrong_stock(system: System, kind: str, subject: str) -> str:
    orders = system.rows("ordenes", "SELECT id_orden, estado FROM orden WHERE user_id = :subject", subject=subject)
    stock = system.rows(
        "productos",
        "SELECT stock, reservado, entregado FROM producto WHERE nombre = :name",
        name=f"for {subject}",
    )
    brought = [
        row
        for order, _ in orders
        for row in system.rows("conductores", "SELECT 1 FROM conductor WHERE id_orden = :order", order=order)
    ]
    found = ([estado for _, estado in orders], stock, len(brought))
    right = (["iniciada"], [(0, 1, 0)], 1) if kind == "happy" else (["fallida"], [(0, 0, 0)], 0)
    return "" if found == right else f"left over: {found}"


ORDERS = Story({"happy": "completed", "compensated": "refused"}, _ask_for_order, lambda *_: None, _wrong_stock)


# --- another address: one that is confirmed, and one that no mail reaches


def _sign_up(system: System, _kind: str) -> str:
    """Sign somebody up; return the user's id, once the front door knows of the user."""
    name, secret = new_name(), "correct horse battery"
    said = {"username": name, "email": f"{name}@example.test", "password": secret, "passwordConfirm": secret}
    user_id = str(system.post("/signup", said).json["data"]["user"]["_id"])
    system.eventually(lambda: system.get(f"/users/{user_id}").status == 200)
    return user_id


def _ask_for_address(system: System, kind: str, subject: str, key: str) -> str | None:
    body = {"email": _new_address(system, kind, subject)}
    answer = system.put(f"/users/{subject}/email", body, Idempotency_Key=key)
    return answer.json["id"] if answer.status == 202 else None


def _new_address(system: System, kind: str, subject: str) -> str:
    return f"{subject}@{'new.test' if kind == 'happy' else system.mailbox.refused}"


def _confirm(system: System, _kind: str, identifier: str) -> None:
    address = f"{system.command(identifier)['user_id']}@new.test"
    for mail in system.mails_to(address):
        system.post("/signals/confirm-email", {"token": mail.token})


def _wrong_address(system: System, kind: str, subject: str) -> str:
    ((email, proposed, version, name),) = system.rows(
        "usuarios", "SELECT email, proposed_email, version, username FROM usuario WHERE id = :id", id=subject
    )
    old, new = f"{name}@example.test", _new_address(system, kind, subject)
    mailed = [len({mail.raw for mail in system.mails_to(address)}) for address in (old, new)]
    found = (email, proposed, version, mailed)
    right = (new, None, 2, [1, 1]) if kind == "happy" else (old, None, 1, [0, 0])
    return "" if found == right else f"left over: {found}"


EMAILS = Story({"happy": "completed", "compensated": "refused"}, _ask_for_address, _confirm, _wrong_address, _sign_up)
