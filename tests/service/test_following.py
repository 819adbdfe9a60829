"""Hold the front door to what it tells those who follow a command: every move, in order, at any replica."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import urllib3
from flask import Flask
from tests.patience import PATIENCE_S
from tests.service.rooms import Room, eventually, room
from tests.service.web import Serving, serving

from pulsaga.delivery.messages import new_id
from pulsaga.running.runtime import Runtime
from pulsaga.web.access import gatekeeper, keys
from pulsaga.web.access.tokens import issue
from pulsaga.web.documents import snapshots
from pulsaga.web.front_door.commands import events
from pulsaga.web.front_door.commands import waiting as waiters
from pulsaga.web.front_door.commands.waiting import Waiting, changed_ids_body, topic_of
from pulsaga.web.front_door.tables import command, command_move
from pulsaga.web.serving.connection import DROP
from pulsaga.web.serving.crew import Asker
from system import SYSTEM

ADA = {"username": "ada"}
SECRET = "correct horse battery staple, 32 bytes and more"
HEARTBEAT_S = "0.05"
STATUSES = {1: "running", 2: "running", 3: "completed"}


def app_of(runtime: Runtime, beside: Room) -> Flask:
    """One more front door on the same databases."""
    web = SYSTEM["bff"].web
    assert web is not None
    return web(runtime, beside.app.extensions["read"])


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path, EVENTS_HEARTBEAT=HEARTBEAT_S)
    yield made
    made.close()


def accept(bff: Room) -> str:
    return str(bff.http.post("/passwords", json=ADA).json["id"])


def move(bff: Room, identifier: str, version: int, status: str = "") -> None:
    """Project one move as the projector does, and tell those who wait."""
    state = {"id": identifier, "version": version, "status": status or STATUSES[version]}
    told = state | {"reason_code": "", "reason_detail": "", "updated_at": float(version)}
    bff.write_view(command_move, **told)
    with bff.projector.begin() as tx:
        tx.execute(command.delete().where(command.c.id == identifier, command.c.version < version))
        newer = command.select().where(command.c.id == identifier)
        if not tx.execute(newer).first():
            about = {"type": "issue-password", "subject": "ada", "cancellable": True, "created_at": 1.0}
            tx.execute(command.insert().values(**told, **about))
    bff.broker.broadcast(topic_of("bff"), changed_ids_body([identifier]))


class Stream:
    """Read one stream of events as it comes."""

    def __init__(self, client: urllib3.PoolManager, url: str, headers: dict[str, str] | None = None) -> None:
        self.answer = client.request("GET", url, headers=headers or {}, preload_content=False)
        self._blocks = self._read()

    def _read(self) -> Iterator[bytes]:
        rest = b""
        for chunk in self.answer.stream(4096):
            *blocks, rest = (rest + chunk).split(b"\n\n")
            yield from blocks
        assert rest == b"", "the stream ended in the middle of an event"

    def next(self) -> tuple[int, str, Any]:
        """Return id, event and data of the next event."""
        for block in self._blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            if b"data" in fields:
                return int(fields[b"id"]), fields[b"event"].decode(), orjson.loads(fields[b"data"])
        raise EOFError

    def heartbeat(self) -> None:
        """Read until a comment shows that the stream is alive."""
        assert any(block.startswith(b":") for block in self._blocks)

    def rest(self) -> list[tuple[int, str]]:
        """Return what comes until the stream ends."""
        told = []
        while True:
            try:
                told.append(self.next()[:2])
            except EOFError:
                return told

    def close(self) -> None:
        self.answer.close()


def follow(client: urllib3.PoolManager, web: Serving, identifier: str, **headers: str) -> Stream:
    return Stream(
        client, f"{web.url}/commands/{identifier}/events", {k.replace("_", "-"): v for k, v in headers.items()}
    )


def test_every_move_is_told_as_it_happens_until_the_end(
    bff: Room, waiting: Waiting, web: Serving, client: urllib3.PoolManager
) -> None:
    """Whoever shows progress needs each state once, in order, and an end that closes the stream."""
    identifier = accept(bff)
    with closing(follow(client, web, identifier)) as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        eventually(lambda: waiting._waiters)
        for version, status in STATUSES.items():
            move(bff, identifier, version)
            number, event, data = stream.next()
            assert (number, event) == (version, status)
            assert (data["id"], data["version"], data["status"]) == (identifier, version, status)
        assert stream.rest() == []
    assert list(data) == list(bff.http.get(f"/commands/{identifier}").json)
    eventually(lambda: not waiting._waiters)


def test_who_comes_back_misses_nothing_and_hears_nothing_twice(
    bff: Room, waiting: Waiting, client: urllib3.PoolManager
) -> None:
    """Connections break and web processes restart; the id says how far the caller got, any replica knows the rest."""
    identifier = accept(bff)
    with serving(bff.app) as first, closing(follow(client, first, identifier)) as stream:
        move(bff, identifier, 1)
        assert stream.next()[0] == 1
    move(bff, identifier, 2)
    move(bff, identifier, 3)
    with serving(app_of(bff.runtime, bff)) as second:
        for version, rest in ((1, [(2, "running"), (3, "completed")]), (2, [(3, "completed")])):
            with closing(follow(client, second, identifier, Last_Event_ID=str(version))) as stream:
                assert stream.rest() == rest
        url = f"{second.url}/commands/{identifier}/events?Last-Event-ID=1"
        with closing(Stream(client, url)) as stream:
            assert [number for number, _ in stream.rest()] == [2, 3]


def test_who_has_heard_the_end_is_told_to_stay_away(bff: Room) -> None:
    """A browser comes back for ever after a stream that ended; only 204 stops it."""
    identifier = accept(bff)
    for version in STATUSES:
        move(bff, identifier, version)
    path = f"/commands/{identifier}/events"
    assert bff.http.get(path, headers={"Last-Event-ID": "3"}).status_code == 204
    assert bff.http.get(path, headers={"Last-Event-ID": "2"}).status_code == 200


def test_a_move_that_is_projected_late_holds_back_those_behind_it(
    bff: Room, waiting: Waiting, web: Serving, client: urllib3.PoolManager
) -> None:
    """Told out of order, the caller would come back behind the newest id and never hear of the one before."""
    identifier = accept(bff)
    move(bff, identifier, 1)
    move(bff, identifier, 3)
    with closing(follow(client, web, identifier)) as stream:
        assert stream.next()[0] == 1
        move(bff, identifier, 2)
        assert [number for number, _ in stream.rest()] == [2, 3]


def test_a_broadcast_that_is_no_text_wakes_the_others_all_the_same(bff: Room, waiting: Waiting) -> None:
    """Whoever may publish may send any bytes; a listener that joins anew for it misses what is told meanwhile."""
    identifier = accept(bff)
    woken = waiting.changes(Asker("shop"), identifier, PATIENCE_S)
    assert next(woken)
    (listener,) = bff.broker._listeners[topic_of("bff")]
    bff.broker.broadcast(topic_of("bff"), b"\xff\xfe\n" + identifier.encode())
    assert next(woken)
    assert bff.broker._listeners[topic_of("bff")] == [listener]
    woken.close()  # type: ignore[attr-defined]


def test_a_suspended_command_keeps_its_stream(
    bff: Room, waiting: Waiting, web: Serving, client: urllib3.PoolManager
) -> None:
    """An operator may resume it, and the caller is there to hear it."""
    identifier = accept(bff)
    move(bff, identifier, 1, "suspended")
    with closing(follow(client, web, identifier)) as stream:
        assert stream.next()[1] == "suspended"
        stream.heartbeat()
        move(bff, identifier, 2)
        move(bff, identifier, 3)
        assert stream.rest() == [(2, "running"), (3, "completed")]


def test_what_was_refused_before_a_saga_began_ends_the_stream(
    bff: Room, web: Serving, client: urllib3.PoolManager
) -> None:
    """Such a command has one state, under the version 0."""
    identifier = accept(bff)
    move(bff, identifier, 0, "refused")
    with closing(follow(client, web, identifier)) as stream:
        assert stream.rest() == [(0, "refused")]


def test_who_is_gone_frees_its_place(
    bff: Room, waiting: Waiting, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places are few; while all are taken a stream is refused and a wait is answered at once."""
    monkeypatch.setattr(waiters, "ROOM", 1)
    identifier = accept(bff)
    stream = follow(client, web, identifier)
    eventually(lambda: waiting._waiters)
    refused = client.request("GET", f"{web.url}/commands/{identifier}/events")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    waited = bff.http.get(f"/commands/{identifier}", headers={"Prefer": "wait=30"})
    assert (waited.status_code, waited.json["status"]) == (200, "accepted")
    stream.close()
    eventually(lambda: not waiting._waiters)


