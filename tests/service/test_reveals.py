"""Hold front door and vault to one reveal per password, over the HTTP that is between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.service.rooms import Room, keep_password, room
from tests.service.web import serving

from bff.vault import REVEALS
from generador import vault
from generador.tables import password, password_view
from pulsaga.delivery.tables import event
from pulsaga.web.access.tokens import service_token

ROUTE = f"generador POST {REVEALS}"
TOKEN = vault.new_token()
PLAIN = "correct-horse-battery"


@pytest.fixture
def bff(tmp_path: Path, generador: Room) -> Iterator[Room]:
    with serving(generador.app) as web:
        made = room("bff", tmp_path, GENERADOR_URL=web.url)
        yield made
        made.close()


@pytest.fixture
def ada(generador: Room) -> None:
    keep_password(generador, "ada", PLAIN, TOKEN)


@pytest.mark.usefixtures("ada")
def test_a_link_reveals_once(bff: Room, generador: Room) -> None:
    """The second one to come may be the thief, or may be told by the first that there was one."""
    first = bff.http.post("/reveals", json={"token": TOKEN})
    assert (first.status_code, first.json) == (200, {"username": "ada", "password": PLAIN})
    assert first.headers["Cache-Control"] == "no-store"
    again = bff.http.post("/reveals", json={"token": TOKEN})
    assert (again.status_code, again.json["code"]) == (410, "already-revealed")
    assert [row["sealed_key"] for row in generador.rows(password)] == [None]
    assert [row["version"] for row in generador.rows(event)] == [2]


@pytest.mark.usefixtures("ada")
def test_a_link_reveals_in_xml_as_well(bff: Room) -> None:
    """Both faces, here too."""
    headers = {"Content-Type": "application/xml"}
    answer = bff.http.post("/reveals", data=f"<reveal><token>{TOKEN}</token></reveal>", headers=headers)
    assert f"<password>{PLAIN}</password>" in answer.text


@pytest.mark.parametrize("token", ["nonsense", vault.new_token(), "é\x00"], ids=["nonsense", "new", "strange"])
def test_a_token_that_nobody_was_sent_is_unknown(bff: Room, token: str) -> None:
    """404, whatever the text."""
    answer = bff.http.post("/reveals", json={"token": token})
    assert (answer.status_code, answer.json["code"]) == (404, "unknown-token")


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": 1}, {"token": "t", "more": 1}, []])
def test_a_body_without_a_token_is_refused_at_the_door(bff: Room, body: object) -> None:
    """Only what may be a token is passed on."""
    assert bff.http.post("/reveals", json=body).status_code == 422


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(
    "authorization", [None, "Bearer nonsense", "Bearer é", f"Bearer {service_token(b'x' * 32, 'bff', ROUTE)}"]
)
def test_the_vault_opens_to_the_front_door_alone(generador: Room, authorization: str | None) -> None:
    """Whoever reaches generador's port must not be able to try tokens there."""
    headers = {"Authorization": authorization} if authorization else {}
    answer = generador.http.post("/internal/reveals", json={"token": TOKEN}, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert [row["status"] for row in generador.rows(password)] == ["issued"]


@pytest.mark.usefixtures("ada")
def test_a_question_that_comes_too_late_consumes_nothing(generador: Room) -> None:
    """A generador that hung must not, once it wakes, reveal to a caller who has gone."""
    badge = service_token(generador.runtime.settings.key("INTERNAL_TOKEN"), "bff", ROUTE)
    headers = {"Authorization": f"Bearer {badge}"}
    late = {"token": TOKEN, "answer_by": 1.0}
    assert generador.http.post("/internal/reveals", json=late, headers=headers).status_code == 503
    assert [row["status"] for row in generador.rows(password)] == ["issued"]


STRANGE = [(200, b"{}"), (200, b"<html>"), (401, b"{}"), (404, b"<html>"), (404, b"[]"), (410, b"{}"), (429, b"null")]


@pytest.mark.parametrize(("status", "body"), STRANGE)
def test_what_a_proxy_answers_in_the_place_of_the_vault_is_no_answer(tmp_path: Path, status: int, body: bytes) -> None:
    """503, and the link stays good: a gateway's own 404 must be neither the vault's nor an error of ours."""

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as gateway:
        threading.Thread(target=gateway.serve_forever).start()
        door = room("bff", tmp_path, GENERADOR_URL=f"http://127.0.0.1:{gateway.server_port}")
        wishes = {"/reveals": {"token": TOKEN}, "/verifications": {"username": "ada", "password": PLAIN}}
        statuses = [door.http.post(path, json=wish).status_code for path, wish in wishes.items()]
        gateway.shutdown()
        door.close()
    assert statuses == [503, 503]


def test_a_front_door_that_the_vault_does_not_know_answers_503(tmp_path: Path, generador: Room) -> None:
    """A wrong INTERNAL_TOKEN is our trouble: the link stays good, and the log says why."""
    with serving(generador.app) as web:
        bff = room(
            "bff", tmp_path, GENERADOR_URL=web.url, INTERNAL_TOKEN="eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg="
        )
        assert bff.http.post("/reveals", json={"token": TOKEN}).status_code == 503
        bff.close()


def test_the_vault_shows_a_password_without_its_secret(generador: Room) -> None:
    """State is for everybody who may ask, the secret for one."""
    generador.write_view(password_view, username="a/da", version=2, status="revealed", issued_at=1.0, changed_at=2.0)
    shown = generador.http.get("/passwords/a%2Fda")
    assert shown.json["status"] == "revealed"
    assert list(shown.json) == ["username", "status", "version", "issuedAt", "changedAt", "links"]
    assert generador.http.get("/passwords/eve").status_code == 404
