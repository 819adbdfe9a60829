"""Find what in a new contract breaks who relies on the old one.

What callers send must still be taken: nothing new is required, nothing taken away, no value refused that was good. What
they get must still be there: no field gone or optional now, no other type. More may come at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pulsaga.broker.compatibility import check_compatible
from pulsaga.errors import SchemaIncompatible

Document = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
NARROWED = {"minLength": 1, "minimum": 1, "minItems": 1, "maxLength": -1, "maximum": -1, "maxItems": -1}
"""Limits, and in which direction one grows tighter."""


def is_allowed(old: Document, new: Document) -> bool:
    """Tell whether the version says that the new contract may break the old: its first number has grown."""
    before, after = (int(document["info"]["version"].partition(".")[0]) for document in (old, new))
    return after > before


def breaks(old: Document, new: Document) -> list[str]:
    """Return what breaks, a line each; both are OpenAPI documents or both AsyncAPI documents."""
    return list(_messages(old, new) if "asyncapi" in old else _Routes(old, new).breaks())


def _gone(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[str]:
    return (f"{where} {name} is gone" for name in old if name not in new)


# --- AsyncAPI


def _messages(old: Document, new: Document) -> Iterator[str]:
    for kind in ("channels", "operations"):
        yield from _gone(old[kind], new[kind], kind)
    for name in old["channels"].keys() & new["channels"].keys():
        if old["channels"][name]["address"] != new["channels"][name]["address"]:
            yield f"{name} has another address"
        yield from _bodies(name, old["components"]["messages"][name], new["components"]["messages"][name])
    before, after = (document["components"]["schemas"]["Envelope"] for document in (old, new))
    yield from _fewer_always(before, after, "the envelope")


def _bodies(name: str, old: Document, new: Document) -> Iterator[str]:
    try:
        check_compatible(name, json.dumps(new["payload"]["schema"]), [json.dumps(old["payload"]["schema"])])
    except SchemaIncompatible as broken:
        yield str(broken)
    yield from _fewer_fields(old["payload"]["schema"], new["payload"]["schema"], name)


def _fewer_fields(old: Document, new: Document, name: str) -> Iterator[str]:
    left = {field["name"] for field in new["fields"]}
    return (f"{name} has no {field['name']} any more" for field in old["fields"] if field["name"] not in left)


def _fewer_always(old: Document, new: Document, where: str) -> Iterator[str]:
    always = new.get("required", ())
    return (f"{where} does not always have {name} any more" for name in old.get("required", ()) if name not in always)


# --- OpenAPI


class _Routes:
    """Hold two OpenAPI documents, whose references are followed while they are compared."""

    def __init__(self, old: Document, new: Document) -> None:
        self._old, self._new = old, new

    def breaks(self) -> Iterator[str]:
        old, new = self._old["paths"], self._new["paths"]
        yield from _gone(old, new, "path")
        for path in old.keys() & new.keys():
            yield from _gone(old[path], new[path], path)
            for method in old[path].keys() & new[path].keys():
                yield from self._operations(old[path][method], new[path][method], f"{method.upper()} {path}")

    def _operations(self, old: Document, new: Document, where: str) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"{where}: clients call it {old['operationId']}"
        if old.get("security") == [] and new.get("security") != []:
            yield f"{where}: asks who calls"
        yield from self._parameters(old["parameters"], new["parameters"], where)
        yield from self._request(old.get("requestBody"), new.get("requestBody"), f"{where}: the body")
        answers = {status: answer for status, answer in old["responses"].items() if status < "4"}
        yield from _gone(answers, new["responses"], f"{where}: answer")
        for status in answers.keys() & new["responses"].keys():
            yield from self._answers(answers[status], new["responses"][status], f"{where}: answer {status}")

    def _parameters(self, old: list[Document], new: list[Document], where: str) -> Iterator[str]:
        before, after = ({(each["in"], each["name"]): each for each in given} for given in (old, new))
        yield from (f"{where}: {key[1]} is not taken any more" for key in before if key not in after)
        for key, parameter in after.items():
            if parameter["required"] and not before.get(key, {"required": False})["required"]:
                yield f"{where}: {key[1]} is needed now"
            if key in before:
                yield from self._taken(before[key]["schema"], parameter["schema"], f"{where}: {key[1]}")

    def _request(self, old: Document | None, new: Document | None, where: str) -> Iterator[str]:
        if old is None or new is None:
            if old is not new:
                yield f"{where} is {'not taken any more' if old else 'needed now'}"
            return
        yield from self._contents(old["content"], new["content"], where, self._taken)

    def _answers(self, old: Document, new: Document, where: str) -> Iterator[str]:
        old, new = _at(self._old, old), _at(self._new, new)
        always = {name: header for name, header in old.get("headers", {}).items() if header["required"]}
        yield from _gone(always, new.get("headers", {}), f"{where}: header")
        yield from self._contents(old.get("content", {}), new.get("content", {}), where, self._given)

    def _contents(self, old: Document, new: Document, where: str, compare: Any) -> Iterator[str]:
        yield from _gone(old, new, where)
        for name in old.keys() & new.keys():
            yield from compare(old[name]["schema"], new[name]["schema"], where)

    def _taken(self, old: Document, new: Document, where: str) -> Iterator[str]:
        """Compare what callers send."""
        old, new = _at(self._old, old), _at(self._new, new)
        yield from _other_kind(old, new, where)
        yield from (f"{where}: {value!r} is refused now" for value in _refused_values(old, new))
        for limit, tighter in NARROWED.items():
            if limit in new and (limit not in old or (new[limit] - old[limit]) * tighter > 0):
                yield f"{where}: {limit} is {new[limit]} now"
        if "pattern" in new and new["pattern"] != old.get("pattern"):
            yield f"{where}: the pattern is {new['pattern']} now"
        needed = [name for name in new.get("required", ()) if name not in old.get("required", ())]
        yield from (f"{where}: {name} is needed now" for name in needed)
        yield from self._fields(old, new, where, self._taken)

    def _given(self, old: Document, new: Document, where: str) -> Iterator[str]:
        """Compare what callers get."""
        old, new = _at(self._old, old), _at(self._new, new)
        yield from _other_kind(old, new, where)
        yield from _fewer_always(old, new, where)
        yield from self._fields(old, new, where, self._given)

    def _fields(self, old: Document, new: Document, where: str, compare: Any) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        yield from _gone(before, after, f"{where}: field")
        for name in before.keys() & after.keys():
            yield from compare(before[name], after[name], f"{where}: {name}")
        if "items" in old and "items" in new:
            yield from compare(old["items"], new["items"], f"{where}: its items")


def _at(document: Document, node: Document) -> Document:
    """Follow a reference, if it is one."""
    if "$ref" not in node:
        return node
    for part in node["$ref"].removeprefix("#/").split("/"):
        document = document[part]
    return document


def _other_kind(old: Document, new: Document, where: str) -> Iterator[str]:
    for what in ("type", "format"):
        if old.get(what) != new.get(what):
            yield f"{where}: {what} {old.get(what)} is {new.get(what)} now"
    if old.get("xml") != new.get("xml"):
        yield f"{where}: is written otherwise in XML"


def _refused_values(old: Document, new: Document) -> list[Any]:
    if "enum" not in new:
        return []
    return [value for value in old.get("enum", ["anything"]) if value not in new["enum"]]