def test_stopping_ends_streams_cleanly(bff: Room, waiting: Waiting, client: urllib3.PoolManager) -> None:
    """The last event is whole and the connection closed in order: the client comes back elsewhere at once."""
    identifier = accept(bff)
    with serving(bff.app) as web:
        stream = follow(client, web, identifier)
        move(bff, identifier, 1)
        assert stream.next()[0] == 1
    assert stream.rest() == []


def test_nobody_looks_between_two_heartbeats_but_whom_a_broadcast_wakes(bff: Room, waiting: Waiting) -> None:
    """A stream that polls would cost a query each time, for every listener."""
    changes = waiting.changes(Asker("shop"), new_id(), 30.0)
    assert next(changes)
    with ThreadPoolExecutor(1) as threads:
        woken = threads.submit(next, changes)
        bff.broker.broadcast(topic_of("bff"), changed_ids_body([new_id()]))
        silent = bff.broker.silences
        eventually(lambda: bff.broker.silences > silent + 3)
        assert not woken.done()
        waiting._wake_all()
        assert woken.result(5)
    changes.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("given", "status"), [("x", 422), ("-1", 422), ("9" * 10, 422)])
def test_an_id_that_no_event_has_is_refused(bff: Room, given: str, status: int) -> None:
    """Taken for nothing, it would tell everything again."""
    answer = bff.http.get(f"/commands/{accept(bff)}/events", headers={"Last-Event-ID": given})
    assert answer.status_code == status


