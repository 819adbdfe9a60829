"""Hold what callers may rely on in both formats: negotiation, writing, problems, schemas."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from bff.door import begin
from bff.schemas import ISSUE_PASSWORD, USERNAME_PATTERN
from pulsaga.settings import Settings
from pulsaga.web import formats
from pulsaga.web.contract import load
from pulsaga.web.formats import JSON, TEXT_XML, XML, Problem

SETTINGS = Settings.read({})
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
    assert formats.format_for(accept, content_type) is face


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
    assert formats.problem_format(accept, content_type) is face


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
        begin(load(ISSUE_PASSWORD, data), SETTINGS)
    assert caught.value.status == 422
    assert [error["pointer"] for error in caught.value.document["errors"]] == [pointer]


def test_a_name_is_one_name_however_it_was_typed() -> None:
    """é has two spellings in Unicode; two passwords for one person would be the consequence."""
    composed = begin(load(ISSUE_PASSWORD, {"username": "jos\u00e9", "email": "j@example.test"}), SETTINGS)
    decomposed = begin(load(ISSUE_PASSWORD, {"username": "jose\u0301", "email": "j@example.test"}), SETTINGS)
    assert composed == decomposed


def test_without_an_email_the_mail_goes_to_the_domain_of_the_house() -> None:
    """The original's one-field request must go on working."""
    assert begin(load(ISSUE_PASSWORD, {"username": "ada"}), SETTINGS).email == "ada@example.test"


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
