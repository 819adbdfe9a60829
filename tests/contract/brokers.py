"""Start the brokers of the contract suite, and say as data in what they differ."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.patience import PATIENCE_S

from pulsaga.broker import Broker, BrokerAdmin, Delivery, Subscription, Wire, connect, connect_admin
from pulsaga.delivery.messages import new_id
from pulsaga_program.local.process import wait_until
from pulsaga_program.up import accepts

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
"""What a process needs to find this checkout, installed or not."""
STOP_S = 60.0
"""How long a test waits for what must come; it fails afterwards, it never waits so long when all is well."""


class Server(Protocol):
    """Control one broker process whose data outlive it."""

    @property
    def url(self) -> str: ...
    @property
    def admin_url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class Facts:
    """Say in what the adapters differ; each number is a bound that a test waits for, not a figure."""

    refuses_within_s: float
    """A publish during an outage raises Unavailable at the latest after this."""
    takes_over_within_s: float
    """What a killed consumer held has come to another one, at the latest this long after the kill."""
    recovers_within_s: float
    """Producers and consumers that were running work again, at the latest this long after the broker is back."""
    hears_at_once: bool
    """Whether a listener hears what is broadcast right after `listen`; else only once its first permits arrived."""


EMBEDDED = Facts(refuses_within_s=2, takes_over_within_s=1, recovers_within_s=5, hears_at_once=True)
# Pulsar's client waits up to 60 s between two attempts; a non-persistent topic drops what finds no permits; a takeover
# takes milliseconds, but 4.0.8 stalls in some 2 of 100 (pulsar#23845) until our consumer joins anew.
PULSAR = Facts(refuses_within_s=15, takes_over_within_s=15, recovers_within_s=90, hears_at_once=False)


@dataclass
class EmbeddedServer:
    """Run the embedded broker in a folder of its own."""

    folder: Path
    admin_url: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "broker.sock"

    @property
    def database(self) -> Path:
        """What it keeps."""
        return self.folder / "broker.sqlite"

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"unix://{self.socket}"

    @property
    def command(self) -> list[str]:
        """The command line that runs it."""
        module = [sys.executable, "-m", "pulsaga.broker.embedded_server"]
        return [*module, "--socket", str(self.socket), "--database", str(self.database)]

    def start(self) -> None:
        """Return once it takes connections; one that runs already is left alone."""
        if self.process is None:
            with (self.folder / "broker.log").open("ab") as log:
                self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=ENVIRONMENT)
            ready = wait_until(lambda: accepts(self.socket) or self._ended(), PATIENCE_S)
            assert ready, "the embedded broker did not start"
            assert not self._ended(), (self.folder / "broker.log").read_text()

    def stop(self) -> None:
        """End it cleanly."""
        if self.process is not None:
            self.process.terminate()
            code, self.process = self.process.wait(STOP_S), None
            assert code == 0, f"the embedded broker left with {code}"

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)
            self.process = None

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


def avsc(*fields: str) -> str:
    """Write a record schema from fields like `text:string` and, with a default, `note:string=`."""
    return f'{{"type": "record", "name": "Note", "fields": [{", ".join(map(_field, fields))}]}}'


def _field(text: str) -> str:
    name, _, rest = text.partition(":")
    kind, has_default, default = rest.partition("=")
    return f'{{"name": "{name}", "type": "{kind}"' + (f', "default": "{default}"}}' if has_default else "}")


OLD, NEW = avsc("text:string"), avsc("text:string", "note:string=")
BREAKING = avsc("text:string", "reason:string")
SCHEMAS = {"note:1": OLD, "note:2": NEW, "note:3": BREAKING}
"""What test processes can write, by `ce_dataschema`."""


def wire(topic: str, key: str = "k", text: str = "", *, body: bytes = b"", schema: str = "note:1") -> Wire:
    """Make a message; `text` is its `ce_subject`, by which tests tell messages apart."""
    properties = {"ce_id": new_id(), "ce_subject": text, "ce_dataschema": schema}
    return Wire(topic, key, properties, body or b"\x00")


def text_of(delivery: Delivery) -> str:
    """Return what `wire` was given as `text`."""
    return delivery.wire.properties["ce_subject"]


@dataclass
class Stage:
    """Give one test a namespace of its own on a running broker, and close at the end what the test opened."""

    server: Server
    facts: Facts
    namespace: str
    opened: list[Broker | BrokerAdmin] = field(default_factory=list)

    def connect(self, schemas: Mapping[str, str] = SCHEMAS) -> Broker:
        """Open one more connection, as another process would."""
        broker = connect(self.server.url, schemas, self.namespace)
        self.opened.append(broker)
        return broker

    def admin(self, partitions: int = 1) -> BrokerAdmin:
        """Open the administrative side; the namespace is prepared."""
        admin = connect_admin(self.server.url, self.server.admin_url, self.namespace, partitions=partitions)
        self.opened.append(admin)
        admin.prepare_namespace()
        return admin

    def topic(self, name: str = "room.said", *, subscriptions: Sequence[str] = ("reader",), partitions: int = 1) -> str:
        """Create a topic with the old schema and durable subscriptions."""
        admin = self.admin(partitions)
        admin.create_topic(name)
        admin.register_schema(name, OLD)
        for subscription in subscriptions:
            admin.create_subscription(name, subscription)
        return name

    def close(self) -> None:
        """Close every connection."""
        for connection in self.opened:
            connection.close()


def receive(subscription: Subscription, count: int, *, ack: bool = True) -> list[Delivery]:
    """Receive exactly `count` messages, or fail after PATIENCE_S."""
    taken: list[Delivery] = []
    if not wait_until(lambda: _received(subscription, taken, count, ack), PATIENCE_S):
        raise AssertionError(f"{len(taken)} of {count} messages came: {[text_of(one) for one in taken][-5:]}")
    return taken


def texts(subscription: Subscription, count: int, *, ack: bool = True) -> list[str]:
    """Receive exactly `count` messages and return their texts."""
    return [text_of(delivery) for delivery in receive(subscription, count, ack=ack)]


def _received(subscription: Subscription, taken: list[Delivery], count: int, ack: bool) -> bool:
    came = subscription.receive(count - len(taken), 1)
    if ack:
        subscription.ack(came)
    taken += came
    return len(taken) >= count
