"""Check Avro schemas against each other, in both directions and against every version (FULL_TRANSITIVE)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.schema import Schema, parse

from pulsaga.errors import SchemaIncompatible


def check_compatible(topic: str, avsc: str, registered: Iterable[str]) -> None:
    """Raise SchemaIncompatible, naming topic and field, when `avsc` cannot read a version or cannot be read by it."""
    new = parse_schema(topic, avsc)
    for text in registered:
        old = parse_schema(topic, text)
        _check(topic, new, old, "cannot read what was written before")
        _check(topic, old, new, "cannot be read by those before")


def parse_schema(topic: str, avsc: str) -> Schema:
    """Parse a schema; raise SchemaIncompatible when it is none."""
    try:
        return parse(avsc)
    except (AvroException, ValueError) as error:
        raise SchemaIncompatible(f"{topic}: not an Avro schema: {error}") from error


def same_schema(one: str, other: str) -> bool:
    """Tell whether two schema texts say the same."""
    return bool(json.loads(one) == json.loads(other))


def _check(topic: str, reader: Schema, writer: Schema, what: str) -> None:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader, writer)
    if result.compatibility is not SchemaCompatibilityType.compatible:
        fields = ", ".join(sorted({_field_at(reader, place) for place in result.locations}))
        raise SchemaIncompatible(f"{topic}: the schema {what}: field {fields}: {'; '.join(sorted(result.messages))}")


def _field_at(schema: Schema, place: str) -> str:
    """Name the field that a location such as `/fields/1/type` lies in, or the location itself."""
    node, name = json.loads(str(schema)), ""
    for part in place.strip("/").split("/"):
        node = node[int(part)] if isinstance(node, list) else node.get(part, {}) if isinstance(node, dict) else {}
        if part.isdigit() and isinstance(node, dict):
            name = node.get("name", name)
    return name or place
