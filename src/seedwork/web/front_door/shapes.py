"""Derive the body by which callers start a workflow from its starting command: a dataclass becomes a Shape."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

from marshmallow import ValidationError, fields
from marshmallow.validate import Length, Range, Validator

from pulsaga.errors import DefinitionError
from pulsaga.records import built, has_default, is_optional, needed
from pulsaga.web.contract import Shape, named
from pulsaga.web.formats import NOT_XML, invalid, item_name
from pulsaga.web.front_door.callbacks.outward import URL_LENGTH, read_url

CALLBACK = "callback"
"""Member of a body that names no field of the command: the URL that is told of the end."""
TOKEN, TOKEN_LENGTH = "token", 200
"""Member of the body of a signal: what lets its bearer send it."""
TEXT_LENGTH, ITEMS = 10_000, 1000
"""Characters of a text and items of a list at most, unless the field's metadata says otherwise."""
WHOLE_NUMBERS = {"minimum": -(2**63), "maximum": 2**63 - 1}
TEXT_PATTERN = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]*$"
"""The characters that XML can hold, as a pattern of ECMA-262."""
LIMITS = ("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems")
"""Keywords of JSON Schema that a dataclass field may set in its `metadata`, beside `description` and `examples`."""
Said = Mapping[str, Any]


def body_of(workflow: str, command: type, given: Collection[str] | None) -> Shape:
    """Return the shape of the fields that callers may give of a command, and of their callback.

    Raise DefinitionError for a field that is not there, has no default although nobody gives it, or cannot be given.
    """
    members = _members(f"workflow {workflow}", _camel(workflow), command, given)
    if CALLBACK in members:
        name = f"workflow {workflow}: {command.__qualname__}"
        raise DefinitionError(f"{name}: field {CALLBACK}: callers name by it where to tell of the end")
    return _body(_camel(workflow), command, {**members, CALLBACK: callback_field()})


def signal_body(name: str, signal: type) -> Shape:
    """Return the shape of a signal that callers send; raise DefinitionError as `body_of`."""
    return _body(_camel(name), signal, _members(f"signal {name}", _camel(name), signal, None))


def shape_of(name: str, cls: type) -> Shape:
    """Return the shape of a dataclass, for an entrance with a body of its own; raise DefinitionError as `body_of`."""
    members = _members(name, _camel(name), cls, None)
    return _body(_camel(name), cls, {**members, CALLBACK: callback_field()})


def borne_body(name: str, signal: type) -> Shape:
    """Return the shape of a signal that is sent with a token; raise DefinitionError as `body_of`."""
    members = _members(f"signal {name}", _camel(name), signal, None)
    if TOKEN in members:
        raise DefinitionError(f"signal {name}: {signal.__qualname__}: field {TOKEN}: by it callers show their right")
    about = {"description": "As the link carries it.", "maxLength": TOKEN_LENGTH, "examples": ["h6Zk…"]}
    token = _Text(required=True, validate=Length(min=1, max=TOKEN_LENGTH), metadata=about)
    return _body(_camel(name), signal, {TOKEN: token, **members})


def _body(name: str, command: type, members: Mapping[str, fields.Field[Any]]) -> Shape:
    return _shape(name, name[:1].lower() + name[1:], command, members)()


def _members(where: str, name: str, command: type, given: Collection[str] | None) -> Mapping[str, fields.Field[Any]]:
    try:
        return _Derivation(name).fields_of(command, _given(command, given))
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{where}: {command.__qualname__}: {error}") from None


def _given(command: type, given: Collection[str] | None) -> list[Field[Any]]:
    known = {each.name: each for each in dataclasses.fields(command)}
    named = known.keys() if given is None else given
    if unknown := [name for name in named if name not in known]:
        raise ValueError(f"has no field {', '.join(unknown)}")
    if needed := [name for name, each in known.items() if name not in named and not has_default(each)]:
        raise ValueError(f"callers may not give {', '.join(needed)}, which has no default")
    return [known[name] for name in named]


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"\W|_", name))


def _shape(name: str, root: str, cls: type, members: Mapping[str, fields.Field[Any]]) -> type[Shape]:
    return named(Shape.from_dict(dict(members), name=name), root, cls.__doc__ or "")


# --- fields


