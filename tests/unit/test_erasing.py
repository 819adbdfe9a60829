"""Erase a person from one record: what is theirs goes, what only looks like it stays."""

from __future__ import annotations

from typing import Any

import pytest

from correo.messages import PasswordMailSent
from correo.tables import mail, mail_view
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.messages import Context, Message, contract_of, new_id, properties_of
from pulsaga.delivery.tables import dead_letter, event, heartbeat, pack, pack_delivery, unpack, unpack_delivery
from pulsaga.operate.erasing import ERASED, Eraser, Person, _changes, _text
from usuarios.messages import UserChanged

ADA = Person("u", frozenset({"ada", 'Zoë "Z"', "sent", "username"}), frozenset({"ada@example.test"}))
NAMED, BLANKED = frozenset({"username", "subject", "ce_subject", "aggregate"}), frozenset({"last_name", "phone"})
CODEC = Codec()


@pytest.fixture
def eraser() -> Eraser:
    return Eraser(ADA, NAMED, BLANKED, b"k" * 32)


def wire(body: Any, subject: str = "ada", saga_id: str = "") -> Wire:
    message = Message(body, new_id(), "/test", subject, "2026-01-01T00:00:00.000Z", Context(saga_id or new_id()))
    return Wire(contract_of(body).name, message.saga_id, properties_of(message), CODEC.encode(body))


def sent(username: str = "ada", email: str = "ada@example.test") -> PasswordMailSent:
    return PasswordMailSent(new_id(), username, email, "sent", 1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("place", "said", "left"),
    [
        ("username", "ada", "#"),
        ("username", "adam", "adam"),
        ("status", "sent", "sent"),
        ("nombre", "ada", "ada"),
        ("recipient", "ada@example.test", "#"),
        ("detail", "ada already has a password", "# already has a password"),
        ("detail", "550 <ada@example.test>: adam, x.ada@example.test", "550 <#>: adam, x.ada@example.test"),
        ("recipient", "ada@example.test.org", "ada@example.test.org"),
        ("phone", "1", ""),
        (
            "progress",
            '{"data":{"username":"ada","status":"sent","phone":"1"},"n":1}',
            '{"data":{"username":"#","status":"sent","phone":""},"n":1}',
        ),
        ("progress", '{"username":"Zo\\u00eb \\"Z\\""}', '{"username":"#"}'),
        ("progress", "{no json", "{no json"),
        ("username", "", ""),
    ],
)
def test_what_names_a_person_is_hidden_where_names_stand(eraser: Eraser, place: str, said: str, left: str) -> None:
    """Whoever calls themself as a status or a field is called changes no status and no field."""
    assert ERASED.sub("#", _text(place, said, eraser.erased)) == left


def test_one_name_is_one_hash_of_one_person_under_one_key(eraser: Eraser) -> None:
    """What belonged together still does; who comes back can be erased again; nobody can try names."""
    assert eraser.hide("ada") == eraser.hide("ada") != eraser.hide("ada@example.test")
    assert Eraser(Person("v", ADA.usernames), NAMED, BLANKED, b"k" * 32).hide("ada") != eraser.hide("ada")
    assert Eraser(ADA, NAMED, BLANKED, b"l" * 32).hide("ada") != eraser.hide("ada")


def test_a_row_that_is_about_nobody_stays(eraser: Eraser) -> None:
    """What is called as the user is, in another place, is something else."""
    row = {
        "id": new_id(),
        "username": "eve",
        "recipient": "eve@example.test",
        "status": "sent",
        "error": "adam is not here",
    }
    assert _changes(mail_view, row, eraser) == {}


def test_a_row_loses_names_and_words_and_who_read_it_before_cannot_write_them_back(eraser: Eraser) -> None:
    """The revision moves on, so a worker that holds the row has to read it again."""
    row = {"id": new_id(), "username": "ada", "recipient": "ada@example.test", "status": "sent", "revision": 3}
    changed = _changes(mail, row, eraser)
    assert changed == {"username": eraser.hide("ada"), "recipient": eraser.hide("ada@example.test"), "revision": 4}


def test_a_message_that_is_kept_is_written_anew_under_its_schema(eraser: Eraser) -> None:
    """Envelope and body; ids and numbers stay, so that it is still the answer that it was."""
    before = wire(sent())
    row = {"aggregate": "ada", "version": 1, "id": new_id(), "type": before.topic, "wire": pack(before), "at": 0.0}
    changed = _changes(event, row, eraser)
    after = unpack(changed["wire"])
    body = CODEC.decode(PasswordMailSent, after.body, CommittedSchemas()[after.properties["ce_dataschema"]])
    assert (body.username, body.email) == (eraser.hide("ada"), eraser.hide("ada@example.test"))
    assert (after.topic, after.key, after.properties["ce_id"]) == (before.topic, before.key, before.properties["ce_id"])
    assert after.properties["ce_subject"] == changed["aggregate"] == eraser.hide("ada")


def test_a_word_is_erased_in_a_persons_record_alone(eraser: Eraser) -> None:
    """Others are called Lovelace, too."""
    state = ("u", "ada", "Ada", "Lovelace", "", "ada@example.test", False, True, 0.0, 0.0, 0.0)
    theirs = {"aggregate": "u", "version": 1, "wire": pack(wire(UserChanged(*state)))}
    others = {
        "aggregate": "v",
        "version": 1,
        "wire": pack(wire(UserChanged("v", "eve", *state[2:5], "e@x.test", *state[6:]), "eve")),
    }
    assert b"Lovelace" not in _changes(event, theirs, eraser)["wire"]
    assert unpack(_changes(event, theirs, eraser)["wire"]).properties["ce_type"] == "usuarios.user-changed"
    assert _changes(event, others, eraser) == {}


def test_what_belongs_to_a_saga_about_the_person_is_theirs(eraser: Eraser) -> None:
    """An incident names the saga; the name stands in its words alone."""
    saga_id = new_id()
    incident = {"id": new_id(), "subject": saga_id, "detail": "ada already has a password"}
    from pulsaga.delivery.tables import incident as incidents

    assert _changes(incidents, incident, eraser) == {}
    _changes(event, {"aggregate": "x", "version": 1, "wire": pack(wire(sent(), saga_id=saga_id))}, eraser)
    assert ERASED.sub("#", _changes(incidents, incident, eraser)["detail"]) == "# already has a password"


def test_what_a_process_says_of_itself_is_emptied_where_it_names_the_person(eraser: Eraser) -> None:
    """A heartbeat is about nobody; its last error may be about anybody."""
    row = {
        "id": new_id(),
        "kind": "worker",
        "replica": "ada",
        "last_error": "ValueError: ada, again",
        "waits_for": None,
    }
    assert _changes(heartbeat, row, eraser) == {"last_error": ""}
    assert _changes(heartbeat, {**row, "last_error": "ValueError: adam"}, eraser) == {}


def test_a_dead_letter_that_cannot_be_read_is_blanked(eraser: Eraser) -> None:
    """Its envelope says whom it is about; what its bytes hold nobody knows."""
    broken = wire(sent())._replace(body=b"\xffada@example.test")
    row = {"id": new_id(), "delivery": pack_delivery(Delivery(broken, "1", None)), "error": "unreadable"}
    after = unpack_delivery(_changes(dead_letter, row, eraser)["delivery"]).wire
    assert after.body == bytes(len(broken.body))
    assert after.properties["ce_subject"] == eraser.hide("ada")
