"""Hold the readers of JSON and XML to what they take, what they refuse and where they say it is wrong."""

from __future__ import annotations

import codecs
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulsaga.web import formats
from pulsaga.web.formats import JSON, NOT_XML, XML, Problem


def refused(content_type: str, body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        formats.read(content_type, body)
    return caught.value


@pytest.mark.parametrize("root", ["root", "password", "x:password xmlns:x='urn:x'"])
def test_the_root_of_an_xml_request_may_be_called_anything(root: str) -> None:
    """The original's curl sends `<root>`, a generated client sends what the XSD says."""
    name = root.partition(" ")[0]
    body = f"<?xml version='1.0'?><!-- hi --><{root}><username>ada</username></{name}>".encode()
    assert formats.read("application/xml", body) == {"username": "ada"}


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE r><r><username>a</username></r>",
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r><username>&x;</username></r>',
        b'<!DOCTYPE r [<!ENTITY x "a">]><r><username>&x;</username></r>',
        b'<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd"><r/>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE r><r/>'.encode("utf-16"),
        b"<r><username>&nothing;</username></r>",
    ],
)
def test_xml_with_a_dtd_or_an_entity_is_unreadable(body: bytes) -> None:
    """Entities read files and call hosts; nobody needs them to name a user."""
    problem = refused("application/xml", body)
    assert (problem.status, problem.code) == (400, "unreadable")
    assert "root:" not in problem.detail


@pytest.mark.parametrize(
    ("mark", "encoding", "declared"),
    [
        (codecs.BOM_UTF8, "utf-8", "UTF-16"),
        (codecs.BOM_UTF8, "utf-8", "ISO-8859-1"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-8"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf8"),
    ],
)
def test_a_byte_order_mark_that_contradicts_the_declaration_is_unreadable(
    mark: bytes, encoding: str, declared: str
) -> None:
    """Two servers that believe different ones read different requests (XML 1.0 §4.3.3)."""
    text = f'<?xml version="1.0" encoding="{declared}"?><r><username>ada</username></r>'
    assert refused("application/xml", mark + text.encode(encoding)).code == "unreadable"
    text = text.replace(declared, encoding[:6].rstrip("-"))
    assert formats.read("application/xml", mark + text.encode(encoding)) == {"username": "ada"}


def test_a_problem_is_not_much_larger_than_what_caused_it() -> None:
    """Sixty kilobytes of unknown fields were answered with ten times as much."""
    problem = formats.invalid({f"/{'x' * 300}{number}": "is unknown" for number in range(5000)})
    assert "4980 more errors" in problem.detail or len(problem.detail) == formats.LONGEST_DETAIL
    assert len(XML.write_problem(problem.document)) < 16 * 1024
    assert len(Problem(400, "unreadable", "\x1b" * 100_000).detail) == formats.LONGEST_DETAIL


def test_a_bomb_of_entities_costs_nothing() -> None:
    """A hundred bytes that unfold to gigabytes have stopped many a server."""
    rows = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE r [<!ENTITY e0 "lol">{rows}]><r a="&e11;"><username>&e11;</username></r>'
    began = time.process_time()
    assert refused("application/xml", bomb.encode()).status == 400
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("content_type", "body", "place"),
    [
        ("application/json", b'{"username":\n "ada",}', "line 2"),
        ("application/json", b"", "line 1"),
        ("application/json", b'{"username":\n "\xc3\xa9\xff"}', "line 2, column 4"),
        ("application/json", b'{"username": "\\ud800"}', "line 1"),
        ("application/json", b'{"age": NaN}', "line 1"),
        ("application/json", b'{"age": Infinity}', "line 1"),
        ("application/json", b'{"age": 1e9999}', "line 1"),
        ("application/json", b'{"username": "ada"}\n{}', "line 2"),
        ("application/json", "{}".encode("utf-16"), "line 1"),
        ("application/json", b"[" * 5000, "line 1"),
        ("application/json", b'{"a":\n' * 33 + b"1" + b"}" * 33, "line 33, column 1"),
        ("application/xml", b"<r>\n<username>ada</r>", "line 2"),
        ("application/xml", b"", "line 1"),
        ("application/xml", b"<r>\n<username>a\x00b</username></r>", "line 2"),
        ("application/xml", b"<r>\n<username>\xff</username></r>", "line 2"),
        ("application/xml", b"<r>\n<x:username>ada</x:username></r>", "line 2"),
        ("application/xml", b"<?xml version='1.0'?>\n\n <!DOCTYPE r><r/>", "line 3, column 2"),
        ("application/xml", b"<?xml version='1.0' encoding='UTF-7'?><r/>", "line 1"),
        ("application/xml", b"<?xml version='1.0' encoding='klingon'?><r/>", "line 1"),
        ("application/xml", b"<?xml version='1.1'?><r/>", "line 1"),
        ("application/xml", b"<a>\n" * 34 + b"</a>" * 34, "line 33"),
        ("application/xml", b"<a>" * 200 + b"</a>" * 200, "line 1"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(content_type: str, body: bytes, place: str) -> None:
    """Whoever wrote the client must find the comma."""
    problem = refused(content_type, body)
    assert (problem.status, problem.code) == (400, "unreadable")
    assert place in problem.detail


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "application/ld+json",
     "application/xml; charset=klingon", "application/xml; charset=utf-7", "application/xml; charset=a\x00b"],
)  # fmt: skip
def test_a_type_that_is_not_spoken_is_told_which_are(content_type: str) -> None:
    """`curl -d` sends a form type unless told otherwise; the answer must say what to send."""
    problem = refused(content_type, b"<r/>")
    assert problem.status == 415
    assert "application/json" in problem.headers["Accept"]


