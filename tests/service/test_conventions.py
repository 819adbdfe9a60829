"""Hold the front door to what HTTP clients, caches, browsers and proxies expect of any server."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import urllib3
from tests.patience import PATIENCE_S
from tests.service.rooms import Room, room
from tests.service.web import serving

from bff.tables import password
from pulsaga.delivery.messages import UUID7
from pulsaga.settings import SettingError, Settings
from pulsaga.web.documents import snapshots
from pulsaga.web.formats import Problem
from system import SYSTEM

PAGE = "https://page.test"


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path, GENERADOR_URL="http://127.0.0.1:1", CORS_ORIGINS=f"{PAGE}, https://other.test")
    yield made
    made.close()


def issued(bff: Room, *usernames: str) -> None:
    for username in usernames:
        bff.write_view(password, username=username, version=1, status="issued", issued_at=1.0, changed_at=2.0, actor="")


# --- methods


@pytest.mark.parametrize("accept", ["application/json", "application/xml"])
def test_head_says_what_get_would_without_saying_it(bff: Room, accept: str) -> None:
    """A cache or a monitor asks for the headers alone."""
    issued(bff, "ada")
    got, head = (bff.http.open("/passwords/ada", method=m, headers={"Accept": accept}) for m in ("GET", "HEAD"))
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Type", "Content-Length", "ETag", "Vary", "Cache-Control"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("path", "methods"), [("/passwords", {"GET", "HEAD", "OPTIONS", "POST"}), ("/reveals", {"OPTIONS", "POST"})]
)
def test_options_tells_what_may_be_asked(bff: Room, path: str, methods: set[str]) -> None:
    """204, whatever is accepted: it has no body to be negotiated."""
    answer = bff.http.options(path, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.data, answer.headers.get("Content-Type")) == (204, b"", None)
    assert set(answer.headers["Allow"].split(", ")) == methods
    refused = bff.http.open(path, method="PATCH", headers={"Accept": "application/xml"})
    assert (refused.status_code, refused.mimetype) == (405, "application/problem+xml")
    assert set(refused.headers["Allow"].split(", ")) == methods


# --- what the caller has already


@pytest.mark.parametrize("accept", ["application/json", "application/xml"])
def test_what_the_caller_has_is_not_sent_again(bff: Room, accept: str) -> None:
    """A client that polls pays for a status that changed, not for each look."""
    issued(bff, "ada")
    shown = bff.http.get("/passwords/ada", headers={"Accept": accept})
    again = bff.http.get("/passwords/ada", headers={"Accept": accept, "If-None-Match": shown.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", shown.headers["ETag"])
    assert again.headers["Vary"] == shown.headers["Vary"]
    other = bff.http.get("/passwords/ada", headers={"Accept": accept, "If-None-Match": '"else", W/"x"'})
    assert (other.status_code, other.data) == (200, shown.data)


@pytest.mark.parametrize("path", ["/passwords", "/docs", "/livez", "/static/docs.css"])
@pytest.mark.parametrize("date", ["Sat, 28 Nov 3000000000 00:00:00 GMT", "Sat, 28 Nov 2026 00:00:00 +" + "9" * 20])
def test_a_date_that_cannot_be_read_says_nothing(bff: Room, path: str, date: str) -> None:
    """Some make the parser raise what it does not expect: a 500 and a page of the log for each, before any token."""
    with structlog.testing.capture_logs() as logged:
        for headers in ({"If-Modified-Since": date}, {"If-Range": date, "Range": "bytes=0-0"}):
            assert bff.http.get(path, headers=headers, buffered=True).status_code == 200
    assert logged == []


def test_an_answer_has_one_date(bff: Room) -> None:
    """Two of them are one too many for a cache that computes an age."""
    with serving(bff.app) as running, urllib3.PoolManager(retries=False, timeout=PATIENCE_S) as client:
        answer = client.request("GET", f"{running.url}/passwords")
    assert len(answer.headers.getlist("Date")) == 1


def test_each_format_has_a_tag_of_its_own(bff: Room) -> None:
    """A cache that mixed them up would hand XML to who reads JSON."""
    issued(bff, "ada")
    tags = {bff.http.get("/passwords/ada", headers={"Accept": a}).headers["ETag"] for a in ("text/xml", "*/*")}
    assert len(tags) == 2
    assert {"Accept", "Accept-Encoding"} <= set(bff.http.get("/passwords/ada").headers["Vary"].split(", "))


# --- compression


def test_what_is_long_is_compressed_for_who_can_read_it(bff: Room) -> None:
    """A page of 200 rows is mostly repetition."""
    issued(bff, *(f"user-{number:03}" for number in range(30)))
    plain = bff.http.get("/passwords")
    packed = bff.http.get("/passwords", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert (packed.headers["Content-Encoding"], gzip.decompress(packed.data)) == ("gzip", plain.data)
    assert int(packed.headers["Content-Length"]) == len(packed.data) < len(plain.data) / 4
    assert packed.headers["ETag"] == plain.headers["ETag"]
    for refusing in ("gzip;q=0", "identity", ""):
        answer = bff.http.get("/passwords", headers={"Accept-Encoding": refusing})
        assert (answer.headers.get("Content-Encoding"), answer.data) == (None, plain.data)


def test_no_secret_is_compressed_or_tagged(bff: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of compressed text tells what it repeats (BREACH); a tag is a fingerprint of the secret."""
    secret = {"username": "ada", "password": "x" * 4096}
    monkeypatch.setattr("bff.vault.Vault.reveal", lambda *_: secret)
    answer = bff.http.post("/reveals", json={"token": "t"}, headers={"Accept-Encoding": "gzip"})
    assert (answer.status_code, answer.json) == (200, secret)
    assert answer.headers["Cache-Control"] == "no-store"
    assert not {"Content-Encoding", "ETag"} & set(answer.headers.keys())


