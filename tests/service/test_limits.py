"""Ask too much, as one caller and from one address, and hold the refusal to what callers can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import g
from tests.service.rooms import Room, room

from pulsaga.values import networks
from pulsaga.web import http
from pulsaga.web.access.callers import Role
from pulsaga.web.access.gatekeeper import address_of
from pulsaga.web.access.tokens import issue, service_token

SECRET = "correct horse battery staple, 32 bytes and more"
Made = Callable[..., Room]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Make front doors with settings of their own."""
    doors: list[Room] = []

    def make(**settings: str) -> Room:
        doors.append(room("bff", tmp_path / str(len(doors)), **settings))
        return doors[-1]

    yield make
    for door in doors:
        door.close()


def known(door: Room, subject: str, role: Role = "caller") -> dict[str, str]:
    return {"Authorization": f"Bearer {issue(door.runtime.settings, subject, role, 60)}"}


def test_who_asks_too_much_from_one_address_is_told_when_to_come_back(made: Made) -> None:
    """429 with Retry-After and what is left, in the caller's format, before the body is looked at."""
    door = made(RATE_LIMIT="6/m burst 3")
    answers = [door.http.get("/passwords") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    refused = door.http.post("/passwords", data=b"<not read", content_type="application/xml")
    assert (refused.status_code, refused.mimetype) == (429, "application/problem+xml")
    assert refused.headers["Retry-After"] == "10"
    assert refused.headers["RateLimit-Policy"] == '"address";q=3;w=30'
    assert refused.headers["RateLimit"] == '"address";r=0;t=30'


def test_who_has_used_half_is_told_before_it_is_too_late(made: Made) -> None:
    """The others are spared the bytes."""
    door = made(RATE_LIMIT="6/m burst 4")
    told = [door.http.get("/passwords").headers.get("RateLimit") for _ in range(4)]
    assert [each and each.partition(";t")[0] for each in told] == [None, None, '"caller";r=1', '"caller";r=0']


def test_a_caller_is_limited_from_wherever_it_comes(made: Made) -> None:
    """A stolen token must not be worth more with more addresses; and another caller is not held back."""
    door = made(RATE_LIMIT="6/m burst 2", AUTH="", JWT_SECRET=SECRET)

    def status(subject: str, address: str) -> int:
        headers, place = known(door, subject), {"REMOTE_ADDR": address}
        return door.http.get("/passwords", headers=headers, environ_base=place).status_code

    assert [status("shop", f"192.0.2.{number}") for number in range(4)] == [200, 200, 429, 429]
    assert status("rival", "192.0.2.9") == 200


def test_guessing_tokens_is_limited_by_the_address(made: Made) -> None:
    """Whoever has no name has an address."""
    door = made(RATE_LIMIT="6/m burst 2", AUTH="", JWT_SECRET=SECRET)
    guess = {"Authorization": "Bearer guess"}
    assert [door.http.get("/passwords", headers=guess).status_code for _ in range(3)] == [401, 401, 429]


def test_no_stranger_uses_up_what_the_front_door_may_ask_the_vault(tmp_path: Path) -> None:
    """It asks for everybody from one address: limited there, one stranger's reveals would be the end of all others'."""
    vault = room("generador", tmp_path, RATE_LIMIT="6/m burst 2", AUTH="", JWT_SECRET=SECRET)
    key = vault.runtime.settings.key("INTERNAL_TOKEN")

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return vault.http.post("/internal/reveals", json={"token": "x"}, headers=headers).status_code

    good = service_token(key, "bff", "generador POST /internal/reveals")
    assert {status(good) for _ in range(10)} == {404}
    assert [status("guess") for _ in range(4)] == [401, 401, 429, 429]
    assert status(good) == 404
    assert vault.http.post("/internal/reveals").status_code == 429
    vault.close()


def test_health_is_never_limited(made: Made) -> None:
    """A probe that is refused would restart a healthy process in the middle of an attack."""
    door = made(RATE_LIMIT="1/m")
    assert {door.http.get("/livez").status_code for _ in range(5)} == {200}


def test_no_limit_can_be_said(made: Made) -> None:
    """For whoever limits in front of us."""
    door = made(RATE_LIMIT="none")
    assert {door.http.get("/passwords").status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "seen"),
    [
        ("192.0.2.1", "", "", "192.0.2.1"),
        ("192.0.2.1", "10.9.9.9", "", "192.0.2.1"),
        ("192.0.2.1", "10.9.9.9", "198.51.100.0/24", "192.0.2.1"),
        ("192.0.2.1", "10.9.9.9", "192.0.2.0/24", "10.9.9.9"),
        ("192.0.2.1", "1.1.1.1, 10.9.9.9", "192.0.2.0/24", "10.9.9.9"),
        ("192.0.2.1", "1.1.1.1, 10.9.9.9, 192.0.2.7", "192.0.2.0/24", "10.9.9.9"),
        ("192.0.2.1", "192.0.2.8, 192.0.2.7", "192.0.2.0/24", "192.0.2.8"),
        ("192.0.2.1", "nonsense", "192.0.2.0/24", "unknown"),
        ("192.0.2.1", "1.1.1.1, 10.9.9.9:4711, 192.0.2.7:80", "192.0.2.0/24", "10.9.9.9"),
        ("192.0.2.1", "[2001:db8:1:2::3]:4711", "192.0.2.0/24", "2001:db8:1:2::/64"),
        ("192.0.2.1", "[2001:db8:1:2::3]", "192.0.2.0/24", "2001:db8:1:2::/64"),
        ("192.0.2.1", "[192.0.2.7", "192.0.2.0/24", "unknown"),
        ("192.0.2.1", "1.1.1.1, " * 5000 + "10.9.9.9", "192.0.2.0/24", "10.9.9.9"),
        ("2001:db8:1:2:3:4:5:6", "", "", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "", "", "192.0.2.1"),
    ],
)
def test_an_address_is_what_a_trusted_proxy_saw(made: Made, peer: str, forwarded: str, trusted: str, seen: str) -> None:
    """Anybody may write X-Forwarded-For: the last address that no proxy of ours wrote is where it came from."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    with made().app.test_request_context("/", headers=headers, environ_base={"REMOTE_ADDR": peer}):
        assert address_of(networks(trusted)) == seen


# --- what every answer says


def test_personal_answers_are_kept_by_nobody_and_believed_as_they_are(made: Made) -> None:
    """Errors and lists alike."""
    door = made()
    for path in ("/passwords", "/passwords/ada", "/nowhere", "/livez", "/metrics"):
        answer = door.http.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert answer.headers["Cache-Control"] in ("no-store", "private, no-cache"), path
        assert "Strict-Transport-Security" not in answer.headers
    assert made(AUTH="", JWT_SECRET=SECRET).http.get("/passwords").headers["Cache-Control"] == "no-store"


def test_a_page_may_do_only_what_it_needs(made: Made) -> None:
    """It shows a secret: no script, frame, referrer or device of others."""
    headers = made().http.get("/reveal").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "'unsafe" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "camera=()" in headers["Permissions-Policy"]


def test_where_the_world_comes_over_https_it_stays_there(made: Made) -> None:
    """One plain request is enough to be robbed."""
    door = made(PUBLIC_URL="https://passwords.example.test")
    assert "max-age=31536000" in door.http.get("/reveal").headers["Strict-Transport-Security"]


def test_an_exception_in_a_view_tells_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stack traces name versions, paths and, in locals, secrets. The log has it."""

    def break_down() -> None:
        raise RuntimeError("the key is hunter2")

    monkeypatch.setattr(http, "page_limit", break_down)
    answer = made().http.get("/passwords")
    assert (answer.status_code, answer.json["code"]) == (500, "internal-error")
    assert not [word for word in ("hunter2", "RuntimeError", "Traceback", ".py", "flask") if word in answer.text]


def test_a_gatekeeper_that_breaks_lets_nobody_in(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be decided is refused: an error on the way in is an answer, not a way around."""
    door = made(AUTH="", JWT_SECRET=SECRET)
    monkeypatch.setattr("pulsaga.web.access.gatekeeper.right_to", lambda *_: 1 / 0)
    with door.app.test_request_context("/passwords"):
        assert "caller" not in g
    assert door.http.get("/passwords", headers=known(door, "shop")).status_code == 500