@dataclass
class _Derivation:
    """What is known while the shapes of one body are made: its name, what is made, the dataclasses being read."""

    name: str
    made: dict[type, type[Shape]] = dataclasses.field(default_factory=dict)
    inside: tuple[type, ...] = ()

    def fields_of(self, cls: type, given: Collection[Field[Any]]) -> dict[str, fields.Field[Any]]:
        """Return a field for each of a dataclass's."""
        hints = get_type_hints(cls)
        return {each.name: self._field(each, hints[each.name]) for each in given}

    def _field(self, field: Field[Any], hint: Any) -> fields.Field[Any]:
        options = {"required": not has_default(field) and not is_optional(hint), "allow_none": is_optional(hint)}
        try:
            return self._made(needed(hint), field.name, field.metadata, options)
        except TypeError as error:
            raise TypeError(f"field {field.name}: {error}") from None

    def _made(self, hint: Any, name: str, said: Said, options: Mapping[str, Any]) -> fields.Field[Any]:
        about = {key: said[key] for key in ("description", "examples") if key in said}
        limits = {key: said[key] for key in LIMITS if key in said}
        if get_origin(hint) in (list, tuple):
            return self._list(hint, name, about, limits, options)
        if dataclasses.is_dataclass(hint):
            return fields.Nested(self._nested(cast(type, hint), name), metadata=about, **options)
        if hint not in SIMPLE:
            known = "text, whole and other numbers, flags, dataclasses, and lists of them"
            raise TypeError(f"{hint!r} is none of {known}")
        make, least, example = SIMPLE[hint]
        limits = {**least, **limits}
        metadata = {"examples": [example], **about, **limits}
        return make(validate=list(_checks(limits)), metadata=metadata, **options)

    def _list(self, hint: Any, name: str, about: Said, limits: Said, options: Mapping[str, Any]) -> fields.Field[Any]:
        inner, *more = get_args(hint) or (None,)
        if more not in ([], [Ellipsis]):
            raise TypeError(f"{hint!r} is no list of one kind of item")
        held = {"maxItems": ITEMS, **{key: value for key, value in limits.items() if "Items" in key}}
        of_items = {key: value for key, value in limits.items() if "Items" not in key}
        items = self._made(inner, item_name(name), of_items, {})
        return fields.List(items, validate=list(_checks(held)), metadata={**about, **held}, **options)

    def _nested(self, cls: type, name: str) -> type[Shape]:
        if cls in self.inside:
            raise TypeError(f"{cls.__qualname__} holds itself")
        if cls not in self.made:
            within = dataclasses.replace(self, inside=(*self.inside, cls))
            members = within.fields_of(cls, dataclasses.fields(cls))
            self.made[cls] = _shape(self.name + cls.__name__, name, cls, members)
        return self.made[cls]


def _checks(limits: Said) -> Iterator[Validator]:
    for least, most in (("minLength", "maxLength"), ("minItems", "maxItems")):
        if least in limits or most in limits:
            yield Length(min=limits.get(least), max=limits.get(most))
    if "minimum" in limits or "maximum" in limits:
        yield Range(min=limits.get("minimum"), max=limits.get("maximum"))


class _Text(fields.String):
    """Text that both languages can carry."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if NOT_XML.search(text):
            raise ValidationError("must not hold control characters or noncharacters")
        return text


class _Whole(fields.Integer):
    """A number without a fraction, which JSON may write as `5.0`; text is none."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not _is_number(value) or value != value // 1:
            raise ValidationError("must be a whole number")
        number: int = super()._deserialize(int(value), attr, data, **kwargs)
        return number


class _Number(fields.Float):
    """A number; text is none."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not _is_number(value):
            raise ValidationError("must be a number")
        number: float = super()._deserialize(value, attr, data, **kwargs)
        return number


class _Flag(fields.Boolean):
    """True or false; text is neither."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return super()._deserialize(value, attr, data, **kwargs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


SIMPLE: Mapping[Any, tuple[type[fields.Field[Any]], Said, Any]] = {
    str: (_Text, {"maxLength": TEXT_LENGTH, "pattern": TEXT_PATTERN}, "text"),
    int: (_Whole, WHOLE_NUMBERS, 1),
    float: (_Number, {}, 1.5),
    bool: (_Flag, {}, False),
}
"""For each type of a dataclass field: what loads it, its limits, and an example."""


def callback_field(example: str = "https://caller.example/hooks") -> fields.String:
    """Return the field by which a caller names the URL that is told of the end."""
    return fields.String(
        validate=check_callback,
        metadata={
            "description": "Is told of the end by a signed POST (Standard Webhooks): https, or http to loopback.",
            "format": "uri",
            "maxLength": URL_LENGTH,
            "examples": [example],
        },
    )


def check_callback(url: str) -> None:
    """Raise ValidationError unless this may be called back, as far as its text tells."""
    try:
        read_url(url)
    except ValueError as error:
        raise ValidationError(str(error)) from None


# --- what was loaded


def command_of(command: type, said: Said, aside: str = CALLBACK) -> Any:
    """Build a command of what was loaded for it, all but one member.

    Raise the Problem 422 for what the dataclass itself refuses.
    """
    try:
        return built(command, {name: value for name, value in said.items() if name != aside})
    except ValueError as error:
        raise invalid({"": str(error)}) from None
