"""Verify passwords over the HTTP between front door and vault: yes or no, and slower after each failure."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, make_desk
from tests.service.rooms import Room, eventually, keep_password, room
from tests.service.stage import POSTGRESQL, Gate, settings_on
from tests.service.web import serving

from bff.vault import VERIFICATIONS
from generador import verification
from generador.domain import destroyed, shown
from generador.tables import failed_attempt, password
from seedwork.rows import Row
from seedwork.tokens import service_token

ROUTE = f"generador POST {VERIFICATIONS}"
RIGHT = "a-password-that-was-drawn"


@pytest.fixture
def bff(tmp_path: Path, generador: Room) -> Iterator[Room]:
    with serving(generador.app) as web:
        made = room("bff", tmp_path, GENERADOR_URL=web.url)
        yield made
        made.close()


@pytest.fixture
def ada(generador: Room) -> None:
    keep_password(generador, "ada", RIGHT, "token")


def change(generador: Room, values: Row) -> None:
    """Change ada's row."""
    with generador.runtime.write.begin() as tx:
        tx.execute(password.update().values(values))


def ask(bff: Room, username: str, given: str, address: str = "127.0.0.1") -> Any:
    """Ask whether it is the password."""
    body = {"username": username, "password": given}
    return bff.http.post("/verifications", json=body, environ_base={"REMOTE_ADDR": address})


def pass_time(generador: Room, seconds: float) -> None:
    """Move the vault's clock on."""
    relay = generador.runtime.relay
    relay._speaker = replace(relay._speaker, clock_offset=relay._speaker.clock_offset + seconds)


