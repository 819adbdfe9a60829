"""Sign up and log in at the front door; whose tokens open it, and what each opens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import update
from tests.service.rooms import Room, room
from tests.service.shop import SECRET
from tests.service.test_order_door import by, read
from tests.service.web import serving

from bff.pedidos.tables import pedido
from bff.users import queries
from bff.users.tables import email_history
from bff.users.tables import user as shown_user
from protools_saga.messages import ChangeEmail, IssuePassword, TakeOrder
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import outbox
from pulsaga.web.access import gatekeeper
from usuarios import tokens
from usuarios.tables import usuario

ADA = {
    "username": "ada",
    "firstName": "Ada",
    "lastName": "Lovelace",
    "phone": "+44 20",
    "email": "ada@example.test",
    "password": "correct horse",
    "passwordConfirm": "correct horse",
}
XML = {"Content-Type": "application/xml", "Accept": "application/xml"}
ORDER = "/api/v1/order/"


class House:
    """A front door that asks who calls, and usuarios behind it."""

    def __init__(self, bff: Room, usuarios: Room) -> None:
        self.bff, self.usuarios = bff, usuarios

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.bff.http.post(path, json=body, headers=headers)

    def sign_up(self, **change: str) -> Any:
        answer = self.post("/signup", {**ADA, **change})
        assert answer.status_code == 201, answer.text
        return answer.json

    def show(self, user_id: str, **change: Any) -> None:
        """Let the front door know of a user, as its projector would."""
        row = {
            "user_id": user_id, "version": 1, "username": "ada", "first_name": "Ada", "last_name": "L", "phone": "",
            "email": "ada@example.test", "admin": False, "active": True, "sessions_not_before": 0.0, "created_at": 1.0,
            "changed_at": 1.0,
        }  # fmt: skip
        self.bff.write_view(shown_user, **{**row, **change})

    def change(self, **values: Any) -> None:
        with self.bff.projector.begin() as tx:
            tx.execute(update(shown_user).values(**values))

    def sees(self, token: str, path: str = ORDER) -> int:
        return int(self.bff.http.get(path, headers={"Authorization": f"Bearer {token}"}).status_code)

    def token(self, user_id: str, **change: Any) -> str:
        """Issue a token as usuarios does, with claims of one's own."""
        settings = self.usuarios.runtime.settings
        claims = jwt.decode(tokens.issue(settings, user_id, time.time()), options={"verify_signature": False})
        key = Ed25519PrivateKey.from_private_bytes(settings.key("SIGNING_KEY"))
        (shown,) = tokens.key_set(settings)["keys"]
        return jwt.encode({**claims, **change}, key, "EdDSA", headers={"kid": shown["kid"]})


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(gatekeeper, "KEPT_S", 0.0)
    key = "aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk="
    usuarios = room("usuarios", tmp_path / "usuarios", INTERNAL_TOKEN=key)
    with serving(usuarios.app) as web:
        bff = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET, USUARIOS_URL=web.url, INTERNAL_TOKEN=key)
        yield House(bff, usuarios)
        bff.close()
    usuarios.close()


# --- sign-up and log-in


def test_a_user_signs_up_and_logs_in(house: House) -> None:
    """As the original answered: status, token, and the user."""
    signed_up = house.sign_up()
    assert signed_up["status"] == "success"
    user = signed_up["data"]["user"]
    assert (user["username"], user["firstName"], user["email"], user["role"]) == ("ada", "Ada", ADA["email"], "user")
    assert "password" not in str(signed_up)
    logged_in = house.post("/login", {"email": ADA["email"], "password": ADA["password"]})
    assert (logged_in.status_code, logged_in.json["data"]) == (200, signed_up["data"])
    assert house.sees(logged_in.json["token"]) == house.sees(signed_up["token"]) == 200


