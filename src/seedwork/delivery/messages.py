"""Describe messages: the dataclasses that services exchange and the CloudEvents 1.0 envelope around them.

Only the standard library is used here, so that importing another service's `messages` loads no framework.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from pulsaga.errors import DefinitionError, Undecodable

Kind = Literal["command", "event"]
T = TypeVar("T")
B = TypeVar("B")

NAME = re.compile("[a-z][a-z0-9_]*[.][a-z][a-z0-9_-]*")
"""How a message is called: `owner.message-name` names its topic, its schema and the file of that."""
SCHEMA_PREFIX = "urn:protools:schema:"
CONTENT_TYPE = "application/avro"


@dataclass(frozen=True, slots=True)
class Contract:
    """How one message class is called on the wire: `owner.message-name`, which is its topic too."""

    name: str
    version: int
    kind: Kind
    module: str
    """Where its class was declared; its schemas lie beside (`pulsaga.delivery.avro.folder_of`)."""
    replies: tuple[type, ...] = ()
    """Of a command: the events that answer it, beside the refused, failed and withdrawn answers of its receiver."""
    latest_by: str | None = None
    """Field that names an aggregate: of its messages of this kind, one older than the newest is late."""

    @property
    def owner(self) -> str:
        """The service that receives this command or speaks this event."""
        return self.name.partition(".")[0]

    @property
    def dataschema(self) -> str:
        """The `ce_dataschema` of what this code writes."""
        return f"{SCHEMA_PREFIX}{self.name}:{self.version}"


def command(
    name: str, version: int = 1, *, replies: tuple[type, ...] = (), latest_by: str | None = None
) -> Callable[[type[T]], type[T]]:
    """Declare a command, named in the imperative and owned by its receiver, with the events that answer it.

    With `latest_by`, the field that names an aggregate, a command that was accepted before the newest handled one for
    its aggregate is late: it is refused with the code `superseded`.
    """
    return _declare("command", name, version, replies, latest_by)


def event(name: str, version: int = 1, *, latest_by: str | None = None) -> Callable[[type[T]], type[T]]:
    """Declare an event, named in the past tense and owned by its speaker.

    With `latest_by`, as of a command, an event that is late is counted and not handled.
    """
    return _declare("event", name, version, (), latest_by)


def _declare(
    kind: Kind, name: str, version: int, replies: tuple[type, ...] = (), latest_by: str | None = None
) -> Callable[[type[T]], type[T]]:
    if not NAME.fullmatch(name):
        raise DefinitionError(f"message {name!r}: a name is owner.what-happens, of small letters, digits and -")
    given: Any = replies
    if isinstance(given, type) or not all(hasattr(each, "contract") for each in given):
        raise DefinitionError(f"message {name}: its replies are a tuple of classes that are declared with @event")

    def mark(cls: type[T]) -> type[T]:
        if latest_by is not None and not has_field(cls, latest_by):
            raise TypeError(f"{name}: latest_by names {latest_by!r}, which is no field of it")
        cls.contract = Contract(name, version, kind, cls.__module__, tuple(replies), latest_by)  # type: ignore[attr-defined]
        _declared[name] = cls.__module__
        return cls

    return mark


def has_field(cls: type, name: str) -> bool:
    """Tell whether a message's body has a field of this name."""
    return name in getattr(cls, "__dataclass_fields__", {})


def is_compensation(cls: type) -> bool:
    """Tell whether a message undoes a command: it names it in its field `undoes`, and its saga waits for a reply."""
    return has_field(cls, "undoes") and bool(contract_of(cls).replies)


_declared: dict[str, str] = {}


def module_of(name: str) -> str:
    """Return the module that declares the message of this wire name; raise LookupError for none."""
    return _declared[name]


def contract_of(message: Any) -> Contract:
    """Return the contract of a message class, or of a body; raise TypeError for what was not declared as a message."""
    contract = getattr(message, "contract", None)
    if not isinstance(contract, Contract):
        cls = message if isinstance(message, type) else type(message)
        raise TypeError(f"{cls.__qualname__} is no message: decorate it with @command or @event")
    return contract


def folder_of(module: str) -> Path:
    """Return the folder in which a module lies that is loaded."""
    return Path(sys.modules[module].__file__ or "").parent


_owned: dict[tuple[type, str, Path], type] = {}


def owned(message: type[T], owner: str, module: str, kind: Kind = "event") -> type[T]:
    """Return the class by which one owner has a message that every owner has, such as `<owner>.command-refused`.

    Its schemas lie beside those of `module`.
    """
    known = message, owner, folder_of(module)
    if known not in _owned:
        words = re.sub(r"(?<!^)(?=[A-Z])", "-", message.__name__).lower()
        made = type(message.__name__, (message,), {"__module__": module, "__doc__": message.__doc__})
        _owned[known] = _declare(kind, f"{owner}.{words}", 1)(made)
    return _owned[known]


@dataclass(frozen=True)
class CommandRefused:
    """A business no is the answer to a command."""

    command: str
    """Wire name of the refused command."""
    code: str
    detail: str


@dataclass(frozen=True)
class CommandFailed:
    """The answer to a command that became a dead letter."""

    command: str
    code: str
    detail: str


@dataclass(frozen=True)
class CommandWithdrawn:
    """The answer to a compensation whose command did nothing, and never will: refused, failed, or not handled yet."""

    command: str
    """Wire name of the compensation that this answers."""
    undoes: str
    """Id of the command that it was to undo."""


def refused_by(command_class: type) -> type[CommandRefused]:
    """Return the class by which the receiver of a command refuses it."""
    contract = contract_of(command_class)
    return owned(CommandRefused, contract.owner, contract.module)


