"""Derive the XML Schemas of what the front door reads and writes, from the shapes that its routes declare.

Fields of an answer come in their order; those of a request in any, since both languages load into one set of names.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

from flask import Flask
from lxml import etree
from marshmallow import Schema, fields
from marshmallow.validate import OneOf

from pulsaga.web import problems
from pulsaga.web.contract import Shape
from pulsaga.web.documents.openapi import described, operation_of
from pulsaga.web.formats import PROBLEM_NAMESPACE, item_name

XS = "http://www.w3.org/2001/XMLSchema"
SIMPLE: tuple[tuple[type[fields.Field[Any]], str], ...] = (
    (fields.AwareDateTime, "xs:dateTime"),
    (fields.Integer, "xs:integer"),
    (fields.Float, "xs:double"),
    (fields.Boolean, "xs:boolean"),
    (fields.String, "xs:string"),
    (fields.UUID, "xs:string"),
)
ANYTHING = "xs:anyType"
FACETS = ("minLength", "maxLength")


def derive(app: Flask) -> str:
    """Return the schema of requests and resources, which stand in no namespace."""
    taken, shown = _declared(app)
    schema = _element("schema", elementFormDefault="qualified")
    for shape in shown | taken:
        _add(schema, "element", name=shape.root, type=shape.__name__)
    for shape in _with_nested(shown):
        schema.append(_type(shape, "sequence", ""))
    for shape in _with_nested(taken):
        schema.append(_type(shape, "all", ""))
    return _written(schema)


def derive_problem() -> str:
    """Return the schema of problems, in their namespace (RFC 9457 appendix B)."""
    schema = _element("schema", PROBLEM_NAMESPACE, elementFormDefault="qualified", targetNamespace=PROBLEM_NAMESPACE)
    _add(schema, "element", name=problems.Problem.root, type="Problem")
    for shape in _with_nested({problems.Problem: None}):
        schema.append(_type(shape, "sequence", PROBLEM_NAMESPACE))
    return _written(schema)


def _declared(app: Flask) -> tuple[dict[type[Shape], None], dict[type[Shape], None]]:
    operations = [operation_of(app, rule) for rule in described(app)]
    taken = {type(each.takes): None for each in operations if each.takes}
    return taken, {answer.shape: None for each in operations for answer in each.answers.values() if answer.shape}


def _with_nested(shapes: dict[type[Shape], None]) -> dict[type[Any], None]:
    """Return shapes and all that they hold, each once."""
    found: dict[type[Any], None] = {}
    waiting: list[type[Any]] = list(shapes)
    while waiting:
        shape = waiting.pop(0)
        found[shape] = None
        waiting += [each for each in _nested(shape) if each not in found]
    return found


def _nested(shape: type[Schema]) -> Iterator[type[Schema]]:
    for field in shape().fields.values():
        inner = field.inner if isinstance(field, fields.List) else field
        if isinstance(inner, fields.Nested):
            yield type(inner.schema)


def _type(shape: type[Any], order: str, namespace: str) -> Any:
    made = _element("complexType", namespace, name=shape.__name__)
    _add(_add(made, "annotation"), "documentation").text = cleandoc(shape.__doc__ or "")
    members = _add(made, order)
    for name, field in shape().fields.items():
        _field(members, field.data_key or name, field, shape.root, namespace)
    return made


def _field(parent: Any, name: str, field: fields.Field[Any], root: str, namespace: str) -> None:
    optional = {} if field.required else {"minOccurs": "0"}
    if isinstance(field, fields.List) and name == root:
        _typed(parent, item_name(name, namespace), field.inner, minOccurs="0", maxOccurs="unbounded")
    elif isinstance(field, fields.List):
        items = _add(_add(_add(parent, "element", name=name, **optional), "complexType"), "sequence")
        _typed(items, item_name(name, namespace), field.inner, minOccurs="0", maxOccurs="unbounded")
    else:
        _typed(parent, name, field, **optional)


def _typed(parent: Any, name: str, field: Any, **occurs: str) -> None:
    if isinstance(field, fields.Nested):
        _add(parent, "element", name=name, type=type(field.schema).__name__, **occurs)
        return
    base = next((simple for kind, simple in SIMPLE if isinstance(field, kind)), ANYTHING)
    element = _add(parent, "element", name=name, **occurs)
    values = [value for each in field.validators if isinstance(each, OneOf) for value in each.choices]
    facets = [("enumeration", value) for value in values]
    facets += [(facet, field.metadata[facet]) for facet in FACETS if facet in field.metadata]
    if not facets or base == ANYTHING:
        element.set("type", base)
        return
    restriction = _add(_add(element, "simpleType"), "restriction", base=base)
    for facet, value in facets:
        _add(restriction, facet, value=str(value))


def _element(tag: str, namespace: str = "", /, **attributes: str) -> Any:
    nsmap: Any = {"xs": XS} | ({None: namespace} if namespace else {})
    return etree.Element(f"{{{XS}}}{tag}", attributes, nsmap=nsmap)


def _add(parent: Any, tag: str, /, **attributes: str) -> Any:
    return etree.SubElement(parent, f"{{{XS}}}{tag}", attributes)


def _written(schema: Any) -> str:
    etree.indent(schema)
    written: bytes = etree.tostring(schema, xml_declaration=True, encoding="UTF-8")
    return written.decode() + "\n"