@pytest.mark.usefixtures("ada")
def test_a_valid_password_is_known_before_and_after_it_was_shown(bff: Room, generador: Room) -> None:
    """The plain text is destroyed when it is shown; from then on it is its user who has it."""
    assert ask(bff, "ada", RIGHT).status_code == 204
    change(generador, shown("revealed", 1.0))
    answer = ask(bff, "ada", RIGHT)
    assert (answer.status_code, answer.data, answer.headers["Cache-Control"]) == (204, b"", "no-store")


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("username", ["ada", "nobody-there"])
def test_a_wrong_password_and_an_unknown_user_are_told_alike(bff: Room, username: str) -> None:
    """Else whoever asks learns who has an account."""
    answer = ask(bff, username, "wrong")
    assert (answer.status_code, answer.json["code"]) == (401, "wrong-password")
    assert answer.json == ask(bff, "another", "wrong").json
    assert "WWW-Authenticate" in answer.headers


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("username", ["ada", "nobody-there"])
def test_the_same_work_is_done_whoever_is_named(
    generador: Room, username: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time tells, too: one hash and one comparison of 32 bytes, always."""
    compared: list[tuple[int, int]] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append((len(known), len(given)))
        return hmac.compare_digest(known, given)

    class Watched:
        compare_digest = staticmethod(compare)
        digest = staticmethod(hmac.digest)

    monkeypatch.setattr(verification, "hmac", Watched)
    assert not verification.verify(generador.runtime, username, "wrong", "a")
    assert compared == [(32, 32)]


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("status", ["revoked", "expired", "superseded"])
def test_a_password_that_is_not_valid_any_more_is_wrong(bff: Room, generador: Room, status: str) -> None:
    """Revoked is revoked, even for who remembers it."""
    change(generador, destroyed(status, 1.0))
    assert ask(bff, "ada", RIGHT).status_code == 401


@pytest.mark.usefixtures("ada")
def test_it_is_spoken_in_xml_as_well(bff: Room) -> None:
    """Both faces, here too."""
    body = f"<verification><username>ada</username><password>{RIGHT}</password></verification>"
    answer = bff.http.post("/verifications", data=body, headers={"Content-Type": "application/xml"})
    assert answer.status_code == 204


@pytest.mark.parametrize("body", [{}, {"username": "ada"}, {"username": "", "password": "x"}, {"password": 1}, []])
def test_what_cannot_be_a_password_of_anybody_is_not_asked(bff: Room, body: object) -> None:
    """422, and nothing is counted."""
    assert bff.http.post("/verifications", json=body).status_code == 422


# --- slower after each failure


def test_each_failure_after_the_fourth_costs_twice_the_wait_up_to_a_minute() -> None:
    """Guessing must not pay, and one who mistypes, or is mistyped by another, must not be locked out for long."""
    rows = [verification._failed_again({"failures": before}, 5, 0.0) for before in range(13)]
    assert [row["again_at"] for row in rows] == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("username", ["ada", "nobody-there"])
def test_who_failed_often_waits_even_with_the_right_password(bff: Room, generador: Room, username: str) -> None:
    """An answer before its time would be a guess that cost nothing; and unknown names are no faster."""
    for number in range(11):
        assert ask(bff, username, "wrong", f"10.0.0.{number}").status_code == 401
        pass_time(generador, 60 if number < 10 else 0)
    early = ask(bff, username, RIGHT, "10.0.1.1")
    assert (early.status_code, early.json["code"]) == (429, "too-many-attempts")
    assert 0 < int(early.headers["Retry-After"]) <= 60
    pass_time(generador, 60)
    assert ask(bff, username, RIGHT, "10.0.1.1").status_code == (204 if username == "ada" else 401)


def test_many_names_from_one_address_are_slowed_down_as_well(bff: Room, generador: Room) -> None:
    """Who tries one password with every name would never fail twice with the same."""
    key = verification._key_of(generador.runtime.settings.key("INTERNAL_TOKEN"), "address", "10.0.0.1")
    row = {"key": key, "revision": 1, "failures": 1005, "again_at": time.time()}
    with generador.runtime.write.begin() as tx:
        tx.execute(failed_attempt.insert().values(row))
    assert [ask(bff, name, "wrong", "10.0.0.1").status_code for name in ("u1", "u2")] == [401, 429]
    assert ask(bff, "u2", "wrong", "10.9.9.9").status_code == 401


@pytest.mark.usefixtures("ada")
def test_a_success_forgives_the_name_and_not_the_address(bff: Room, generador: Room) -> None:
    """Else who has one account of its own could reset the counter between its guesses."""
    for number in range(4):
        ask(bff, "ada", "wrong")
        ask(bff, f"u{number}", "wrong")
    assert ask(bff, "ada", RIGHT).status_code == 204
    assert sorted(row["failures"] for row in generador.rows(failed_attempt)) == [1, 1, 1, 1, 8]


@pytest.fixture(params=[POSTGRESQL])
def vaults(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Desk]]:
    """Two processes of the vault on one database that locks rows; the other kind of database locks whole."""
    settings = settings_on(request, tmp_path)
    desks = [make_desk(settings, "generador") for _ in range(2)]
    yield desks
    for desk in desks:
        desk.runtime.write.dispose()


def test_of_two_failures_at_the_same_moment_one_is_counted_and_one_sent_back(vaults: list[Desk]) -> None:
    """Guesses side by side must not be free: none is looked at that is not counted."""
    first, second = vaults
    gate, outcomes = Gate(first), list[str]()

    def attempt(desk: Desk) -> None:
        try:
            outcomes.append(str(verification.verify(desk.runtime, "ada", "wrong", "10.0.0.1")))
        except verification.TooManyAttempts:
            outcomes.append("too many")

    threads = [threading.Thread(target=attempt, args=(desk,)) for desk in vaults]
    threads[0].start()
    assert gate.reached.wait(PATIENCE_S)
    threads[1].start()
    eventually(lambda: waits_for_a_lock(second), PATIENCE_S)
    gate.open.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(outcomes) == ["False", "too many"]
    assert [row["failures"] for row in first.rows(failed_attempt)] == [1, 1]


def waits_for_a_lock(desk: Desk) -> bool:
    """Tell whether anybody waits for a lock on this desk's server."""
    with desk.runtime.write.connect() as connection:
        return connection.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted")).first() is not None


def test_failures_are_forgotten_after_an_hour(bff: Room, generador: Room) -> None:
    """The table is bounded by the failures of an hour, and names nobody."""
    for _ in range(6):
        ask(bff, "hedy", "wrong")
    assert "hedy" not in repr(generador.rows(failed_attempt))  # whose letters no hexadecimal has
    forget = verification.forget_attempts(generador.runtime)
    forget.work()
    assert len(generador.rows(failed_attempt)) == 2
    pass_time(generador, 3700)
    forget.work()
    assert generador.rows(failed_attempt) == []


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("authorization", [None, "Bearer nonsense", f"Bearer {service_token(b'x' * 32, 'bff', ROUTE)}"])
def test_the_vault_answers_the_front_door_alone(generador: Room, authorization: str | None) -> None:
    """Past the front door nobody would be slowed down by its address."""
    headers = {"Authorization": authorization} if authorization else {}
    body = {"username": "ada", "password": RIGHT, "address": "x"}
    answer = generador.http.post("/internal/verifications", json=body, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
