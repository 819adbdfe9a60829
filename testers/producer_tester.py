"""Send any registered message to a running broker, well-formed or broken on purpose.

python testers/producer_tester.py generador.generate-password --field username=ada
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file and with -m alike

from testers.common import connected, listed, registered, run, topics_of

from pulsaga.broker import Broker, Wire
from pulsaga.delivery.avro import Codec
from pulsaga.delivery.messages import Context, Message, id_time, new_id, properties_of
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.errors import MessageRejected, Unavailable
from pulsaga.settings import Settings

SOURCE = "/protools/testers"
UNKNOWN_TYPE = "nobody.knows-this"
BATCH = 500
LONGEST_NAP_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Order:
    """Hold what the command line asked for."""

    message: type[Any]
    values: Mapping[str, Any]
    key: str | None = None
    id: str | None = None
    subject: str | None = None
    actor: str | None = None
    command_id: str | None = None
    version: int | None = None
    count: int = 1
    rate: float | None = None
    duplicate: bool = False
    unknown_type: bool = False
    corrupt: bool = False


# --- the command line


class MessageName(click.ParamType[type[Any]]):
    """Read a wire name as its class; list what exists when there is none."""

    name = "message"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> type[Any]:
        """Return the class of a wire name."""
        known = registered()
        if value not in known:
            self.fail(f"{value!r} is not registered. There are:\n{listed(known)}", param, ctx)
        return known[value]


class Identifier(click.ParamType[str]):
    """Read an id, which every reader wants to be a UUIDv7."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id as it is."""
        try:
            id_time(value)
        except MessageRejected as wrong:
            self.fail(str(wrong), param, ctx)
        return str(value)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("message", type=MessageName())
@click.option("--json", "json_text", default="{}", help="The body as a JSON object.")
@click.option("--field", "given", multiple=True, metavar="NAME=VALUE", help="One field of the body; beats --json.")
@click.option("--key", type=Identifier(), help="Saga id, the partition key. [default: a new one for each message]")
@click.option("--id", type=Identifier(), help="ce_id. [default: a new one; of a command that begins a saga, the key]")
@click.option("--subject", help="ce_subject. [default: the username, else the key]")
@click.option("--actor", help="ce_actor, on whose behalf.")
@click.option("--command-id", type=Identifier(), help="Of a reply: the command that it answers.")
@click.option("--version", type=click.IntRange(min=1), help="Of an event: the version of its aggregate.")
@click.option("--count", type=click.IntRange(min=1), default=1, help="How many. {n} in a text counts from 1.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many a second.")
@click.option("--duplicate", is_flag=True, help="Send each twice under the same ce_id.")
@click.option("--unknown-type", is_flag=True, help=f"Say a ce_type that nobody knows ({UNKNOWN_TYPE}).")
@click.option("--corrupt", is_flag=True, help="Send bytes that are not Avro of the schema.")
def produce(message: type[Any], json_text: str, given: Sequence[str], **rest: Any) -> None:
    """Send MESSAGE (a wire name, such as generador.generate-password) and print what was sent."""
    order = Order(message=message, values=values_of(message, json_text, given), **rest)
    codec = Codec()
    wires_of(order, codec, 1)  # a body that cannot be sent is refused before anything is
    settings = Settings.read()
    require_topic(settings, message.contract.name)
    with connected(settings) as broker:
        send(broker, order, codec)


def require_topic(settings: Settings, topic: str) -> None:
    """Raise Unavailable when the broker has no such topic: sending would make one that nobody reads."""
    if topic not in topics_of(settings):
        raise Unavailable(f"{topic} is no topic of {settings.broker_url} yet: run `protools bootstrap`")


# --- the body


