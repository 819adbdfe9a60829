"""Print the topics of a running broker, decoded by the schema each message was written with; leave no trace.

python testers/consumer_tester.py generador.password-generated --follow
"""

from __future__ import annotations

import io
import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import click
import fastavro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file and with -m alike

from testers.common import connected, listed, run, topics_of

from pulsaga.broker import Broker, Delivery, Subscription
from pulsaga.errors import Unavailable
from pulsaga.settings import Settings

BATCH = 500
WAIT_S = 1.0
NOTHING = "nothing here: a broker may forget what every service has read; --from latest shows what comes"
SHOWN = (
    ("type", "ce_type"),
    ("command", "ce_commandid"),
    ("cause", "ce_causationid"),
    ("version", "ce_version"),
    ("actor", "ce_actor"),
)
"""What a readable line says beside time, topic, saga and id, where there is something to say."""


@dataclass(frozen=True)
class Seen:
    """Hold one message as it was found: `body` when it could be read, else `error` and the bytes in base64."""

    delivery: Delivery
    body: Any = None
    error: str = ""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option("--from", "start", type=click.Choice(["earliest", "latest"]), default="earliest", show_default=True)
@click.option("--follow", is_flag=True, help="Stay for what comes; --from latest always does.")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many messages.")
@click.option("--key", help="Only messages of this saga.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole envelope.")
@click.option(
    "--quiet",
    "quiet_s",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds of silence that end it.",
)
def consume(topics: Sequence[str], start: str, follow: bool, quiet_s: float, **choice: Any) -> None:
    """Print the messages of TOPICs (all, when none is named), in order within each topic."""
    settings, patience_s = Settings.read(), None if follow or start == "latest" else quiet_s
    with suppress(KeyboardInterrupt):
        wanted = known_topics(topics, topics_of(settings))
        with connected(settings) as broker, closing(broker.browse(wanted, earliest=start == "earliest")) as found:
            if patience_s is None:
                click.echo(f"following {', '.join(topics) or 'every topic'}; Ctrl-C ends it", err=True)
            show(broker, arriving(found, patience_s), **choice)


def show(broker: Broker, deliveries: Iterator[Delivery], *, key: str | None, limit: int | None, as_json: bool) -> None:
    """Print what is wanted of what comes; say why it may be nothing."""
    schemas, nothing = schemas_of(broker), True
    wanted = (delivery for delivery in deliveries if key in (None, delivery.wire.key))
    for delivery in islice(wanted, limit):
        click.echo((json_of if as_json else line_of)(read(delivery, schemas)))
        nothing = False
    if nothing:
        click.echo(NOTHING, err=True)


def known_topics(asked: Sequence[str], existing: Sequence[str]) -> Sequence[str]:
    """Return the topics asked for, all when none is; list what exists when one does not."""
    for topic in asked:
        if topic not in existing:
            raise click.BadParameter(f"{topic!r} is no topic. There are:\n{listed(existing)}", param_hint="TOPIC")
    return asked or existing


# --- reading


def arriving(found: Subscription, patience_s: float | None) -> Iterator[Delivery]:
    """Yield what arrives until nothing did for `patience_s` seconds; without end when that is None."""
    while True:
        deliveries = found.receive(BATCH, patience_s or WAIT_S)
        if not deliveries and patience_s is not None:
            return
        yield from deliveries


def schemas_of(broker: Broker) -> Callable[[str, str], Any]:
    """Return what finds a writer's schema by topic and version, parsed once."""
    return cache(lambda topic, version: fastavro.parse_schema(json.loads(broker.schema(topic, version))))


def read(delivery: Delivery, schemas: Callable[[str, str], Any]) -> Seen:
    """Decode one message by its writer's schema, whether or not this program knows its type."""
    wire = delivery.wire
    if not delivery.schema:
        return Seen(delivery, error="it names no schema version")
    try:
        return Seen(
            delivery, fastavro.schemaless_reader(io.BytesIO(wire.body), schemas(wire.topic, delivery.schema), None)
        )
    except Unavailable:
        raise
    except Exception as error:  # whatever another's bytes make the reader raise
        return Seen(delivery, error=f"{type(error).__name__}: {error}")


# --- printing


def json_of(seen: Seen) -> str:
    """Write a message as one JSON object: topic, key, schema version, envelope, and body or error."""
    wire = seen.delivery.wire
    where = {"topic": wire.topic, "key": wire.key, "schema": seen.delivery.schema, "envelope": dict(wire.properties)}
    what = {"error": seen.error, "bytes": b64encode(wire.body).decode()} if seen.error else {"body": seen.body}
    return _json(where | what)


def line_of(seen: Seen) -> str:
    """Write a message as one readable line."""
    wire, said = seen.delivery.wire, seen.delivery.wire.properties
    more = "".join(
        f" {name}={said[attribute]}" for name, attribute in SHOWN if _worth_saying(attribute, said, wire.topic)
    )
    what = f"CANNOT BE READ {seen.error} {wire.body[:100].hex()}" if seen.error else _json(seen.body)
    line = f"{said.get('ce_time', '-')} {wire.topic} saga={wire.key} id={said.get('ce_id', '-')}{more} {what}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _worth_saying(attribute: str, said: Mapping[str, str], topic: str) -> bool:
    return said.get(attribute) not in (None, topic)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda part: b64encode(part).decode())


if __name__ == "__main__":
    run(consume)
