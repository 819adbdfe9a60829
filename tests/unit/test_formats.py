"""Try the readers on whatever can be written, and on whatever cannot."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from seedwork import formats
from seedwork.formats import JSON, NOT_XML, XML, Problem

UNHURRIED = settings(deadline=None, max_examples=60)
NAMES = st.sampled_from(("id", "username", "links", "steps", "log", "status", "x-y"))
TEXTS = st.text() | st.integers(-(2**63), 2**64 - 1) | st.booleans()
VALUES = st.recursive(TEXTS, lambda inner: st.dictionaries(NAMES, inner) | st.lists(inner, max_size=3), max_leaves=8)
RESOURCES = st.dictionaries(NAMES, VALUES)


def as_read(name: str, value: Any) -> Any:
    """What a value is once XML has made text of its leaves and elements of its lists."""
    if isinstance(value, list):
        return items_read(name, value) or ""
    if not isinstance(value, Mapping):
        return NOT_XML.sub("\ufffd", str(value).lower() if isinstance(value, bool) else str(value))
    fields: dict[str, Any] = {}
    for key, item in value.items():
        fields |= items_read(key, item) if key == name and isinstance(item, list) else {key: as_read(key, item)}
    return fields or ""


def items_read(name: str, values: list[Any]) -> dict[str, Any]:
    items = [as_read(formats.item_name(name), value) for value in values]
    return {formats.item_name(name): items if len(items) > 1 else items[0]} if items else {}


@UNHURRIED
@given(RESOURCES)
def test_what_is_written_in_json_is_read_as_it_was(resource: dict[str, Any]) -> None:
    """Both ends of a call may be ours."""
    assert formats.read(JSON.media_type, JSON.write("resource", resource)) == resource


@UNHURRIED
@given(RESOURCES)
def test_what_is_written_in_xml_is_read_with_the_same_texts(resource: dict[str, Any]) -> None:
    """Spaces, line ends, markup and letters of every plane must come through the second face as through the first."""
    assert formats.read(XML.media_type, XML.write("resource", resource)) == (as_read("resource", resource) or {})


ENCODED = (b"\xff\xfe", b"\xef\xbb\xbf", b"<?xml version='1.0' encoding='UTF-16'?>", b"\xff", b"\xc3", b"\x00")
MARKUP = (b"<r>", b"</r>", b"<", b"&#0;", b"&x;", b"<!DOCTYPE r>", b"<![CDATA[", b"]]>")
PIECES = (*ENCODED, *MARKUP, b"{", b"[", b'"', b"\\ud800", b"1e999", b":", b",")
BODIES = st.binary() | st.lists(st.sampled_from(PIECES) | st.binary(max_size=3)).map(b"".join)
TYPES = st.sampled_from(("application/json", "application/xml", "text/xml; charset=utf-16", "text/xml; charset=ascii"))


@UNHURRIED
@given(TYPES, BODIES)
def test_any_bytes_are_read_or_refused(content_type: str, body: bytes) -> None:
    """A parser's own exception would be a 500."""
    with suppress(Problem):
        formats.read(content_type, body)