# --- pages


@pytest.mark.parametrize("accept", ["application/json", "application/xml"])
def test_pages_are_linked_by_header_until_the_last(bff: Room, accept: str) -> None:
    """RFC 8288: a generic client walks a list without knowing how its bodies look."""
    issued(bff, "ada", "b & c", "d,e;f", "josé", "zoë")
    seen, url = 0, "/passwords?limit=2"
    while url:
        page = bff.http.get(url, headers={"Accept": accept})
        links = urllib3.response.HTTPHeaderDict(page.headers).get("Link")
        seen += page.data.count(b"issuedAt") // (1 if accept.endswith("json") else 2)
        url = links[1 : links.index(">")] if links else ""
        assert not links or links.endswith('; rel="next"')
    assert seen == 5


# --- who asked what


def test_a_request_keeps_the_name_that_its_caller_gave_it(bff: Room) -> None:
    """Caller and operator find the same request in both their logs, errors too."""
    for path, status in (("/passwords", 200), ("/nowhere", 404)):
        answer = bff.http.get(path, headers={"X-Request-Id": "trace/7:42"})
        assert (answer.status_code, answer.headers["X-Request-Id"]) == (status, "trace/7:42")


def test_an_error_of_ours_is_logged_under_the_name_that_the_caller_gets(
    bff: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is all that the caller can tell us of it."""

    def broken(*_: object) -> None:
        raise RuntimeError("detail")

    monkeypatch.setattr("bff.queries.find_password", broken)
    with structlog.testing.capture_logs() as logged:
        answer = bff.http.get("/passwords/ada")
    assert answer.status_code == 500
    assert [entry["request_id"] for entry in logged] == [answer.headers["X-Request-Id"]]


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "josé"])
def test_a_request_without_a_good_name_gets_one(bff: Room, given: str | None) -> None:
    """What stands in a log or a header must be fit for it."""
    names = {
        bff.http.get("/livez", headers={} if given is None else {"X-Request-Id": given}).headers["X-Request-Id"]
        for _ in range(2)
    }
    assert len(names) == 2
    assert all(UUID7.fullmatch(name) for name in names)


# --- browsers


def test_a_page_of_a_permitted_origin_may_ask_and_read(bff: Room) -> None:
    """Without these headers a browser keeps the answer from the page."""
    answer = bff.http.post("/passwords", json={"username": "ada"}, headers={"Origin": PAGE})
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert {"Location", "Retry-After"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert "Origin" in answer.headers["Vary"]
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
    preflight = bff.http.options("/passwords", headers={"Origin": PAGE, **asked})
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "idempotency-key" in preflight.headers["Access-Control-Allow-Headers"].lower()


def test_a_page_may_read_why_it_is_not_let_in(tmp_path: Path) -> None:
    """A preflight carries no token and must pass; the refusal of the request itself must reach the page."""
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=base64.b64encode(b"s" * 32).decode(), CORS_ORIGINS=PAGE)
    preflight = made.http.options("/passwords", headers={"Origin": PAGE, "Access-Control-Request-Method": "GET"})
    refused = made.http.get("/passwords", headers={"Origin": PAGE})
    assert (preflight.status_code, refused.status_code) == (204, 401)
    assert {answer.headers["Access-Control-Allow-Origin"] for answer in (preflight, refused)} == {PAGE}
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    made.close()


@pytest.mark.parametrize("origin", ["https://evil.test", "http://page.test", "https://page.test.evil.test", "null"])
def test_a_page_of_another_origin_reads_nothing(bff: Room, origin: str) -> None:
    """Whoever lures a user to a page must not read with that user's rights."""
    for answer in (bff.http.get("/passwords", headers={"Origin": origin}), bff.http.options("/passwords")):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
        assert "Origin" in answer.headers["Vary"]


def test_without_the_setting_no_page_reads_anything(tmp_path: Path) -> None:
    """Off by default."""
    made = room("bff", tmp_path)
    answer = made.http.get("/passwords", headers={"Origin": PAGE})
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    made.close()


@pytest.mark.parametrize(
    "wrong", ["page.test", "https://page.test/", "ftp://page.test", "https://Page.test", "https://"]
)
def test_an_origin_that_no_browser_writes_is_refused_at_start(wrong: str) -> None:
    """It would never match, and nobody would know why."""
    with pytest.raises(SettingError, match="CORS_ORIGINS"):
        Settings.read({"CORS_ORIGINS": wrong})


def test_what_never_reaches_the_app_follows_the_conventions_too(bff: Room) -> None:
    """A page must be able to read that it shall come back later, and in which request that was said."""
    bff.app.extensions["gate"].refusal = lambda *_: Problem(503, "overloaded", "come back")
    headers = {"Origin": PAGE, "X-Request-Id": "r-1", "Content-Type": "application/json"}
    with serving(bff.app) as running, urllib3.PoolManager(retries=False, timeout=PATIENCE_S) as client:
        answer = client.request("POST", f"{running.url}/passwords", body=b"{}", headers=headers)
    assert answer.status == 503
    assert answer.headers["X-Request-Id"] == "r-1"
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


# --- documents


@pytest.mark.parametrize(
    ("page", "holds"),
    [
        ("/", ("/docs/messages", "/openapi.json", "http://127.0.0.1:3000/passwords")),
        ("/docs", ("POST /passwords", "Idempotency-Key")),
        ("/docs/messages", ("protools_saga.saga-moved", "ce_actor")),
    ],
)
def test_the_documentation_is_a_page_that_needs_no_script(bff: Room, page: str, holds: tuple[str, ...]) -> None:
    """It is read behind firewalls and on the open internet: nothing from elsewhere, nothing that runs."""
    answer = bff.http.get(page, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; base-uri")
    assert all(text in answer.text for text in holds)
    assert not [text for text in ("<script", "style=", " onclick", "://cdn", "Undefined") if text in answer.text]
    for reference in set(re.findall(r'(?:href|src)="(/[^"#]*)"', answer.text)):
        with bff.http.get(reference) as found:
            assert found.status_code == 200


@pytest.mark.parametrize("name", [path.name for path in snapshots.folder_of(SYSTEM).iterdir()])
def test_a_document_is_served_as_committed_and_not_again_to_who_has_it(tmp_path: Path, name: str) -> None:
    """Generators and gateways fetch it at every start."""
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=base64.b64encode(b"s" * 32).decode())
    answer = made.http.get(f"/{name}", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(answer.data) == (snapshots.folder_of(SYSTEM) / name).read_bytes()
    assert made.http.get(f"/{name}", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    made.close()


def test_where_nobody_is_asked_the_document_asks_nobody(bff: Room) -> None:
    """A client generated from it, or a person at `/docs`, would look for a token that nobody gives."""
    committed = json.loads((snapshots.folder_of(SYSTEM) / "openapi.json").read_text())
    told = bff.http.get("/openapi.json").json
    assert "security" not in told
    assert "securitySchemes" not in told["components"]
    assert not any(one.get("security") for methods in told["paths"].values() for one in methods.values())
    assert told["paths"] == committed["paths"]
    page, operations = bff.http.get("/docs").text, sum(map(len, told["paths"].values()))
    assert page.count("Nobody is asked who they are") == operations


# --- browsers that show what they get

BROWSERS = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
)
SHOWN = ("text/html", "application/json", "application/problem+json")


@pytest.mark.parametrize("accept", BROWSERS)
@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/nowhere", 404), ("/commands/x", 404), ("/passwords?limit=0", 422)]
)
def test_a_browser_shows_what_it_gets(bff: Room, accept: str, path: str, status: int) -> None:
    """`problem+xml`, which its Accept prefers, it saves to a file, or says that the site cannot be reached."""
    answer = bff.http.get(path, headers={"Accept": accept})
    assert answer.status_code == status
    assert answer.mimetype in SHOWN


def test_a_browser_shows_what_the_server_itself_refuses(bff: Room) -> None:
    """Below the app the same holds."""
    with serving(bff.app) as running, urllib3.PoolManager(retries=False, timeout=PATIENCE_S) as client:
        answer = client.request("GET", running.url, headers={"Accept": BROWSERS[0], "Expect": "miracles"})
    assert answer.status == 417
    assert answer.headers["Content-Type"] in SHOWN
