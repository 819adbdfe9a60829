"""Derive Avro schemas from message dataclasses and commit them; used by developers and tests, never at run time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from pulsaga.delivery.avro import home_of
from pulsaga.delivery.messages import Contract, contract_of
from pulsaga.errors import DefinitionError


def derive(cls: type) -> str:
    """Return the Avro schema of a message class, as committed: JSON, two spaces, newline at the end.

    Raise DefinitionError, naming the message, for a field that Avro cannot hold.
    """
    contract = contract_of(cls)
    try:
        schema = json.loads(_model(cls).avro_schema())
    except (TypeError, ValueError, NameError, AssertionError) as error:
        raise DefinitionError(f"message {contract.name}: {error}") from None
    schema |= {"name": _record_name(contract), "namespace": f"protools.{contract.owner}"}
    return json.dumps(_without_docs(schema), indent=2) + "\n"


def path_of(cls: type) -> Path:
    """Return where the schema of a message's current version is committed."""
    contract = contract_of(cls)
    name = contract.name.partition(".")[2]
    return home_of(contract.module, contract.owner, "avro").resolve() / f"{name}.v{contract.version}.avsc"


def write(classes: Iterable[type]) -> Iterator[Path]:
    """Write the schemas that are not committed yet, yielding their paths; a committed one is never touched.

    Raise DefinitionError before any is written.
    """
    paths = {path_of(cls): cls for cls in classes}
    made = {path: derive(cls) for path, cls in paths.items() if not path.exists()}
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        yield path


@cache
def _model(cls: Any) -> Any:
    from dataclasses_avroschema import AvroModel

    hints = get_type_hints(cls)
    members = [(each.name, _with_models(hints[each.name]), _default_of(each)) for each in fields(cls)]
    return make_dataclass(cls.__name__, members, bases=(AvroModel,), kw_only=True)


def _default_of(one: Field[Any]) -> Any:
    """Return a field that has the default of another: what has one may be added to a message, or left out of it."""
    from dataclasses_avroschema import AvroModel

    made = _as_model(one.default if one.default_factory is MISSING else one.default_factory())
    return field(default_factory=lambda: made) if isinstance(made, list | dict | AvroModel) else field(default=made)


def _as_model(value: Any) -> Any:
    """Return a default in which a model stands for each dataclass."""
    if is_dataclass(value) and not isinstance(value, type):
        return _model(type(value))(**{each.name: _as_model(getattr(value, each.name)) for each in fields(value)})
    return type(value)(map(_as_model, value)) if isinstance(value, list | tuple) else value


def _with_models(hint: Any) -> Any:
    """Return a type in which a model stands for each dataclass."""
    if is_dataclass(hint):
        return _model(cast(Any, hint))
    if isinstance(hint, UnionType):
        return Union[tuple(map(_with_models, get_args(hint)))]  # noqa: UP007 - the members are known at run time only
    inner = tuple(map(_with_models, get_args(hint)))
    return get_origin(hint)[inner] if inner else hint


def _record_name(contract: Contract) -> str:
    return "".join(word.capitalize() for word in contract.name.partition(".")[2].split("-"))


def _without_docs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    return [_without_docs(item) for item in node] if isinstance(node, list) else node