def test_it_is_the_same_in_xml(house: House) -> None:
    """Whatever its root is called."""
    body = "<x>" + "".join(f"<{name}>{value}</{name}>" for name, value in ADA.items()) + "</x>"
    answer = house.bff.http.post("/signup", data=body, headers=XML)
    assert (answer.status_code, answer.mimetype) == (201, "application/xml")
    assert "<status>success</status><token>" in answer.text
    again = house.bff.http.post("/signup", data=body, headers=XML)
    assert (again.status_code, "username-taken" in again.text) == (409, True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password": "short", "passwordConfirm": "short"}, "/password"),
        ({"passwordConfirm": "another horse"}, "/passwordConfirm"),
        ({"username": "ada@example.test"}, "/username"),
        ({"username": ""}, "/username"),
        ({"email": "nobody"}, "/email"),
        ({"phone": "\u0000"}, "/phone"),
        ({"role": "admin"}, "/role"),
        ({"admin": True}, "/admin"),
    ],
)
def test_what_is_wrong_with_a_sign_up_is_named_and_nobody_is_kept(house: House, change: Any, field: str) -> None:
    """Nobody makes themself an administrator either; nor is what they chose said back to them."""
    answer = house.post("/signup", {**ADA, **change})
    assert (answer.status_code, [error["pointer"] for error in answer.json["errors"]]) == (422, [field])
    assert "horse" not in answer.text
    assert house.usuarios.rows(usuario) == []


def test_wrong_passwords_and_unknown_names_are_answered_alike(house: House) -> None:
    """Which names there are is told by sign-up alone, and slowly."""
    house.sign_up()
    known, unknown = (house.post("/login", {"username": name, "password": "wrong"}) for name in ("ada", "eve"))
    assert (known.status_code, known.json) == (unknown.status_code, unknown.json)
    assert known.json["code"] == "wrong-password"


@pytest.mark.parametrize(
    "body", [{"username": "a\u0000b"}, {"email": "\u0000"}, {"username": "ada", "email": ADA["email"]}, {}]
)
def test_a_name_that_nobody_can_have_is_not_looked_for(house: House, body: Any) -> None:
    """Some databases would break on it."""
    assert house.post("/login", {**body, "password": "x"}).status_code == 422


def test_a_new_password_is_not_taken_at_a_log_in_with_ones_own(house: House) -> None:
    """Another password is chosen where it is said twice."""
    house.sign_up()
    said = {"username": "ada", "password": ADA["password"], "newPassword": "another horse"}
    assert [house.post("/login", said).status_code for _ in range(2)] == [200, 200]


def test_with_usuarios_down_nobody_is_told_that_a_password_is_wrong(tmp_path: Path) -> None:
    """503, to come back."""
    bff = room("bff", tmp_path, USUARIOS_URL="http://127.0.0.1:9")
    answer = bff.http.post("/login", json={"username": "ada", "password": "x"})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    bff.close()


# --- whose tokens are taken


def test_a_user_is_a_caller_whatever_the_token_says(house: House) -> None:
    """Its role and its scopes are not for users to claim."""
    user_id = house.sign_up()["data"]["user"]["_id"]
    house.show(user_id)
    for claims in ({"role": "admin"}, {"role": "operator"}, {"scope": "orders:deliver productos:write"}, {"role": 7}):
        token = house.token(user_id, **claims)
        assert (house.sees(token), house.sees(token, "/users"), house.sees(token, "/metrics")) == (200, 403, 403)
        bearer = {"Authorization": f"Bearer {token}"}
        assert house.post("/productos", {"nombre": "x", "stock": 1}, **bearer).status_code == 403


def test_an_administrator_is_so_by_the_mark_that_usuarios_keeps(house: House) -> None:
    """From when the front door knows of it, and until it is taken."""
    session = house.sign_up()
    house.show(session["data"]["user"]["_id"], admin=True)
    assert house.sees(session["token"], "/users") == 200
    house.change(admin=False)
    assert house.sees(session["token"], "/users") == 403


def test_a_token_is_good_no_more_once_the_password_was_changed(house: House) -> None:
    """Nor is one of somebody who may not log in."""
    session = house.sign_up()
    house.show(session["data"]["user"]["_id"])
    assert house.sees(session["token"]) == 200
    house.change(sessions_not_before=time.time() + 1)
    assert house.sees(session["token"]) == 401
    house.change(sessions_not_before=0.0, active=False)
    assert house.sees(session["token"]) == 401


FORGED: dict[str, Callable[[House, str], str]] = {
    "for others": lambda house, user_id: house.token(user_id, aud="protools"),
    "of the settings' issuer": lambda house, user_id: house.token(user_id, iss="protools"),
    "of nobody known": lambda house, user_id: house.token(user_id, iss="elsewhere"),
    "expired": lambda house, user_id: house.token(user_id, exp=int(time.time()) - 60),
    "not yet good": lambda house, user_id: house.token(user_id, nbf=int(time.time()) + 60),
    "without an end": lambda house, user_id: house.token(user_id, exp=None),
    "by another key": lambda _, user_id: signed(user_id, Ed25519PrivateKey.generate(), "EdDSA"),
    "by the secret of machines": lambda _, user_id: signed(user_id, SECRET, "HS256"),
    "by a public key": lambda house, user_id: signed(user_id, public(house), "HS256"),
    "unsigned": lambda _, user_id: signed(user_id, None, "none"),
}


