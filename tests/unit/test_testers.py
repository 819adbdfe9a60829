"""Hold the testers to what they read, make and print, without a broker."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import pytest
from click.testing import CliRunner
from testers.common import registered
from testers.consumer_tester import Seen, json_of, known_topics, line_of, read
from testers.producer_tester import Order, body_of, counted, due_now, produce, values_of, wires_of

from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.errors import Undecodable
from system import SYSTEM

K6 = Path(__file__).parents[2] / "k6" / "password.js"
PASSWORD = "generador.generate-password"
MOVED = "protools_saga.saga-moved"
SAMPLES = {str: "text {n}", float: 1.5, int: 3, bool: True}
AVSC = json.dumps({"type": "record", "name": "One", "fields": [{"name": "text", "type": "string"}]})


def sample(hint: Any) -> Any:
    """Make a plain value that fits a field."""
    if get_origin(hint) in (list, tuple):
        return [sample(get_args(hint)[0])]
    if is_dataclass(hint):
        return {field.name: sample(get_type_hints(hint)[field.name]) for field in fields(hint)}
    return SAMPLES[(get_args(hint) or (hint,))[0]]


def order(name: str, **more: Any) -> Order:
    """Order one message of any type, with a body that fits."""
    cls = registered()[name]
    return Order(message=cls, values=sample(cls), **more)


@pytest.fixture(scope="module")
def codec() -> Codec:
    """The codec of the committed schemas."""
    return Codec()


# --- what there is


def test_every_message_of_every_service_can_be_sent(codec: Codec) -> None:
    """A new message type must be reachable without anybody touching the testers."""
    declared = {contract_of(cls).name for name in SYSTEM.names for cls in SYSTEM[name].messages}
    assert set(registered()) == declared
    assert all(wires_of(order(name), codec, 1)[0].topic == name for name in declared)


def test_an_unknown_message_is_answered_with_what_exists() -> None:
    """Nobody knows wire names by heart."""
    answer = CliRunner().invoke(produce, ["generador.make-password"])
    assert answer.exit_code == 2
    assert "generador.make-password" in answer.output
    assert all(name in answer.output for name in registered())


def test_an_unknown_topic_is_answered_with_what_exists() -> None:
    """The broker's own topics count, not what this program would expect there."""
    with pytest.raises(click.BadParameter, match=r"(?s)'nope'.*one\.topic.*two\.topic"):
        known_topics(["one.topic", "nope"], ["one.topic", "two.topic"])
    assert known_topics([], ["one.topic", "two.topic"]) == ["one.topic", "two.topic"]


# --- the body


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (PASSWORD, [], "field username: is missing"),
        (PASSWORD, ["--field", "user=ada"], "field user: no such field; there are: username"),
        (PASSWORD, ["--json", '{"username": 3}'], "field username: 3 is not of type str"),
        (PASSWORD, ["--json", "{"], "--json"),
        (PASSWORD, ["--json", "[]"], "--json"),
        (PASSWORD, ["--field", "username"], "--field"),
        (PASSWORD, ["--field", "username=ada", "--key", "1"], "--key"),
        (PASSWORD, ["--field", "username=ada", "--id", "1"], "--id"),
        (PASSWORD, ["--field", "username=ada", "--count", "0"], "--count"),
        (PASSWORD, ["--field", "username=ada", "--rate", "0"], "--rate"),
        (
            MOVED,
            ["--json", json.dumps(sample(registered()[MOVED]) | {"steps": [{}]})],
            "field steps: [{}] is not of type str",
        ),
        (MOVED, ["--json", json.dumps(sample(registered()[MOVED])), "--field", "moved_at=soon"], "field moved_at"),
    ],
)
def test_what_cannot_be_sent_is_named(name: str, arguments: list[str], said: str) -> None:
    """A body with a typo must not need a stack trace to be found; nothing is sent before."""
    answer = CliRunner().invoke(produce, [name, *arguments])
    assert answer.exit_code == 2
    assert said in answer.output


def test_a_field_is_read_by_its_type() -> None:
    """`--field username=007` is a name, `--field moved_at=7` is a time."""
    message = registered()[MOVED]
    values = values_of(message, '{"status": "RUNNING"}', ["subject=007", "moved_at=7", "status=COMPLETED"])
    assert values == {"subject": "007", "moved_at": 7, "status": "COMPLETED"}


def test_a_whole_number_fits_a_float() -> None:
    """JSON knows one kind of number."""
    body = body_of(registered()[MOVED], sample(registered()[MOVED]) | {"moved_at": 7})
    assert body.moved_at == 7.0
    assert isinstance(body.moved_at, float)


