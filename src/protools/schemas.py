"""Derive Avro schemas from message dataclasses and commit them; used by developers and tests, never at run time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pulsaga.delivery.messages import Contract


def derive(cls: type) -> str:
    """Return the Avro schema of a message class, as committed: JSON, two spaces, newline at the end."""
    contract: Contract = cls.contract  # type: ignore[attr-defined]
    schema = json.loads(_model(cls).avro_schema())
    schema |= {"name": _record_name(contract), "namespace": f"protools.{contract.owner}"}
    return json.dumps(_without_docs(schema), indent=2) + "\n"


def path_of(cls: type, root: Path) -> Path:
    """Return where the schema of a message's current version is committed, below the source root."""
    contract: Contract = cls.contract  # type: ignore[attr-defined]
    owner, _, name = contract.name.partition(".")
    return root / owner / "avro" / f"{name}.v{contract.version}.avsc"


def write(classes: Iterable[type], root: Path) -> Iterator[Path]:
    """Write the schemas that are not committed yet, yielding their paths; a committed one is never touched."""
    for cls in classes:
        path = path_of(cls, root)
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