class Context(NamedTuple):
    """What every message of one saga hands on to the next."""

    saga_id: str
    causation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    accepted_at: str | None = None
    """When the front door accepted what began the saga, by its database's clock (RFC 3339)."""


class Message(NamedTuple, Generic[B]):
    """One body in its envelope. `id` is `ce_id`; for a command it *is* the command id, whatever the attempt."""

    body: B
    id: str
    source: str
    subject: str
    time: str
    context: Context
    command_id: str | None = None
    """Of a reply: the command it answers."""
    version: int | None = None
    """Of an event: the version of its aggregate."""
    expires_at: str | None = None

    @property
    def contract(self) -> Contract:
        """The wire contract of the body."""
        return contract_of(self.body)

    @property
    def saga_id(self) -> str:
        """Correlation id and partition key."""
        return self.context.saga_id

    @property
    def accepted_at(self) -> float:
        """When the front door accepted what this belongs to, in Unix seconds; before that was told: the saga's id."""
        stamp = self.context.accepted_at
        return unix_seconds(stamp) if stamp else id_time(self.saga_id).timestamp()

    def under(self, traceparent: str) -> Message[B]:
        """Return the same message, carrying another `traceparent`."""
        return self._replace(context=self.context._replace(traceparent=traceparent))

    def follow(self) -> Context:
        """Context for a message that this one causes."""
        return self.context._replace(causation_id=self.id)


AnyMessage = Message[Any]

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""How an id is written; another spelling of the same number would be another text."""


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, 74 random bits; unique, not secret."""
    return _uuid7(time.time_ns() // 1_000_000, random.getrandbits(74))


def first_id(at: float) -> str:
    """Return the smallest UUIDv7 of a moment in Unix seconds; what no id can say becomes the nearest one."""
    return _uuid7(min(max(0, int(at * 1000)), (1 << 48) - 1), 0)


def _uuid7(milliseconds: int, chance: int) -> str:
    text = f"{milliseconds << 80 | 7 << 76 | chance >> 62 << 64 | 2 << 62 | chance & (1 << 62) - 1:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


MEMORY_S = 7 * 24 * 3600.0
"""Seconds for which a command is good and an id is known again; what is older and unknown is refused as expired."""

LAST_ID = "e677d21f-dbff"
"""How the last id begins whose time a calendar has: 9999-12-31T23:59:59.999Z."""


def check_id(identifier: str) -> None:
    """Raise Undecodable for what is no UUIDv7 in lower case, or of a time that no calendar has."""
    if UUID7.fullmatch(identifier) is None:
        raise Undecodable(f"{identifier!r} is not a UUIDv7 in lower case")
    if identifier[:13] > LAST_ID:
        raise Undecodable(f"{identifier!r} is of a time that no calendar has")


def id_time(identifier: str) -> datetime:
    """Tell when a UUIDv7 was made, to the millisecond; raise Undecodable when it is none."""
    check_id(identifier)
    return datetime.fromtimestamp(made_at(identifier), UTC)


def made_at(identifier: str) -> float:
    """Return when a UUIDv7 was made, in Unix seconds to the millisecond; it must be one."""
    return int(identifier[:8] + identifier[9:13], 16) / 1000


def properties_of(message: Message[Any]) -> dict[str, str]:
    """Write the envelope as CloudEvents attributes in binary mode, absent ones left out."""
    contract, context = message.contract, message.context
    properties = {
        "ce_id": message.id,
        "ce_source": message.source,
        "ce_type": contract.name,
        "ce_specversion": "1.0",
        "ce_time": message.time,
        "ce_subject": message.subject,
        "ce_dataschema": contract.dataschema,
        "content-type": CONTENT_TYPE,
        "ce_correlationid": context.saga_id,
    }
    optional = (
        ("ce_causationid", context.causation_id),
        ("ce_commandid", message.command_id),
        ("ce_version", None if message.version is None else str(message.version)),
        ("ce_expirytime", message.expires_at),
        ("ce_actor", context.actor),
        ("ce_acceptedtime", context.accepted_at),
        ("traceparent", context.traceparent),
    )
    properties.update((name, value) for name, value in optional if value is not None)
    return properties


def message_of(properties: Mapping[str, str], body: B) -> Message[B]:
    """Read the envelope back; raise Undecodable naming the attribute that is missing or wrong."""
    try:
        identifier, version = properties["ce_id"], properties.get("ce_version")
        if properties["ce_specversion"] != "1.0":
            raise Undecodable(f"ce_specversion {properties['ce_specversion']!r} is not 1.0")
        check_id(identifier)
        check_id(properties["ce_correlationid"])
        return Message(
            body=body,
            id=identifier,
            source=properties["ce_source"],
            subject=properties.get("ce_subject", ""),
            time=properties["ce_time"],
            context=Context(
                saga_id=properties["ce_correlationid"],
                causation_id=properties.get("ce_causationid"),
                actor=properties.get("ce_actor"),
                traceparent=properties.get("traceparent"),
                accepted_at=properties.get("ce_acceptedtime"),
            ),
            command_id=properties.get("ce_commandid"),
            version=None if version is None else int(version),
            expires_at=properties.get("ce_expirytime"),
        )
    except KeyError as missing:
        raise Undecodable(f"CloudEvents attribute {missing.args[0]} is missing") from None
    except ValueError as error:
        raise Undecodable(f"ce_version: {error}") from None


def unix_seconds(time_text: str) -> float:
    """Read an RFC 3339 time as Unix seconds."""
    return datetime.fromisoformat(time_text).timestamp()