@pytest.mark.parametrize("identifier", ["nonsense", new_id()])
def test_nobody_follows_what_nobody_accepted(bff: Room, identifier: str) -> None:
    """404 in JSON, whatever the caller listens in."""
    answer = bff.http.get(f"/commands/{identifier}/events", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_events_are_what_the_document_says(bff: Room, waiting: Waiting) -> None:
    """A client that is generated from it must be able to read each of them."""
    document = json.loads((snapshots.folder_of(SYSTEM) / "openapi.json").read_text())
    answer = document["paths"]["/commands/{identifier}/events"]["get"]["responses"]["200"]
    schema = answer["content"]["text/event-stream"]["schema"]
    command_schema = {**schema["properties"]["data"]["contentSchema"], "components": document["components"]}
    for statuses in (["running", "suspended", "running", "completed"], ["running", "refused"]):
        identifier = accept(bff)
        for number, status in enumerate(statuses, 1):
            move(bff, identifier, number, status)
        blocks = bff.http.get(f"/commands/{identifier}/events").text.split("\n\n")
        events_told = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks if "data: " in block]
        assert len(events_told) == len(statuses)
        for event in events_told:
            jsonschema_rs.validate(schema, event)
            jsonschema_rs.validate(command_schema, json.loads(event["data"]))
            assert event.keys() == schema["properties"].keys()


# --- whose


def test_a_stream_and_a_wait_end_when_their_caller_is_let_in_no_longer(
    tmp_path: Path, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is revoked, a token runs out: what was opened by it must not go on telling for hours."""
    monkeypatch.setattr(gatekeeper, "KEPT_S", 0.0)
    monkeypatch.setattr(events, "RECHECK_S", 0.05)
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET, EVENTS_HEARTBEAT="3600")
    waiting: Waiting = made.app.extensions["waiting"]
    with made.runtime.write.begin() as tx:
        identifier, key = keys.create(tx, "shop", "caller", 1.0)
    headers = {"Authorization": f"Bearer {key}"}
    with serving(made.app) as web, ThreadPoolExecutor(1) as threads:
        path = client.request("POST", f"{web.url}/passwords", json=ADA, headers=headers).headers["Location"]
        with closing(follow(client, web, path.removeprefix("/commands/"), **headers)) as stream:
            asked = threads.submit(client.request, "GET", web.url + path, headers=headers | {"Prefer": "wait=20"})
            eventually(lambda: waiting._taken["shop"] == 2)
            with made.runtime.write.begin() as tx:
                keys.revoke(tx, identifier, 2.0)
            assert stream.rest() == []
        assert waiting._taken["shop"] == 1, "the long poll waits on, and is told nothing"
        waiting.release()
        assert asked.result(PATIENCE_S).status == 401
    made.close()


def test_a_stream_goes_on_while_nobody_can_look_who_asks(
    tmp_path: Path, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser takes a refusal for final; a database that is away for a moment says nothing about a key."""
    monkeypatch.setattr(gatekeeper, "KEPT_S", 0.0)
    monkeypatch.setattr(events, "RECHECK_S", 0.05)
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET, EVENTS_HEARTBEAT="0.1")
    with made.runtime.write.begin() as tx:
        _, key = keys.create(tx, "shop", "caller", 1.0)
    headers = {"Authorization": f"Bearer {key}"}
    with serving(made.app) as web:
        path = client.request("POST", f"{web.url}/passwords", json=ADA, headers=headers).headers["Location"]
        with closing(Stream(client, f"{web.url}{path}/events", headers)) as stream:
            stream.heartbeat()
            monkeypatch.setattr(keys, "hash_of", lambda _key: 1 / 0)
            for _ in range(3):
                stream.heartbeat()
    made.close()


