"""Turn dataclasses into mappings and back, nested ones and lists of them too. Only the standard library is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from functools import cache, cached_property
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
    if value is None:
        return None
    hint = needed(hint)
    if is_dataclass(hint) and isinstance(value, Mapping):
        cls: Any = hint
        hints = hints_of(cls)
        return cls(**_absent(cls) | {name: built(hints[name], one) for name, one in value.items()})
    if get_origin(hint) in (list, tuple):
        return get_origin(hint)(built(get_args(hint)[0], one) for one in value)
    return value


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
