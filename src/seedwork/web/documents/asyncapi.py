"""Derive the AsyncAPI 3.1 document of all services from their message classes, committed schemas and envelope."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from pulsaga.delivery.avro import Codec
from pulsaga.delivery.messages import CONTENT_TYPE, Contract, contract_of
from pulsaga.service import Service
from pulsaga.system import System

DIALECT = "3.1.0"
AVRO = "application/vnd.apache.avro;version=1.9.0"
ABOUT = """Commands belong to the service that takes them, events to the one that speaks them: the word before the dot.

Messages are CloudEvents 1.0 in binary mode: the attributes are properties of the Pulsar message, its body is Avro under
the schema in Pulsar's registry. The partition key is `ce_correlationid`, the saga.
A topic keeps the order of a saga."""
ID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
TEXT = {"type": "string"}
ENVELOPE: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "ce_id": (
        ID,
        "A UUIDv7. Of a command: its id, whatever the attempt; of a reply it stays on replay.",
    ),
    "ce_source": (TEXT, "The service that says it."),
    "ce_type": (TEXT, "The message's name, which is its topic."),
    "ce_specversion": ({"const": "1.0"}, "Of CloudEvents."),
    "ce_time": (TIME, "When it was made, in UTC."),
    "ce_subject": (TEXT, "What it is about."),
    "ce_dataschema": (TEXT, "`urn:protools:schema:<name>:<version>`: what the body was written under."),
    "content-type": ({"const": CONTENT_TYPE}, "Of the body."),
    "ce_correlationid": (ID, "The saga."),
    "ce_causationid": (ID, "The message that caused this one."),
    "ce_commandid": (ID, "Of a reply: the command that it answers."),
    "ce_version": ({"type": "string", "pattern": "^[0-9]+$"}, "Of an event: the version of its aggregate."),
    "ce_expirytime": (TIME, "After which it is not worth reading."),
    "ce_actor": (TEXT, "Who asked at the front door."),
    "ce_acceptedtime": (TIME, "When the front door accepted what began the saga, in UTC."),
    "traceparent": (TEXT, "W3C Trace Context."),
}
ALWAYS = tuple(ENVELOPE)[:9]
Part = dict[str, Any]


def derive(system: System, codec: Codec) -> str:
    """Return the document as text: JSON, two spaces, newline at the end."""
    return orjson.dumps(document(system, codec), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def document(system: System, codec: Codec) -> Part:
    """Return the document of every message that a service declares, with the schema under which `codec` writes it."""
    services, messages = system.all, system.messages
    return {
        "asyncapi": DIALECT,
        "info": {"title": system.title, "version": system.version, "description": ABOUT},
        "defaultContentType": CONTENT_TYPE,
        "servers": {"pulsar": _server()},
        "channels": {_name(cls): _channel(cls) for cls in messages},
        "operations": dict(_operations(services)),
        "components": {
            "messages": {_name(cls): _message(cls, codec) for cls in messages},
            "schemas": {"Envelope": _envelope()},
        },
    }


def _name(cls: type) -> str:
    contract: Contract = contract_of(cls)
    return contract.name


def _server() -> Part:
    about = "Where BROKER_URL points. The embedded broker carries the same messages, on one machine."
    host = {"default": "localhost:6650", "description": "Host and port of a Pulsar broker."}
    return {"host": "{broker}", "protocol": "pulsar", "description": about, "variables": {"broker": host}}


def _channel(cls: type) -> Part:
    name = _name(cls)
    return {
        "address": f"persistent://protools/{{namespace}}/{name}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": {"namespace": {"default": "main", "description": "BROKER_NAMESPACE: one per installation."}},
        "bindings": {"pulsar": {"namespace": "main", "persistence": "persistent"}},
    }


def _operations(services: Iterable[Service]) -> Iterator[tuple[str, Part]]:
    for service in services:
        spoken = [_name(cls) for cls in service.messages if contract_of(cls).kind == "event"]
        for verb, action, names in (
            ("takes", "receive", service.consumes),
            ("follows", "receive", service.projects),
            ("tells", "send", spoken),
        ):
            for name in names:
                yield f"{service.name}.{verb}.{name}", _operation(service.name, verb, action, name)


def _operation(service: str, verb: str, action: str, name: str) -> Part:
    why = {"takes": "acts on it", "follows": "brings its read model up to date by it", "tells": "says it"}
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": f"{service} {why[verb]}.",
        "tags": [{"name": service}],
    }


def _message(cls: type, codec: Codec) -> Part:
    contract: Contract = contract_of(cls)
    summary, _, more = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")
    return {
        "name": contract.name,
        "title": cls.__name__,
        "summary": " ".join(summary.split()),
        **({"description": more} if more else {}),
        "tags": [{"name": contract.kind}],
        "contentType": CONTENT_TYPE,
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "headers": {"$ref": "#/components/schemas/Envelope"},
        "payload": {"schemaFormat": AVRO, "schema": _payload(cls, codec.schema_text(contract))},
    }


def _payload(cls: type, text: str) -> Part:
    """Return the schema of the current version, with what the class says of its fields."""
    schema: Part = json.loads(text)
    said = _said_of_fields(cls)
    for field in schema["fields"]:
        field |= {"doc": said[field["name"]]} if field["name"] in said else {}
    return schema


def _said_of_fields(cls: type) -> dict[str, str]:
    """Read the text that stands under each field of a class and of those that it extends, where there is source."""
    said: dict[str, str] = {}
    for each in (one for one in reversed(cls.__mro__[:-1]) if one.__dict__.get("__annotations__")):
        try:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError):
            continue
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    said[name] = " ".join(words.split())
    return said


def _envelope() -> Part:
    return {
        "type": "object",
        "description": "CloudEvents 1.0 attributes, as properties of the Pulsar message.",
        "required": list(ALWAYS),
        "properties": {name: {**schema, "description": about} for name, (schema, about) in ENVELOPE.items()},
    }