def signed(user_id: str, key: Any, algorithm: str) -> str:
    claims = {"iss": "usuarios", "aud": "users", "sub": user_id, "exp": int(time.time()) + 60, "iat": time.time()}
    return jwt.encode(claims, key, algorithm, headers={"kid": "k"})


def public(house: House) -> str:
    """Return the public key as text that is long enough for a secret."""
    return str(tokens.key_set(house.usuarios.runtime.settings)["keys"][0]["x"])


@pytest.mark.parametrize("forged", FORGED)
def test_what_usuarios_did_not_issue_for_this_opens_nothing(house: House, forged: str) -> None:
    """Two issuers are twice the ways to take one for the other."""
    user_id = house.sign_up()["data"]["user"]["_id"]
    assert house.sees(house.token(user_id)) == 200
    assert house.sees(FORGED[forged](house, user_id)) == 401


def test_machines_are_never_users(house: House) -> None:
    """Who issues tokens of machines names no user by one: their orders and addresses are theirs."""
    user_id = house.sign_up()["data"]["user"]["_id"]
    assert house.bff.http.get(ORDER, headers=by(f"usuarios~{user_id}")).status_code == 401
    assert house.bff.http.get(ORDER, headers=by(user_id)).status_code == 200
    assert house.bff.http.get(f"/users/{user_id}/emails", headers=by(user_id)).status_code == 404


def test_with_usuarios_down_machines_come_in_all_the_same(tmp_path: Path) -> None:
    """Whose keys cannot be read keeps out its own alone."""
    bff = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET, USUARIOS_URL="http://127.0.0.1:9")
    assert bff.http.get(ORDER, headers=by("shop")).status_code == 200
    users = {"Authorization": f"Bearer {signed('x', Ed25519PrivateKey.generate(), 'EdDSA')}"}
    assert bff.http.get(ORDER, headers=users).status_code == 503
    bff.close()


# --- what is a user's own


def test_users_see_themselves_and_administrators_everybody(house: House) -> None:
    """Another's is as if it were not there."""
    ada, eve = house.sign_up(), house.sign_up(username="eve", email="eve@example.test")
    ids = [session["data"]["user"]["_id"] for session in (ada, eve)]
    house.show(ids[0])
    house.show(ids[1], username="eve", admin=True)
    paths = [f"/users/{user_id}{end}" for user_id in ids for end in ("", "/emails")]
    assert [house.sees(ada["token"], path) for path in paths] == [200, 200, 404, 404]
    assert [house.sees(eve["token"], path) for path in paths] == [200] * 4
    assert house.bff.http.get("/users", headers=by("boss", "operator")).status_code == 403


def test_only_an_operator_makes_administrators(house: House) -> None:
    """Not even an administrator; and who is made one has to log in again."""
    session = house.sign_up()
    user_id = session["data"]["user"]["_id"]
    house.show(user_id, admin=True)
    path, body = f"/users/{user_id}/admin", {"value": True}
    mine = {"Authorization": f"Bearer {session['token']}"}
    tried = [house.bff.http.put(path, json=body, headers=who) for who in (mine, by("root", "admin"), by("shop"))]
    assert [answer.status_code for answer in tried] == [403] * 3
    assert house.usuarios.rows(usuario)[0]["admin"] is False
    made = house.bff.http.put(path, json=body, headers=by("boss", "operator"))
    assert (made.status_code, made.json["role"]) == (200, "admin")
    assert house.usuarios.rows(usuario)[0]["sessions_not_before"] > 0
    stranger = house.bff.http.put(f"/users/{new_id()}/admin", json=body, headers=by("boss", "operator"))
    assert stranger.status_code == 404


def test_the_history_of_addresses_shows_who_changed_them(house: House) -> None:
    """Each address once, whatever else has changed between."""
    user_id = house.sign_up()["data"]["user"]["_id"]
    house.show(user_id)
    for version, email in enumerate(["a@x.test", "a@x.test", "b@x.test"], 1):
        house.bff.write_view(
            email_history, user_id=user_id, version=version, email=email, actor="ada", at=float(version)
        )
    shown = queries.list_emails(house.bff.app.extensions["read"], user_id)["emails"]
    assert [(one["email"], one["actor"], one["at"][-5:]) for one in shown] == [
        ("a@x.test", "ada", ".000Z"),
        ("b@x.test", "ada", ".000Z"),
    ]