def test_n_counts_in_every_text() -> None:
    """A thousand commands for one user would be one command and 999 refusals."""
    assert counted({"a": "u{n}", "b": ["{n}{n}", 1], "c": None}, 7) == {"a": "u7", "b": ["77", 1], "c": None}


# --- the envelope


def test_a_command_without_a_key_begins_a_saga(codec: Codec) -> None:
    """Such a command's id is the saga's id, as the front door makes it."""
    (wire,) = wires_of(order(PASSWORD), codec, 1)
    assert wire.key == wire.properties["ce_id"] == wire.properties["ce_correlationid"]


def test_a_reply_says_what_it_answers(codec: Codec) -> None:
    """The coordinator finds the saga by the key and the step by the command id."""
    saga, command = new_id(), new_id()
    (wire,) = wires_of(
        order("generador.password-generated", key=saga, command_id=command, version=4, actor="ada"), codec, 1
    )
    said = wire.properties
    assert (wire.key, said["ce_commandid"], said["ce_version"], said["ce_actor"]) == (saga, command, "4", "ada")
    assert said["ce_id"] not in (saga, command)


def test_a_duplicate_is_the_same_message(codec: Codec) -> None:
    """An inbox is tested by the same id with the same body, nothing less."""
    first, second = wires_of(order(PASSWORD, duplicate=True), codec, 1)
    assert first == second


def test_an_unknown_type_lies_on_the_right_topic(codec: Codec) -> None:
    """Otherwise its consumer would never see it."""
    (wire,) = wires_of(order(PASSWORD, unknown_type=True), codec, 1)
    assert wire.topic == PASSWORD
    assert wire.properties["ce_type"] not in registered()


@pytest.mark.parametrize("name", registered())
def test_corrupt_bytes_are_of_no_schema(name: str, codec: Codec) -> None:
    """Bytes that could be read by chance would test nothing."""
    (wire,) = wires_of(order(name, corrupt=True), codec, 1)
    with pytest.raises(Undecodable):
        codec.decode(registered()[name], wire.body, CommittedSchemas()[wire.properties["ce_dataschema"]])


# --- the pace


def test_without_a_rate_everything_is_due() -> None:
    """In batches, for a batch is confirmed as one."""
    assert due_now(order(PASSWORD, count=700), 0.0, 0) == 500
    assert due_now(order(PASSWORD, count=700), 0.0, 500) == 200


def test_a_rate_lets_the_first_go_at_once_and_never_more_than_ordered() -> None:
    """At 10 a second eleven have gone after a second."""
    wish = order(PASSWORD, count=12, rate=10.0)
    assert [due_now(wish, elapsed, 0) for elapsed in (0.0, 0.05, 1.0, 60.0)] == [1, 1, 11, 12]
    assert due_now(wish, 0.05, 1) == 0


# --- what is printed


def found(body: bytes, **properties: str) -> Delivery:
    """A delivery as a browser hands it out."""
    return Delivery(
        Wire("one.topic", "a-saga", {"ce_id": "an-id", "ce_type": "one.topic", **properties}, body), "0", None
    )


def test_a_message_is_read_by_its_writers_schema() -> None:
    """The program may know another version, or none."""
    seen = read(found(b"\x06ada"), lambda _topic, _version: json.loads(AVSC))
    assert seen.body == {"text": "ada"}
    assert json.loads(json_of(seen)) == {
        "topic": "one.topic",
        "key": "a-saga",
        "schema": "0",
        "envelope": {"ce_id": "an-id", "ce_type": "one.topic"},
        "body": {"text": "ada"},
    }


def test_what_cannot_be_read_is_shown_all_the_same() -> None:
    """It is what one came to look for."""
    seen = read(found(b"\xff\xff"), lambda _topic, _version: json.loads(AVSC))
    assert "CANNOT BE READ" in line_of(seen)
    assert "ffff" in line_of(seen)
    assert json.loads(json_of(seen))["bytes"] == "//8="
    assert "error" in json.loads(json_of(seen))


def test_a_line_stays_a_line() -> None:
    """An envelope is written by anybody; a terminal obeys escape sequences."""
    line = line_of(Seen(found(b"", ce_actor="eve\n\x1b[2J", ce_type="other.type"), {"text": "ü\n"}))
    assert line.isprintable()
    assert "ü" in line
    assert " type=other.type actor=eve" in line


# --- k6


def test_the_load_script_needs_no_internet() -> None:
    """Remote imports are fetched at every run, by whoever runs it."""
    imported = re.findall(r"""(?:from|import|require\()\s*["']([^"']+)""", K6.read_text())
    assert imported
    assert all(re.fullmatch(r"k6(/\w+)?|\./\w+\.js", name) for name in imported)
