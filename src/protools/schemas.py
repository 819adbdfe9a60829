"""Derive Avro schemas from message dataclasses and commit them; used by developers and tests, never at run time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pulsaga.delivery.avro import home_of
from pulsaga.delivery.messages import Contract, contract_of


def derive(cls: type) -> str:
    """Return the Avro schema of a message class, as committed: JSON, two spaces, newline at the end."""
    contract = contract_of(cls)
    schema = json.loads(_model(cls).avro_schema())
    schema |= {"name": _record_name(contract), "namespace": f"protools.{contract.owner}"}
    return json.dumps(_without_docs(schema), indent=2) + "\n"


def path_of(cls: type) -> Path:
    """Return where the schema of a message's current version is committed."""
    contract = contract_of(cls)
    name = contract.name.partition(".")[2]
    return home_of(contract.module, contract.owner, "avro").resolve() / f"{name}.v{contract.version}.avsc"


def write(classes: Iterable[type]) -> Iterator[Path]:
    """Write the schemas that are not committed yet, yielding their paths; a committed one is never touched."""
    for cls in classes:
        path = path_of(cls)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(derive(cls))
            yield path


def _model(cls: type) -> Any:
    from dataclasses_avroschema import AvroModel

    fields = [(name, hint) for name, hint in get_type_hints(cls).items() if name != "contract"]
    return make_dataclass(cls.__name__, fields, bases=(AvroModel,))


def _record_name(contract: Contract) -> str:
    return "".join(word.capitalize() for word in contract.name.partition(".")[2].split("-"))


def _without_docs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    return [_without_docs(item) for item in node] if isinstance(node, list) else node