def test_oneself_or_an_administrator_asks_for_another_address(house: House) -> None:
    """The saga is the user's; a stranger's wish is stored nowhere."""
    session = house.sign_up()
    user_id = session["data"]["user"]["_id"]
    mine = {"Authorization": f"Bearer {session['token']}"}
    path, body = f"/users/{user_id}/email", {"email": "ada@new.test"}
    for who, status in ((by("shop"), 403), (by("boss", "operator"), 403), (mine, 202), (by("root", "admin"), 202)):
        assert house.bff.http.put(path, json=body, headers=who).status_code == status
    first, second = read(house.bff, ChangeEmail)
    assert first.body == second.body == ChangeEmail(user_id, "ada@new.test")
    assert {first.context.actor, second.context.actor} == {f"usuarios~{user_id}", "root"}
    assert house.bff.http.put("/users/me/email", json=body, headers=mine).status_code == 404


def test_a_users_password_is_asked_for_by_the_user_alone_and_goes_to_their_address(house: House) -> None:
    """The takeover: a password for somebody else's name, mailed to oneself."""
    session = house.sign_up()
    user_id = session["data"]["user"]["_id"]
    house.show(user_id)
    mine = {"Authorization": f"Bearer {session['token']}"}
    wish, elsewhere = {"username": "ada"}, {"username": "ada", "email": "mallory@evil.test"}
    assert [house.post("/passwords", body, **by("mallory")).status_code for body in (wish, elsewhere)] == [403, 403]
    assert house.post("/passwords", wish, **by("boss", "operator")).status_code == 403
    assert house.post("/passwords", elsewhere, **mine).status_code == 422
    assert house.bff.rows(outbox) == []
    for who in (mine, by("root", "admin")):
        assert house.post("/passwords", wish, **who).status_code == 202
    assert {message.body for message in read(house.bff, IssuePassword)} == {IssuePassword("ada", "ada@example.test")}
    assert house.post("/passwords", {"username": "nobody yet"}, **by("mallory")).status_code == 422
    assert house.post("/passwords", {"username": "free"}, **by("mallory")).status_code == 202


# --- orders by request id


def test_the_same_request_id_is_the_same_order_of_one_caller(house: House) -> None:
    """Whatever it looks like; with another body it is refused, and of another caller it is another order."""
    first, copy = (order(house, "ada", "request-1") for _ in range(2))
    assert (first.status_code, first.json) == (201, copy.json)
    assert first.json | {"orderId": ""} == {"status": "OK", "message": "Your order is on the way", "orderId": ""}
    assert order(house, "ada", "request-1").status_code == 201
    assert order(house, "ada", "request-1", price=500).status_code == 422
    assert order(house, "eve", "request-1").json["orderId"] != order(house, "ada", "request-1").json["orderId"]
    bodies = [message.body for message in read(house.bff, TakeOrder)]
    assert sorted(body.user_id for body in bodies) == ["ada", "eve"]


def order(house: House, who: str, request_id: str, price: int = 400) -> Any:
    return house.bff.http.post(
        ORDER, json={"price": price}, headers={**by(who), "X-Request-Id": request_id, "Prefer": "respond-async"}
    )


@pytest.mark.parametrize("price", [-1, "many", None, 1.5, 2_000_000_001])
def test_a_price_is_a_number(house: House, price: Any) -> None:
    """And what is none is not stored, nor its request id used up."""
    assert order(house, "ada", "request-1", price=price).status_code == 422
    assert order(house, "ada", "request-1").status_code == 201


def test_callers_list_their_own_orders(house: House) -> None:
    """In the words of the original."""
    for number, who in enumerate(["ada", "eve", "ada"]):
        house.bff.write_view(
            pedido, order_id=new_id(), version=1, user_id=who, price=number, status="new", date=float(number)
        )
    shown = house.bff.http.get(ORDER, headers=by("ada")).json
    assert (shown["status"], shown["results"]) == ("success", 2)
    assert [(one["price"], one["userId"], one["status"]) for one in shown["data"]["data"]] == [
        (0, "ada", "new"),
        (2, "ada", "new"),
    ]
    assert house.bff.http.get(ORDER, headers=by("boss", "operator")).json["results"] == 0
