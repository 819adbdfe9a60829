"""Hold what callers may rely on in both formats: negotiation, hardened XML, problems."""

from __future__ import annotations

import re
import time
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from bff.schemas import ISSUE_PASSWORD, USERNAME_PATTERN, wish_of
from seedwork import formats
from seedwork.contract import load
from seedwork.formats import JSON, TEXT_XML, XML, Problem

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "content_type", "face"),
    [
        ("", "", JSON),
        ("*/*", "", JSON),
        ("*/*", "application/xml", XML),
        ("*/*", "text/xml; charset=utf-8", TEXT_XML),
        ("application/json", "application/xml", JSON),
        ("application/xml;q=0.5, application/json;q=0.4", "application/json", XML),
        ("application/json;q=0, */*", "", XML),
        ("application/json; charset=UTF-8", "", JSON),
        ("text/*", "", TEXT_XML),
        (BROWSER, "", XML),
        ("APPLICATION/XML", "", XML),
        ("text/html", "", None),
        ("application/json;q=0", "", None),
        ("nonsense", "", None),
    ],
)
def test_the_answer_is_in_the_format_that_the_caller_prefers(accept: str, content_type: str, face: Any) -> None:
    """A client library sends long Accept headers; getting the other format breaks it at its first byte."""
    assert formats.face_for(accept, content_type) is face


@pytest.mark.parametrize(
    ("accept", "content_type", "face"),
    [
        ("", "", JSON),
        ("text/html", "", JSON),
        ("text/html", "application/xml", XML),
        ("application/problem+xml", "", XML),
        ("application/problem+json, application/xml;q=0.1", "", JSON),
        ("application/xml", "application/json", XML),
    ],
)
def test_a_problem_is_told_even_to_who_accepts_nothing(accept: str, content_type: str, face: Any) -> None:
    """An error that cannot be read is two errors."""
    assert formats.problem_face(accept, content_type) is face


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


def test_both_faces_say_the_same_in_the_same_order() -> None:
    """Whoever switches the format must find every field where it was."""
    document = {
        "id": "1",
        "done": True,
        "attempts": 2,
        "links": {"self": "/x"},
        "steps": [{"n": 1}, {"n": 2}],
        "log": [],
    }
    root = etree.fromstring(XML.write("command", document))
    assert root.tag == "command"
    assert [child.tag for child in root] == list(orjson.loads(JSON.write("command", document)))
    assert [child.text for child in root][:3] == ["1", "true", "2"]
    assert [step.findtext("n") for step in root.findall("steps/step")] == ["1", "2"]
    assert root.findtext("links/self") == "/x"


def test_a_list_named_like_its_root_is_the_root() -> None:
    """`<passwords><password/>…` reads as what it is."""
    document = {"passwords": [{"username": "a"}, {"username": "b"}], "links": {"next": "/passwords?after=b"}}
    root = etree.fromstring(XML.write("passwords", document))
    assert [child.tag for child in root] == ["password", "password", "links"]


def test_no_text_breaks_an_xml_answer() -> None:
    """A name or a server's error text may hold characters that XML cannot; a 500 would hide it for ever."""
    root = etree.fromstring(XML.write("mail", {"error": "a\x00b\ufffe<&>"}))
    assert root.text is None
    assert root.findtext("error") == "a\ufffdb\ufffd<&>"


def test_a_problem_is_that_of_rfc_9457_in_both_formats() -> None:
    """Generic clients know these members, their namespace, and `i` for the items of a list."""
    problem = formats.invalid({"/username": "is missing"})
    members = orjson.loads(JSON.write_problem(problem.document))
    assert list(members) == ["type", "title", "status", "detail", "code", "errors"]
    assert members["errors"] == [{"pointer": "/username", "detail": "is missing"}]
    root = etree.fromstring(XML.write_problem(problem.document))
    names = {"p": "urn:ietf:rfc:7807"}
    assert root.tag == "{urn:ietf:rfc:7807}problem"
    assert root.findtext("p:errors/p:i/p:pointer", namespaces=names) == "/username"
    assert root.findtext("p:status", namespaces=names) == "422"


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({}, "/username"),
        ({"username": None}, "/username"),
        ({"username": 7}, "/username"),
        ({"username": ["a", "b"]}, "/username"),
        ({"username": ""}, "/username"),
        ({"username": "a" * 255, "email": "a@example.test"}, "/username"),
        ({"username": " ada"}, "/username"),
        ({"username": "ada\u00a0"}, "/username"),
        ({"username": "a\x00da"}, "/username"),
        ({"username": "a\nda"}, "/username"),
        ({"username": "a\u2028da"}, "/username"),
        ({"username": "a\ufffeda"}, "/username"),
        ({"username": ".."}, "/username"),
        ({"username": "ada", "email": ""}, "/email"),
        ({"username": "ada", "email": "not an address"}, "/email"),
        ({"username": "ada", "email": "a@b@example.test"}, "/email"),
        ({"username": "ada", "email": "ada@example.test\r\nBcc: eve@example.test"}, "/email"),
        ({"username": "ada", "email": '"a\tb"@example.test'}, "/email"),
        ({"username": "ada", "email": "josé@example.test"}, "/email"),
        ({"username": "ada", "email": "a" * 65 + "@example.test"}, "/email"),
        ({"username": "ada lovelace"}, "/email"),
        ({"username": "a" * 70}, "/email"),
        ({"username": "ada", "admin": True}, "/admin"),
        ({"username": "ada", "a/b~c": 1}, "/a~1b~0c"),
        ([], ""),
        ("ada", ""),
        (None, ""),
    ],
)
def test_a_wrong_field_is_named(data: Any, pointer: str) -> None:
    """A form can put the message beside the field; a header cannot be smuggled into a mail."""
    with pytest.raises(Problem) as caught:
        wish_of(load(ISSUE_PASSWORD, data), "example.test")
    assert caught.value.status == 422
    assert [error["pointer"] for error in caught.value.document["errors"]] == [pointer]


def test_a_name_is_one_name_however_it_was_typed() -> None:
    """é has two spellings in Unicode; two passwords for one person would be the consequence."""
    composed = wish_of(load(ISSUE_PASSWORD, {"username": "jos\u00e9", "email": "j@example.test"}), "example.test")
    decomposed = wish_of(load(ISSUE_PASSWORD, {"username": "jose\u0301", "email": "j@example.test"}), "example.test")
    assert composed == decomposed


def test_without_an_email_the_mail_goes_to_the_domain_of_the_house() -> None:
    """The original's one-field request must go on working."""
    assert wish_of(load(ISSUE_PASSWORD, {"username": "ada"}), "example.test").email == "ada@example.test"


@settings(max_examples=300)
@given(st.text(st.characters() | st.sampled_from("a .\n\x00\x85\u2028\u3000\ufeff\ufffe"), min_size=1, max_size=4))
def test_the_pattern_of_a_user_name_says_what_its_rules_say(name: str) -> None:
    """Generated clients check names by the pattern; they must not refuse what is good nor send what is not."""
    asked = {"username": name, "email": "a@example.test"}
    pattern = USERNAME_PATTERN.replace("$", r"\Z")  # what ECMA-262 means by it
    if re.search(pattern, unicodedata.normalize("NFC", name)) and not re.search("[\ud800-\udfff]", name):
        load(ISSUE_PASSWORD, asked)
    else:
        with pytest.raises(Problem):
            load(ISSUE_PASSWORD, asked)
