"""Send the Big List of Naughty Strings wherever a caller may put text, to a whole running system, and read it back."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

import orjson
import pytest
from lxml import etree
from tests.outside.door import Door, Tally, expect, outcome
from tests.outside.packages import NAUGHTY_STRINGS, Package, naughty_strings
from tests.system.harness import System

JSON, XML = ({"Content-Type": kind, "Accept": kind} for kind in ("application/json", "application/xml"))
ACCEPTED = "202"
REFUSED = ("400 unreadable", "422 invalid")


@pytest.fixture(scope="module")
def strings(suite: Callable[[Package], Path]) -> list[str]:
    found = naughty_strings(suite(NAUGHTY_STRINGS))
    assert len(found) == 481
    return found


def body(username: str, email: str) -> bytes:
    return orjson.dumps({"username": username, "email": email})


def xml_body(username: str, email: str) -> bytes:
    return f"<wish><username>{escape(username)}</username><email>{escape(email)}</email></wish>".encode()


def listed(door: Door) -> dict[str, str]:
    """The link of every password by its username, page by page."""
    found: dict[str, str] = {}
    path: str | None = "/passwords?limit=200"
    while path:
        page = orjson.loads(door.ask("GET", path).data)
        found |= {row["username"]: row["links"]["self"] for row in page["passwords"]}
        path = page.get("links", {}).get("next")
    return found


def listed_in_xml(door: Door) -> list[str]:
    """Every username, page by page."""
    found: list[str] = []
    path: str | None = "/passwords?limit=200"
    while path:
        page = etree.fromstring(door.ask("GET", path, headers={"Accept": "application/xml"}).data)
        found += [str(row.findtext("username")) for row in page.findall("password")]
        path = page.findtext("links/next")
    return found


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def mailed(address: str) -> str:
    """How an address stands in a mail: a domain in lower case, for it has no other (RFC 5321 §2.4)."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"


def test_a_naughty_name_is_refused_or_read_back_as_it_was(
    system: System, own: Door, strings: list[str], tally: Tally
) -> None:
    """A name passes two formats, four services, a broker and their databases; each could bend it. The XML repeats the
    request under its key, so it must mean the same."""
    told, in_xml = {}, {}
    for number, name in enumerate(strings):
        key, email = {"Idempotency-Key": f"name-{number}"}, f"n{number}@example.test"
        first = own.ask("POST", "/passwords", body(name, email), JSON | key)
        again = own.ask("POST", "/passwords", xml_body(name, email), XML | key)
        told[name], in_xml[name] = outcome(first), outcome(again)
        assert first.headers.get("Location") == again.headers.get("Location"), name
    expect(told, ACCEPTED, *REFUSED)
    expect(in_xml, ACCEPTED, *REFUSED)
    accepted = {nfc(name) for name, said in told.items() if said == ACCEPTED}
    system.eventually(lambda: len(listed(own)) >= len(accepted))
    links = listed(own)
    assert set(links) == accepted
    for name, link in links.items():
        assert orjson.loads(own.ask("GET", link).data)["username"] == name
    assert set(listed_in_xml(own)) == accepted
    tally("Naughty strings as user names, JSON", told)
    tally("Naughty strings as user names, XML", in_xml)


@pytest.mark.parametrize("pattern", ["{}", "{}@example.test", "ada@{}"])
def test_a_naughty_address_is_refused_or_gets_the_mail(
    system: System, whole: Door, strings: list[str], tally: Tally, pattern: str
) -> None:
    """An address stands in a mail's header and on a line of SMTP: one character too many is another recipient."""
    addresses = [pattern.format(text) for text in strings]
    told = {}
    for number, address in enumerate(addresses):
        told[address] = outcome(whole.ask("POST", "/passwords", body(f"{pattern}{number}", address), JSON))
    expect(told, ACCEPTED, *REFUSED)
    accepted = {mailed(address) for address, said in told.items() if said == ACCEPTED}
    system.eventually(lambda: accepted <= {mail.recipient for mail in system.mailbox.mails()})
    tally(f"Naughty strings as addresses, `{pattern}`", told)


def test_a_naughty_key_is_refused_or_a_key_of_its_own(whole: Door, strings: list[str], tally: Tally) -> None:
    """A key that is read as another one answers with a stranger's command, or with none."""
    told, places = {}, {}
    for number, key in enumerate(strings):
        header = {"Idempotency-Key": key.encode().decode("latin-1")}  # as bytes: clients send UTF-8
        first, again = (whole.ask("POST", "/passwords", body(f"key-{number}", "a@b.test"), JSON | header) for _ in "12")
        told[key] = outcome(first)
        if told[key] == ACCEPTED:
            assert again.headers["Idempotent-Replayed"] == "true", key
            assert again.headers["Location"] == first.headers["Location"]
            places[key] = first.headers["Location"]
    expect(told, ACCEPTED, "400 idempotency-key-invalid", "400 bad-request")
    assert len(set(places.values())) == len(places)
    tally("Naughty strings as idempotency keys", told)


@pytest.mark.parametrize("place", ["/commands/{}", "/{}"])
def test_a_naughty_id_is_unknown(whole: Door, strings: list[str], tally: Tally, place: str) -> None:
    """What nobody was given is 404, whatever a database or a router thinks of it."""
    texts = (text for text in strings if text not in ("", "."))  # clients take both away (RFC 3986 §5.2.4)
    told = {text: outcome(whole.ask("GET", place.format(quote(text, safe="")))) for text in texts}
    expect(told, "404 not-found")
    tally(f"Naughty strings in paths, `{place}`", told)


@pytest.mark.parametrize("name", ["after", "limit"])
def test_a_naughty_parameter_is_refused_or_taken_as_it_is(
    whole: Door, strings: list[str], tally: Tally, name: str
) -> None:
    """A cursor of any text is a place in the list."""
    told = {text: outcome(whole.ask("GET", f"/passwords?{name}={quote(text, safe='')}")) for text in strings}
    expect(told, "200", "422 invalid")
    tally(f"Naughty strings in queries, `{name}`", told)


@pytest.mark.parametrize("names", ["Accept", "Content-Type", "Prefer, X-Request-Id, traceparent and Cookie"])
def test_a_naughty_header_is_refused_or_passed_over(whole: Door, strings: list[str], tally: Tally, names: str) -> None:
    """Headers are read by the server, by Flask and by us; none of the three may stumble."""
    told = {}
    for text in strings:
        headers = dict.fromkeys(names.replace(" and", ",").split(", "), text.encode().decode("latin-1"))
        told[text] = outcome(whole.ask("POST", "/passwords", b"{}", JSON | headers))
    expect(told, "422 invalid", "400 bad-request", "406 not-acceptable", "415 unsupported-media-type")
    tally(f"Naughty strings in headers: {names}", told)
