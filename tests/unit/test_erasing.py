"""Erase a person from one record: what is theirs goes, what only looks like it stays."""

from __future__ import annotations

from typing import Any

import pytest

from correo.messages import PasswordMailSent
from correo.tables import mail, mail_view
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.messages import Context, Message, contract_of, new_id, properties_of
from pulsaga.delivery.tables import dead_letter, event, pack, pack_delivery, unpack, unpack_delivery
from pulsaga.operate.erasing import ERASED, Eraser, Person, _changes
from usuarios.messages import UserChanged

ADA = Person(frozenset({"ada", "ada@example.test", 'Zoë "Z"'}), frozenset({"Lovelace", ""}))
CODEC = Codec()


@pytest.fixture
def eraser() -> Eraser:
    return Eraser(ADA, b"k" * 32)


def wire(body: Any, subject: str = "ada", saga_id: str = "") -> Wire:
    message = Message(body, new_id(), "/test", subject, "2026-01-01T00:00:00.000Z", Context(saga_id or new_id()))
    return Wire(contract_of(body).name, message.saga_id, properties_of(message), CODEC.encode(body))


def sent(username: str = "ada", email: str = "ada@example.test") -> PasswordMailSent:
    return PasswordMailSent(new_id(), username, email, "sent", 1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("ada", "#"),
        ("ada already has a password", "# already has a password"),
        ("550 <ada@example.test>: no such user", "550 <#>: no such user"),
        ("to ada@example.test.", "to #."),
        ("adam, bada, ada_b, x.ada@example.test", "adam, bada, ada_b, x.ada@example.test"),
        ("ada@example.test.org", "ada@example.test.org"),
        ("Ms Lovelace", "Ms #"),
        ('{"username":"ada","x":"adam"}', '{"username":"#","x":"adam"}'),
        ('{"username":"Zoë \\"Z\\""}', '{"username":"#"}'),
        ('{"username":"Zo\\u00eb \\"Z\\""}', '{"username":"#"}'),
        ("", ""),
    ],
)
def test_what_is_a_persons_is_hidden_and_nothing_else(eraser: Eraser, said: str, left: str) -> None:
    """Letters that are a part of another name are not theirs."""
    assert ERASED.sub("#", eraser.hide(said)) == left


def test_one_value_becomes_one_hash_under_one_key(eraser: Eraser) -> None:
    """So that rows which belonged together still do; without the key nobody can try names."""
    assert eraser.hide("ada") == eraser.hide("ada") != eraser.hide("ada@example.test")
    assert Eraser(ADA, b"l" * 32).hide("ada") != eraser.hide("ada")
    assert eraser.hide(eraser.hide("ada")) == eraser.hide("ada")


def test_a_row_that_is_about_nobody_stays(eraser: Eraser) -> None:
    """A product may be called as a user is; but what is called just so is taken for the user."""
    row = {"id": new_id(), "username": "eve", "recipient": "eve@example.test", "error": "ada@example.test is not here"}
    assert _changes(mail_view, row, eraser) == {}


def test_a_row_loses_names_and_words_and_who_read_it_before_cannot_write_them_back(eraser: Eraser) -> None:
    """The revision moves on, so a worker that holds the row has to read it again."""
    row = {"id": new_id(), "username": "ada", "recipient": "ada@example.test", "error": "Lovelace?", "revision": 3}
    changed = _changes(mail, row, eraser)
    assert changed.keys() == {"username", "recipient", "error", "revision"}
    assert (changed["revision"], ERASED.sub("#", changed["error"])) == (4, "#?")


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
    assert _changes(event, others, eraser) == {}


def test_what_belongs_to_a_saga_about_the_person_is_theirs(eraser: Eraser) -> None:
    """An incident names the saga; the name stands in its words alone."""
    saga_id = new_id()
    incident = {"id": new_id(), "subject": saga_id, "detail": "ada already has a password"}
    from pulsaga.delivery.tables import incident as incidents

    assert _changes(incidents, incident, eraser) == {}
    _changes(event, {"aggregate": "x", "version": 1, "wire": pack(wire(sent(), saga_id=saga_id))}, eraser)
    assert ERASED.sub("#", _changes(incidents, incident, eraser)["detail"]) == "# already has a password"


def test_a_dead_letter_that_cannot_be_read_is_blanked(eraser: Eraser) -> None:
    """Its envelope says whom it is about; what its bytes hold nobody knows."""
    broken = wire(sent())._replace(body=b"\xffada@example.test")
    row = {"id": new_id(), "delivery": pack_delivery(Delivery(broken, "1", None)), "error": "unreadable"}
    after = unpack_delivery(_changes(dead_letter, row, eraser)["delivery"]).wire
    assert after.body == bytes(len(broken.body))
    assert after.properties["ce_subject"] == eraser.hide("ada")