# --- places


class Crowd:
    """Ask for a command over sockets of its own, in each of the ways that wait."""

    def __init__(self, web: Serving, path: str) -> None:
        self.socks: list[socket.socket] = []
        self._web, self._path = web, path

    def wait(self, kind: str, token: str = "") -> None:
        body = b'{"username":"ada"}'
        method, target, more = {
            "GET": ("GET", self._path, "Prefer: wait=30"),
            "POST": ("POST", "/passwords", f"Prefer: wait=30\r\nContent-Length: {len(body)}"),
            "stream": ("GET", f"{self._path}/events", "Accept: */*"),
        }[kind]
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}\r\n"
        credentials = f"Authorization: Bearer {token}\r\n" if token else ""
        self.socks.append(self._web.connect())
        self.socks[-1].sendall((head + credentials).encode() + b"\r\n" + (body if method == "POST" else b""))

    def leave(self, how: str) -> None:
        for sock in self.socks:
            if how == "half-closed":
                sock.shutdown(socket.SHUT_WR)
            elif how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DROP)
            if how != "half-closed":
                sock.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave("closed")


KINDS = ("GET", "POST", "stream")


def test_one_caller_has_a_share_of_the_places_whatever_it_waits_by(
    tmp_path: Path, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that waits often keeps all others from waiting at all."""
    monkeypatch.setattr(waiters, "SHARE", 3)
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET)
    waiting: Waiting = made.app.extensions["waiting"]
    shop, rival = (issue(made.runtime.settings, name, "caller", 60) for name in ("shop", "rival"))
    with serving(made.app) as web:
        headers = {"Authorization": f"Bearer {shop}"}
        path = client.request("POST", f"{web.url}/passwords", json=ADA, headers=headers).headers["Location"]
        with Crowd(web, path) as crowd, Crowd(web, path) as other:
            for kind in KINDS:
                crowd.wait(kind, shop)
            eventually(lambda: waiting._taken["shop"] == 3)
            again = client.request("GET", web.url + path, headers=headers | {"Prefer": "wait=30"})
            assert (again.status, again.headers.get("Preference-Applied")) == (200, None)
            again = client.request("POST", f"{web.url}/passwords", json=ADA, headers=headers | {"Prefer": "wait=30"})
            assert (again.status, again.headers.get("Preference-Applied")) == (202, None)
            stream = client.request("GET", f"{web.url}{path}/events", headers=headers)
            assert (stream.status, stream.json()["code"], stream.headers["Retry-After"]) == (429, "too-many-wait", "1")
            other.wait("POST", rival)
            eventually(lambda: waiting._taken["rival"] == 1)
            assert waiting._taken["shop"] == 3
        eventually(lambda: not waiting._taken)
    made.close()


def test_where_nobody_is_known_an_address_has_a_share(
    bff: Room, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AUTH=none all are one and the same nobody."""
    monkeypatch.setattr(waiters, "SHARE", 2)
    waiting: Waiting = bff.app.extensions["waiting"]
    with Crowd(web, f"/commands/{accept(bff)}") as crowd:
        for _ in range(4):
            crowd.wait("POST")
        eventually(lambda: waiting._taken["127.0.0.1"] == 2)
        assert waiting._taken.total() == 2


@pytest.mark.parametrize("how", ["closed", "reset", "half-closed"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_frees_its_place_at_once(bff: Room, kind: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that is held for nobody is one less for somebody; no heartbeat and no broadcast is needed to see it."""
    monkeypatch.setattr(waiters, "SHARE", 40)
    patient = replace(bff.runtime, settings=replace(bff.runtime.settings, events_heartbeat=3600.0))
    app = app_of(patient, bff)
    waiting: Waiting = app.extensions["waiting"]
    monkeypatch.setattr(events, "RECHECK_S", 3600.0)
    with serving(app) as web, Crowd(web, f"/commands/{accept(bff)}") as crowd:
        for _ in range(40):
            crowd.wait(kind)
        eventually(lambda: waiting._taken.total() == 40)
        crowd.leave(how)
        eventually(lambda: not waiting._taken and not waiting._waiters)


def get_at_once(bff: Room, identifier: str, headers: dict[str, str]) -> Any:
    """Ask while waiting would fail."""
    waiting: Waiting = bff.app.extensions["waiting"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "_is_over", lambda _asker: pytest.fail("it waits"))
        return bff.http.get(f"/commands/{identifier}", headers=headers)


@pytest.mark.parametrize(("status", "waits"), [("completed", False), ("refused", False), ("suspended", True)])
def test_nobody_waits_for_what_cannot_change(bff: Room, waiting: Waiting, status: str, waits: bool) -> None:
    """Who has the end has it for good; what is suspended an operator may resume."""
    identifier = accept(bff)
    move(bff, identifier, 1, status)
    tag = bff.http.get(f"/commands/{identifier}").headers["ETag"]
    headers = {"Prefer": "wait=30", "If-None-Match": tag}
    if waits:
        answer = get_while(bff, identifier, headers, lambda: move(bff, identifier, 2))
        assert (answer.status_code, answer.json["status"]) == (200, "running")
    else:
        answer = get_at_once(bff, identifier, headers)
        assert (answer.status_code, answer.headers["ETag"]) == (304, tag)


# --- the same by long poll


def get_while(bff: Room, identifier: str, headers: dict[str, str], then: Callable[[], None]) -> Any:
    waiting: Waiting = bff.app.extensions["waiting"]
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(bff.http.get, f"/commands/{identifier}", headers=headers)
        eventually(lambda: waiting._waiters)
        then()
        return asked.result(10)


def test_a_long_poll_answers_when_the_command_has_changed(bff: Room, waiting: Waiting) -> None:
    """What event streams are to browsers, this is to callers that speak XML only."""
    identifier = accept(bff)
    tag = bff.http.get(f"/commands/{identifier}").headers["ETag"]
    headers = {"Accept": "application/xml", "Prefer": "wait=20", "If-None-Match": tag}
    answer = get_while(bff, identifier, headers, lambda: move(bff, identifier, 1))
    assert (answer.status_code, answer.mimetype) == (200, "application/xml")
    assert b"<status>running</status>" in answer.data
    assert answer.headers["ETag"] != tag
    assert answer.headers["Preference-Applied"] == "wait=20"
    as_json = bff.http.get(f"/commands/{identifier}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (as_json.status_code, as_json.data) == (304, b"")


def test_a_long_poll_without_change_is_304_when_its_time_is_over(bff: Room, waiting: Waiting) -> None:
    """The caller asks again with what it has."""
    identifier = accept(bff)
    move(bff, identifier, 1)
    tag = bff.http.get(f"/commands/{identifier}").headers["ETag"]
    answer = bff.http.get(f"/commands/{identifier}", headers={"Prefer": "wait=0", "If-None-Match": tag})
    assert (answer.status_code, answer.headers["ETag"]) == (304, tag)


def test_a_wait_without_a_tag_is_for_the_end(bff: Room, waiting: Waiting) -> None:
    """Who asks for a command with patience wants its end, not its next step."""
    identifier, moved = accept(bff), threading.Event()

    def go_on() -> None:
        move(bff, identifier, 1)
        moved.set()
        move(bff, identifier, 2)
        move(bff, identifier, 3)

    answer = get_while(bff, identifier, {"Prefer": "wait=20"}, go_on)
    assert (answer.json["status"], moved.is_set()) == ("completed", True)
    soon = bff.http.get(f"/commands/{accept(bff)}", headers={"Prefer": "wait=0"})
    assert (soon.status_code, soon.json["status"]) == (200, "accepted")
