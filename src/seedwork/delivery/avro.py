"""Turn message bodies into Avro bytes and back, always by the writer's schema version.

Schemas are committed beside the class, as `avro/<message-name>.v<version>.avsc`; nothing is derived at run time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro

from pulsaga.delivery.messages import SCHEMA_PREFIX, Contract, contract_of, folder_of, module_of
from pulsaga.errors import MessageRejected, SchemaIncompatible, Undecodable
from pulsaga.records import built, is_nested, plain


class CommittedSchemas(Mapping[str, str]):
    """Map a `ce_dataschema` to the text of its committed `.avsc`; read at first use."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __getitem__(self, dataschema: str) -> str:
        if dataschema not in self._texts:
            self._texts[dataschema] = _read(dataschema)
        return self._texts[dataschema]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _read(dataschema: str) -> str:
    name, _, version = dataschema.removeprefix(SCHEMA_PREFIX).rpartition(":")
    try:
        return _text_of(name, module_of(name), version)
    except LookupError:
        raise SchemaIncompatible(f"{name}: no message of this name is known") from None


def _text_of(name: str, module: str, version: object) -> str:
    owner, _, message = name.partition(".")
    try:
        return (home_of(module, owner, "avro") / f"{message}.v{version}.avsc").read_text()
    except (OSError, ValueError):
        raise SchemaIncompatible(f"{name}: no committed schema for version {version or '?'}") from None


def home_of(module: str, owner: str, kind: str) -> Path:
    """Return the folder in which files of an owner lie that is declared in this module: its schemas, its migrations.

    That is `<package>/<kind>` where the package bears the owner's name, else `<folder of the module>/<kind>/<owner>`.
    """
    package = module.rpartition(".")[0]
    folder = folder_of(module) / kind
    return folder if package.rpartition(".")[2] == owner else folder / owner


def versions_of(contract: Contract) -> list[str]:
    """Return the texts of every committed version of a message up to its current one, oldest first."""
    return [_text_of(contract.name, contract.module, version) for version in range(1, contract.version + 1)]


class Codec:
    """Encode and decode message bodies; caches parsed schemas, thread-safe by idempotence."""

    def __init__(self, schemas: Mapping[str, str] | None = None) -> None:
        """Use the committed schemas, or those of a mapping from `ce_dataschema` to text."""
        self._schemas = schemas
        self._own: dict[type, Any] = {}
        self._resolved: dict[tuple[type, str], tuple[Any, Any]] = {}

    def encode(self, body: Any) -> bytes:
        """Return the Avro bytes of a body under its current version; raise MessageRejected when it does not fit."""
        buffer = io.BytesIO()
        try:
            fastavro.schemaless_writer(buffer, self._schema(type(body)), plain(body))
        except (ValueError, TypeError, AttributeError) as error:
            raise MessageRejected(f"{contract_of(body).name}: {error}") from error
        return buffer.getvalue()

    def decode(self, cls: type, data: bytes, writer: str) -> Any:
        """Read bytes written under the schema text `writer` as a `cls`; raise Undecodable when they are not that."""
        try:
            if (cls, writer) not in self._resolved:
                self._resolved[cls, writer] = self._resolve(cls, writer)
            stream = io.BytesIO(data)
            values: Any = fastavro.schemaless_reader(stream, *self._resolved[cls, writer])
            if stream.read(1):
                raise ValueError("bytes are left over: it was written under another schema")
            _refuse_nul(values)
            return built(cls, values) if is_nested(cls) else cls(**values)
        except Exception as error:  # these are bytes of others, and the reader may raise anything
            raise Undecodable(f"{contract_of(cls).name}: {type(error).__name__}: {error}") from error

    def _resolve(self, cls: type, writer: str) -> tuple[Any, Any]:
        """Return the writer's schema and ours; None for ours where they are equal, which is read in half the time."""
        written, own = fastavro.parse_schema(json.loads(writer)), self._schema(cls)
        return written, None if written == own else own

    def _schema(self, cls: type) -> Any:
        if cls not in self._own:
            contract = contract_of(cls)
            self._own[cls] = fastavro.parse_schema(json.loads(self.schema_text(contract)))
        return self._own[cls]

    def schema_text(self, contract: Contract) -> str:
        """Return the schema under which bodies of a message are encoded; raise SchemaIncompatible without one."""
        return versions_of(contract)[-1] if self._schemas is None else self._schemas[contract.dataschema]


def rewritten(data: bytes, writer: str, change: Callable[[Any], Any]) -> bytes:
    """Return a body, written under a schema text, with its values changed; whatever is wrong with it raises."""
    schema: Any = fastavro.parse_schema(json.loads(writer))
    values, buffer = fastavro.schemaless_reader(io.BytesIO(data), schema, None), io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, change(values))
    return buffer.getvalue()


def _refuse_nul(values: Mapping[str, Any]) -> None:
    """Raise ValueError for text that PostgreSQL cannot keep, however deep it lies."""
    for name, value in values.items():
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, Mapping):
                _refuse_nul(one)
            if isinstance(one, str) and "\0" in one:
                raise ValueError(f"{name} holds a NUL character")
