"""Give what a body in XML says the form that it has in JSON, by the fields that it is loaded into.

XML knows text, and children that repeat. Here a list is an element that holds its items, as in what is answered:
`<lines><line/><line/></lines>`. What does not fit is left as it is; loading refuses it with a pointer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, fields

from pulsaga.web.formats import item_name

WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
"""`xs:integer`, as long as 64 bits may have it."""
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([Ee][+-]?[0-9]+)?")
"""`xs:double`, but for infinity and what is no number."""
FLAGS = {"true": True, "false": False}


def as_json(schema: Schema, said: Any) -> Any:
    """Return a body that was read from XML as JSON would have it."""
    if said == "":
        return {}
    if not isinstance(said, Mapping):
        return said
    known = {field.data_key or name: field for name, field in schema.fields.items()}
    return {name: _value(known[name], name, value) if name in known else value for name, value in said.items()}


def _value(field: fields.Field[Any], name: str, said: Any) -> Any:
    match field:
        case fields.Nested():
            return as_json(field.schema, said)
        case fields.List():
            return _items(field, item_name(name), said)
        case fields.Integer() if isinstance(said, str) and WHOLE.fullmatch(said.strip()):
            return int(said)
        case fields.Float() if isinstance(said, str) and NUMBER.fullmatch(said.strip()):
            return float(said)
        case fields.Boolean() if isinstance(said, str):
            return FLAGS.get(said.strip(), said)
    return said


def _items(field: fields.List[Any], name: str, said: Any) -> Any:
    if isinstance(said, str) and not said.strip():
        return []
    if not isinstance(said, Mapping) or said.keys() != {name}:
        return said
    given = said[name]
    return [_value(field.inner, name, one) for one in (given if isinstance(given, list) else [given])]