def test_parameters_of_a_content_type_are_understood() -> None:
    """Most clients add a charset."""
    assert formats.read("Application/JSON; Charset=UTF-8", b'{"username":"ada"}') == {"username": "ada"}
    latin = "<r><username>josé</username></r>".encode("latin-1")
    assert formats.read("text/xml; charset=iso-8859-1", latin) == {"username": "josé"}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ('<?xml version="1.0" encoding="UTF-16"?><r><username>jos\u00e9</username></r>'.encode("utf-16"), "jos\u00e9"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><r><username>\u00e9</username></r>'.encode("latin-1"), "\u00e9"),
        (b"<r><username><![CDATA[a<b]]></username></r>", "a<b"),
        (b"<r><?php exit ?><username>a<!-- x -->d<?x?>a</username></r>", "ada"),
        (b"<r xmlns:x='urn:x'><x:username>ada</x:username></r>", "ada"),
        (b"<r><username>ada</username><!-- <!DOCTYPE r> --></r>", "ada"),
        (b"<r><username>&lt;&#97;&#xe9;</username></r>", "<a\u00e9"),
    ],
)
def test_xml_means_the_same_in_whatever_way_it_is_written(body: bytes, value: str) -> None:
    """Writers of XML differ in encoding, CDATA, prefixes and comments; a user's name must not."""
    assert formats.read("application/xml", body) == {"username": value}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"<r>hello</r>", {"#text": "hello"}),
        (b"<r> \n</r>", {}),
        (b"<r>x<username>ada</username>y</r>", {"#text": "xy", "username": "ada"}),
        (b"<r><username role='admin'>ada</username></r>", {"username": {"@role": "admin", "#text": "ada"}}),
        (b"<r><username><b>a</b>da</username></r>", {"username": {"b": "a", "#text": "da"}}),
        (b"<r><username>ada</username><username>eve</username></r>", {"username": ["ada", "eve"]}),
        (b"<r xmlns:x='urn:x'><username>ada</username><x:username>eve</x:username></r>", {"username": ["ada", "eve"]}),
        (
            b"<r xmlns:xi='http://www.w3.org/2001/XInclude'><username><xi:include href='/etc/passwd'/></username></r>",
            {"username": {"include": {"@href": "/etc/passwd"}}},
        ),
    ],
)
def test_nothing_that_was_said_in_xml_is_passed_over(body: bytes, fields: dict[str, Any]) -> None:
    """What does not fit must reach the schema, which names it; a second name that is ignored is somebody's exploit."""
    assert formats.read("application/xml", body) == fields


def test_of_members_of_one_name_the_last_counts() -> None:
    """RFC 8259 leaves it open, the suite of JSON parsers wants it read; what it means must be said and stay."""
    assert formats.read("application/json", b'{"username":"ada","username":"eve"}') == {"username": "eve"}


def test_nesting_is_counted_outside_of_strings() -> None:
    """A name of brackets is a name."""
    assert formats.read("application/json", b"[" * 32 + b"]" * 32)
    assert formats.read("application/json", b'{"a\\"[":"' + b"[" * 99 + b'"}') == {'a"[': "[" * 99}


# --- whatever can be written, and whatever cannot

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