def values_of(message: type[Any], json_text: str, given: Sequence[str]) -> dict[str, Any]:
    """Read the body's values from JSON and from NAME=VALUE pairs, each by the type of its field."""
    try:
        values = json.loads(json_text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--json") from None
    if not isinstance(values, dict):
        raise click.BadParameter("an object is needed", param_hint="--json")
    hints = get_type_hints(message)
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--field")
        values[name] = _read_text(hints.get(name, str), text)
    return values


def _read_text(hint: Any, text: str) -> Any:
    if hint is str or str in get_args(hint):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # `body_of` says what is wrong with it


def body_of(cls: type, values: Mapping[str, Any], place: str = "") -> Any:
    """Build a body or a part of one; raise BadParameter naming the field that does not fit."""
    known: dict[str, Field[Any]] = {field.name: field for field in fields(cls)}
    for name in values:
        if name not in known:
            raise _wrong(place + name, f"no such field; there are: {', '.join(known)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise _wrong(place + name, "is missing")
    hints = get_type_hints(cls)
    return cls(**{name: _checked(hints[name], value, place + name) for name, value in values.items()})


def _checked(hint: Any, value: Any, place: str) -> Any:
    if get_origin(hint) in (list, tuple) and isinstance(value, list):
        each = get_args(hint)[0]
        return get_origin(hint)(_checked(each, one, f"{place}/{number}") for number, one in enumerate(value))
    if is_dataclass(hint) and isinstance(value, dict):
        return body_of(cast(type, hint), value, f"{place}/")
    allowed = get_args(hint) or (hint,)
    if type(value) is int and float in allowed:
        return float(value)
    if type(value) not in allowed:
        raise _wrong(place, f"{json.dumps(value)} is not of type {getattr(hint, '__name__', hint)}")
    return value


def _wrong(place: str, problem: str) -> click.BadParameter:
    return click.BadParameter(problem, param_hint=f"field {place}")


def counted(value: Any, n: int) -> Any:
    """Replace {n} in every text of a JSON value."""
    if isinstance(value, str):
        return value.replace("{n}", str(n))
    if isinstance(value, dict):
        return {name: counted(part, n) for name, part in value.items()}
    return [counted(part, n) for part in value] if isinstance(value, list) else value


# --- the messages


def wires_of(order: Order, codec: Codec, n: int) -> list[Wire]:
    """Make the n-th message, in as many copies as asked for."""
    message = message_for(order, n)
    wire = Wire(message.contract.name, message.saga_id, properties_of(message), codec.encode(message.body))
    if order.unknown_type:
        wire = wire._replace(properties={**wire.properties, "ce_type": UNKNOWN_TYPE})
    if order.corrupt:
        wire = wire._replace(body=_never_ending_number(message.id))
    return [wire, wire] if order.duplicate else [wire]


def message_for(order: Order, n: int) -> Message:
    """Put the n-th body in its envelope."""
    body, key = body_of(order.message, counted(order.values, n)), order.key or new_id()
    begins_saga = order.key is None and order.message.contract.kind == "command"
    return Message(
        body=body,
        id=order.id or (key if begins_saga else new_id()),
        source=SOURCE,
        subject=order.subject or str(getattr(body, "username", key)),
        time=rfc3339(time.time()),
        context=Context(saga_id=key, actor=order.actor),
        command_id=order.command_id,
        version=order.version,
    )


def _never_ending_number(identifier: str) -> bytes:
    """Return bytes that announce one more byte each: no Avro length, number or choice ends, and no two are equal."""
    return bytes(byte | 0x80 for byte in uuid.UUID(identifier).bytes)


# --- the sending


def send(broker: Broker, order: Order, codec: Codec) -> None:
    """Publish what was ordered, no faster than its rate; print each message once it is stored."""
    began, printed = time.monotonic(), 0
    try:
        for first, last in portions(order, began):
            wires = [wire for n in range(first, last) for wire in wires_of(order, codec, n)]
            broker.publish(wires)
            for wire in wires:
                click.echo(line_of(wire))
            printed += len(wires)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        click.echo(f"sent {printed} in {time.monotonic() - began:.2f} s", err=True)


def portions(order: Order, began: float) -> Iterator[tuple[int, int]]:
    """Yield the numbers `first` to before `last` of what is due, napping while nothing is."""
    sent = 0
    while sent < order.count:
        due = due_now(order, time.monotonic() - began, sent)
        if due:
            yield sent + 1, sent + due + 1
            sent += due
        else:
            time.sleep(min(LONGEST_NAP_S, 1 / (order.rate or 1)))


def due_now(order: Order, elapsed_s: float, sent: int) -> int:
    """Tell how many of the remaining messages may go now, at most one batch; the first goes at once."""
    allowed = order.count if order.rate is None else min(order.count, 1 + int(elapsed_s * order.rate))
    return min(BATCH, allowed - sent)


def line_of(wire: Wire) -> str:
    """Say in one line what was sent."""
    said = wire.properties["ce_type"]
    other_type = f" type={said}" if said != wire.topic else ""
    return f"{wire.topic} id={wire.properties['ce_id']} saga={wire.key}{other_type} {len(wire.body)} bytes"


if __name__ == "__main__":
    run(produce)
