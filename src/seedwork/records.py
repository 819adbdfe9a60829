"""Turn dataclasses into mappings and back, nested ones and lists of them too. Only the standard library is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from functools import cache, cached_property, partial
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

KEPT = (str, int, float, bool, NoneType, Any, Ellipsis, list, tuple, dict)
"""Types whose values JSON gives back as they were."""


def plain(record: Any) -> Mapping[str, Any]:
    """Return a dataclass by field, nested ones as mappings; one that is flat costs nothing."""
    cls: Any = type(record)
    return asdict(record) if is_nested(cls) else vars(record)


@cache
def is_nested(cls: Any) -> bool:
    """Tell whether a dataclass holds others, or lists, or is not kept as a mapping of its fields alone."""
    return is_dataclass(cls) and (
        not _keeps_fields_alone(cast(Any, cls)) or any(map(_holds_more, hints_of(cast(Any, cls)).values()))
    )


def _keeps_fields_alone(cls: Any) -> bool:
    """Tell whether `vars` of an instance are its fields: not with slots, nor with what is worked out once."""
    members = (member for base in cls.__mro__ for member in vars(base).values())
    return bool(cls.__dictoffset__) and not any(isinstance(member, cached_property) for member in members)


@cache
def hints_of(cls: Any) -> Mapping[str, Any]:
    """Return the types of a dataclass's fields."""
    return get_type_hints(cls)


def _holds_more(hint: Any) -> bool:
    kinds = (hint, *get_args(hint))
    return get_origin(hint) in (list, tuple) or any(is_dataclass(kind) for kind in kinds)


def built(hint: Any, value: Any) -> Any:
    """Return a value as its type has it: mappings become dataclasses, lists become tuples where that is said.

    A field that is not there takes its default; one that has none and may be None is None.
    """
    build = _builder(hint)
    return value if build is None or value is None else build(value)


@cache
def _builder(hint: Any) -> Callable[[Any], Any] | None:
    """Return what builds a value of a type; None where the value is what is given."""
    hint = needed(hint)
    if is_dataclass(hint):
        return partial(_record, hint)
    if get_origin(hint) not in (list, tuple):
        return None
    make, build = cast(Any, get_origin(hint)), _builder(get_args(hint)[0])
    return make if build is None else lambda value: make(one if one is None else build(one) for one in value)


def _record(cls: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    given = {}
    for name, one in value.items():
        build = _builders_of(cls)[name]
        given[name] = one if build is None or one is None else build(one)
    return cls(**_absent(cls) | given)


@cache
def _builders_of(cls: Any) -> Mapping[str, Callable[[Any], Any] | None]:
    return {name: _builder(hint) for name, hint in hints_of(cls).items()}


@cache
def is_unchanging(hint: Any) -> bool:
    """Tell whether a value of this type can be shared: it holds no list, no dict, and no dataclass that can change."""
    return _is_unchanging(hint, ())


def _is_unchanging(hint: Any, inside: tuple[Any, ...]) -> bool:
    kinds: Any = (hint, *get_args(hint))
    if hint in inside:
        return True
    if is_dataclass(hint):
        frozen = cast(Any, hint).__dataclass_params__.frozen
        return frozen and all(_is_unchanging(one, (*inside, hint)) for one in hints_of(cast(Any, hint)).values())
    if get_origin(hint) in (tuple, Union, UnionType):
        return all(_is_unchanging(one, (*inside, hint)) for one in kinds[1:])
    return hint in (str, int, float, bool, NoneType, Ellipsis) or get_origin(hint) is Literal


@cache
def _absent(cls: Any) -> dict[str, None]:
    """Return the fields that are None where nothing is said of them."""
    hints = hints_of(cls)
    return {one.name: None for one in fields(cls) if is_optional(hints[one.name]) and not has_default(one)}


def not_kept(hint: Any, inside: tuple[Any, ...] = ()) -> Any:
    """Return the first type in a hint whose values JSON would not give back as they were; None when there is none."""
    if hint in KEPT or hint in inside or get_origin(hint) is Literal:
        return None
    if is_dataclass(hint):
        parts = tuple(hints_of(cast(Any, hint)).values())
    elif get_origin(hint) in (list, tuple, dict, Union, UnionType):
        parts = get_args(hint)
    else:
        return hint
    return next(filter(None, (not_kept(part, (*inside, hint)) for part in parts)), None)


def has_default(field: Field[Any]) -> bool:
    """Tell whether a field of a dataclass may be left out."""
    return field.default is not MISSING or field.default_factory is not MISSING


def is_optional(hint: Any) -> bool:
    """Tell whether None is of this type."""
    return get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)


def needed(hint: Any) -> Any:
    """Return a type without its None; raise TypeError for a choice of several."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if is_optional(hint) else [hint]
    if len(kinds) != 1:
        raise TypeError(f"{hint!r} is more than one type")
    return kinds[0]
