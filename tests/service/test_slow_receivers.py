"""Let one receiver of a hundred misbehave in every way: it alone is blamed, and nobody waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from tests.patience import PATIENCE_S
from tests.receiver import Deed, Receiver, answering, dripping, flooding, hang, misbehaving, receiving, reset
from tests.service.desk import Desk, make_desk
from tests.service.passwords import SYSTEM
from tests.service.rooms import eventually
from tests.service.stage import BOTH, settings_on
from tests.service.wishes import DOOR

from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import incident
from pulsaga.text import DETAIL_CHARACTERS
from pulsaga.web.front_door.callbacks import outward
from pulsaga.web.front_door.callbacks.outward import receiver_of
from pulsaga.web.front_door.callbacks.webhooks import Webhooks
from pulsaga.web.front_door.tables import command, webhook
from pulsaga_program.databases import migrate

HUNDRED = 100
BEFORE = "0001"
"""The migration before the one that names receivers."""
PARTS_THAT_BREAK_PARSERS = b"HTTP/1.1 500 x\r\nContent-Type: multipart/mixed; boundary*=a; boundary*0=b\r\n\r\n"


@pytest.fixture(params=BOTH)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = make_desk(settings_on(request, tmp_path, WEBHOOK_PRIVATE="allow"), "bff")
    yield made
    made.runtime.write.dispose()


@pytest.fixture
def read(desk: Desk) -> Iterator[Engine]:
    engine = open_database(desk.runtime.settings, "bff", "read", "projector")
    yield engine
    engine.dispose()


@pytest.fixture
def sender(desk: Desk, read: Engine) -> Webhooks:
    return Webhooks(desk.runtime, read, DOOR.views)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline ends what hangs here: only the test does, once it has seen that nobody waited."""
    monkeypatch.setattr(outward, "CALL_S", PATIENCE_S)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def owe(desk: Desk, read: Engine, actor: str, urls: Sequence[str], at: float = 1.0, **ended: Any) -> list[str]:
    """Owe a call of an ended command to each of these; what is owed first is due first."""
    ids = [new_id() for _ in urls]
    rows = [
        {"id": i, "revision": 1, "actor": actor, "url": url, "receiver": receiver_of(url), "status": "waiting"}
        for i, url in zip(ids, urls, strict=True)
    ]
    times = {"attempts": 0, "due_at": at, "created_at": at, "error": ""}
    with desk.runtime.write.begin() as tx:
        tx.execute(insert(webhook), [row | times for row in rows])
    _end(read, ids, **ended)
    return ids


def _end(read: Engine, ids: Sequence[str], **ended: Any) -> None:
    views = {"version": 3, "type": "issue-password", "subject": "ada", "status": "completed", "reason_code": ""}
    views |= {"reason_detail": "", "cancellable": False, "created_at": 1.0, "updated_at": 2.0, **ended}
    with read.begin() as tx:
        tx.execute(insert(command), [{"id": i, **views} for i in ids])


def rows_of(desk: Desk, ids: Sequence[str]) -> list[Any]:
    wanted = set(ids)
    return [row for row in desk.rows(webhook) if row["id"] in wanted]


def delivered(desk: Desk, ids: Sequence[str]) -> bool:
    """Tell whether all of these were taken at the first attempt."""
    return all((row["status"], row["attempts"]) == ("delivered", 1) for row in rows_of(desk, ids))


@contextmanager
def calling(sender: Webhooks, over: threading.Event) -> Iterator[None]:
    """Let the sender work beside the test; what misbehaves stops with the block, and then the sender must, too."""
    working = threading.Thread(target=sender.call_due, daemon=True)
    working.start()
    try:
        yield
    finally:
        over.set()
        working.join(PATIENCE_S)
        assert not working.is_alive()


# --- every way, one at a time

Made = AbstractContextManager[str]
Way = Callable[[threading.Event], Made]


def _does(deed: Deed | None, scheme: str = "http") -> Way:
    return lambda over: misbehaving(deed, over, scheme)


def _says(*pieces: bytes) -> Way:
    return _does(answering(*pieces))


@contextmanager
def _nobody(_over: threading.Event) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
    yield url


HANGING: Mapping[str, Way] = {
    "before accepting": _does(None),
    "after accepting": _does(hang),
    "in TLS": _does(hang, "https"),
    "dripping a status": _does(dripping(b"HTTP/1.1 1", b"")),
    "dripping headers of an interim answer": _does(dripping(b"HTTP/1.1 103 x\r\nX: ", b"a")),
    "dripping interim answers": _does(dripping(b"", b"HTTP/1.1 100 x\r\n\r\n")),
}
FAILING: Mapping[str, Way] = {
    "refuses": _nobody,
    "resets": _does(reset),
    "hangs up": _says(b""),
    "no TLS": _does(lambda taken, _: taken.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), "https"),
    "endless interim answers": _does(flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "endless headers of an interim answer": _does(flooding(b"HTTP/1.1 100 x\r\n", b"x: y\r\n")),
    "endless status line": _does(flooding(b"HTTP/1.1 ", b"2")),
    "endless nothing": _does(flooding(b"", b"\r\n")),
    "only interim": _says(b"HTTP/1.1 103 x\r\n\r\n"),
    "status 99": _says(b"HTTP/1.1 99 x\r\n\r\n"),
    "status 1000": _says(b"HTTP/1.1 1000 x\r\n\r\n"),
    "status 999": _says(b"HTTP/1.1 999 x\r\n\r\n"),
    "status -200": _says(b"HTTP/1.1 -200 x\r\n\r\n"),
    "status in other digits": _says("HTTP/1.1 ２００ x\r\n\r\n".encode()),
    "status 200 of no protocol": _says(b"ICY 200 OK\r\n\r\n"),
    "NUL": _says(b"HTTP/1.1 \x00\x1b[31m\r\n\xed\xa0\x80 x\r\n\r\n"),
    "redirect": _says(b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1/\r\n\r\n"),
    "breaks parsers": _says(PARTS_THAT_BREAK_PARSERS),
}
STRANGE = (
    "https://a..b/", f"https://{'a' * 64}/", "https://[fe80::1%25nowhere]/", "https://[::1%25nowhere]/",
)  # fmt: skip
"""URLs that may be owed a call and cannot be called; no name here is asked of a resolver elsewhere."""


@pytest.mark.parametrize("way", HANGING)
def test_nobody_waits_for_one_that_hangs(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event, way: str
) -> None:
    """Each caller is owed its call, whatever another's receiver does: it is made before the other's is over."""
    with HANGING[way](over) as url:
        bad = owe(desk, read, "ada", [url])
        good = owe(desk, read, "ada", [receiver.url] * (HUNDRED - 1), at=2.0)
        with calling(sender, over):
            eventually(lambda: delivered(desk, good), PATIENCE_S)
            assert [row["attempts"] for row in rows_of(desk, bad)] == [0]
    assert_blamed(desk, bad)


def test_those_that_fail_fail_alone(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event
) -> None:
    """Each is counted and tried again later; the others of its page are told, once."""
    with ExitStack() as stack:
        bad = owe(desk, read, "ada", [*STRANGE, *(stack.enter_context(way(over)) for way in FAILING.values())])
        good = owe(desk, read, "ada", [receiver.url] * HUNDRED, at=2.0)
        sender.call_due()
    assert delivered(desk, good)
    assert len(receiver.taken) == HUNDRED
    assert_blamed(desk, bad)


def assert_blamed(desk: Desk, bad: Sequence[str]) -> None:
    for row in rows_of(desk, bad):
        assert (row["status"], row["attempts"] > 0, row["claim"]) == ("waiting", True, None), row
        assert row["error"] > ""
        assert row["error"].isprintable()


@pytest.mark.parametrize("way", HANGING)
def test_nobody_waits_for_a_receiver_that_is_owed_many_calls(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event, way: str
) -> None:
    """Its calls are all due before the others', and fill every page: they are passed over."""
    with HANGING[way](over) as url:
        bad = owe(desk, read, "ada", [url] * HUNDRED)
        good = owe(desk, read, "ada", [receiver.url] * 10, at=2.0)
        with calling(sender, over):
            eventually(lambda: delivered(desk, good), PATIENCE_S)
            assert {row["attempts"] for row in rows_of(desk, bad)} == {0}
    assert all(row["attempts"] > 0 for row in rows_of(desk, bad))


def test_nobody_waits_for_a_caller_whose_many_receivers_hang(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event
) -> None:
    """Addresses cost nothing: whoever has many gets no more of our threads than others."""
    with ExitStack() as stack:
        urls = [stack.enter_context(misbehaving(hang, over)) for _ in range(HUNDRED)]
        owe(desk, read, "eve", [url for url in urls for _ in range(2)])
        good = owe(desk, read, "ada", [receiver.url] * 10, at=2.0)
        with calling(sender, over):
            eventually(lambda: delivered(desk, good), PATIENCE_S)


def test_one_caller_does_not_use_up_a_receiver_for_the_others(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event
) -> None:
    """Many callers may share a host, and one of them name a path there that hangs."""
    receiver.answer = lambda handler: over.wait(PATIENCE_S) if handler.path == "/bad" else _take(handler)
    base = receiver.url.rpartition("/")[0]
    owe(desk, read, "eve", [f"{base}/bad"] * HUNDRED)
    good = owe(desk, read, "ada", [f"{base}/good"] * 10, at=2.0)
    with calling(sender, over):
        eventually(lambda: delivered(desk, good), PATIENCE_S)


def _take(handler: Any) -> None:
    handler.send_response(204)
    handler.end_headers()


def test_what_comes_due_meanwhile_is_called_meanwhile(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event
) -> None:
    """A round has no end that anybody waits for."""
    with misbehaving(hang, over) as url:
        bad = owe(desk, read, "ada", [url])
        with calling(sender, over):
            eventually(lambda: rows_of(desk, bad)[0]["claim"], PATIENCE_S)
            good = owe(desk, read, "ada", [receiver.url])
            eventually(lambda: delivered(desk, good), PATIENCE_S)


# --- the deadline


def resolve(monkeypatch: pytest.MonkeyPatch, host: str, found: Callable[[], list[str]]) -> None:
    """Let a name stand for what `found` returns, as soon as it does."""
    known = socket.getaddrinfo

    def look_up(name: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if name != host:
            return known(name, port, *arguments, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found()]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_nobody_waits_for_a_resolver_that_hangs(
    desk: Desk,
    read: Engine,
    sender: Webhooks,
    receiver: Receiver,
    over: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing can interrupt it: the call is reported at its deadline all the same, and its thread is counted on."""
    resolve(monkeypatch, "slow.example", lambda: ["127.0.0.1"] * over.wait(PATIENCE_S))
    bad = owe(desk, read, "ada", ["https://slow.example/"] * HUNDRED)
    good = owe(desk, read, "ada", [receiver.url] * 10, at=2.0)
    with calling(sender, over):
        eventually(lambda: delivered(desk, good), PATIENCE_S)
        assert {row["attempts"] for row in rows_of(desk, bad)} == {0}


def test_a_resolver_that_hangs_counts_as_an_attempt_and_its_threads_are_bounded(
    desk: Desk, read: Engine, sender: Webhooks, over: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise such a call is made for ever; or there is a thread more for each attempt."""
    monkeypatch.setattr(outward, "CALL_S", 0.1)
    asked = []
    resolve(monkeypatch, "slow.example", lambda: asked.append(1) or ["127.0.0.1"] * over.wait(PATIENCE_S))
    bad = owe(desk, read, "ada", ["https://slow.example/"] * 10)
    for _ in range(2):
        turn = threading.Thread(target=sender.call_due, daemon=True)
        turn.start()
        turn.join(PATIENCE_S)
        assert not turn.is_alive()
    tried = [row for row in rows_of(desk, bad) if row["attempts"]]
    assert 0 < len(tried) == len(asked) <= 4
    assert {(row["attempts"], row["error"]) for row in tried} == {(1, "no answer within 0.1 s")}


def test_several_addresses_that_do_not_answer_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have as many addresses as its owner likes."""
    resolve(monkeypatch, "dead.example", lambda: ["127.0.0.1"] * 9)
    tried, clock = [], _Clock()
    monkeypatch.setattr(outward, "time", clock)
    monkeypatch.setattr(outward, "CALL_S", 15.0)

    def connect(address: Any, timeout: float) -> Any:
        tried.append(address)
        clock.now += timeout
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(TimeoutError):
        outward.call("https://dead.example/", {}, b"", private=True)
    assert len(tried) == outward.ADDRESSES
    assert clock.now == pytest.approx(15.0)


def test_each_step_of_a_call_has_what_is_left_of_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documents say 15 s; a limit for connecting that stayed on the socket made them 5."""
    peer = _Peer()
    monkeypatch.setattr(outward, "time", peer.clock)
    monkeypatch.setattr(outward, "CALL_S", 15.0)
    monkeypatch.setattr(socket, "create_connection", peer.connect)
    assert outward.call("http://127.0.0.1/", {}, b"{}", private=True) == 204
    assert peer.limits == [15.0, 11.0, 7.0, 3.0]


class _Peer:
    """A socket each of whose steps takes 4 s; `limits` are the seconds that it was given for each."""

    def __init__(self) -> None:
        self.clock, self.limits = _Clock(), list[float]()
        self._answer = [b"HTTP/1.1 2", b"04 x\r\n"]

    def connect(self, _address: Any, timeout: float) -> _Peer:
        self.settimeout(timeout)
        self.clock.now += 4
        return self

    def settimeout(self, seconds: float) -> None:
        self.limits.append(seconds)

    def send(self, request: bytes) -> int:
        self.clock.now += 4
        return len(request)

    def recv(self, _limit: int) -> bytes:
        self.clock.now += 4
        return self._answer.pop(0)

    def close(self) -> None: ...


class _Clock:
    """Time that passes only when somebody says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_name_whose_first_addresses_are_dead_is_reached_by_the_last(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event, monkeypatch: Any
) -> None:
    """A host with a dead IPv6 address, or one of whose servers is away, is there."""
    monkeypatch.setattr(outward, "CALL_S", 1.0)
    connect = socket.create_connection
    with misbehaving(None, over) as dead:
        port = int(receiver.url.split(":")[2].split("/")[0])
        ports = {"127.0.0.2": int(dead.split(":")[2].split("/")[0]), "127.0.0.1": port}
        monkeypatch.setattr(socket, "create_connection", lambda at, s: connect(("127.0.0.1", ports[at[0]]), s))
        resolve(monkeypatch, "localhost", lambda: ["127.0.0.2", "127.0.0.2", "127.0.0.1"])
        owed = owe(desk, read, "ada", [f"http://localhost:{port}/"])
        sender.call_due()
    assert delivered(desk, owed)


# --- blame


@pytest.mark.parametrize("error", [TypeError, RecursionError, MemoryError, UnicodeError, StopIteration, SystemExit])
def test_whatever_one_call_raises_is_about_that_call(
    desk: Desk,
    read: Engine,
    sender: Webhooks,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    """No list of exceptions is long enough for what strangers send."""
    call = outward.call

    def break_one(url: str, *arguments: Any, **options: Any) -> int:
        if "bad" in url:
            raise error("\x00\x1b[2J\ud800\n" + "x" * 1_000_000)
        return call(url, *arguments, **options)

    monkeypatch.setattr(outward, "call", break_one)
    bad = owe(desk, read, "ada", ["https://bad.example/"])
    good = owe(desk, read, "ada", [receiver.url] * 10, at=2.0)
    sender.call_due()
    assert delivered(desk, good)
    (row,) = rows_of(desk, bad)
    assert (row["status"], row["attempts"]) == ("waiting", 1)
    assert row["error"].isprintable()
    assert len(row["error"]) <= DETAIL_CHARACTERS


def test_a_command_that_cannot_be_told_is_about_that_call(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver
) -> None:
    """A row of the read model that nobody can write as a document stopped the page that it was on."""
    bad = owe(desk, read, "ada", [receiver.url], created_at=1e300)
    good = owe(desk, read, "ada", [receiver.url] * 10, at=2.0)
    sender.call_due()
    assert delivered(desk, good)
    assert [(row["status"], row["attempts"]) for row in rows_of(desk, bad)] == [("waiting", 1)]


def test_no_thread_to_be_had_is_counted_and_said(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row would wait for the end of its claim, and its place for ever."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    owed = owe(desk, read, "ada", [receiver.url] * 10)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        sender.call_due()
    assert {(row["status"], row["attempts"]) for row in rows_of(desk, owed)} == {("waiting", 1)}
    good = owe(desk, read, "ada", [receiver.url] * 10)
    sender.call_due()
    assert delivered(desk, good)


def test_an_outcome_outlives_a_database_that_is_away(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was called and could not be reported would be called once more."""
    owed = owe(desk, read, "ada", [receiver.url] * 10)
    run = desk.runtime.transactions.run

    def away(work: Any) -> Any:
        if receiver.taken:
            raise ConnectionError("the database is away")
        return run(work)

    with monkeypatch.context() as outage:
        outage.setattr(desk.runtime.transactions, "run", away)
        with pytest.raises(ConnectionError):
            sender.call_due()
    sender.call_due()
    assert delivered(desk, owed)
    assert len(receiver.taken) == 10


@pytest.mark.parametrize("pieces", [(b"HTTP/1.1 \x00\x1b[2J\r\n\r\n",), (b"\xed\xa0\x80\xff" * 250_000,)])
def test_what_a_receiver_says_is_safe_to_keep_and_to_show(
    desk: Desk,
    read: Engine,
    sender: Webhooks,
    receiver: Receiver,
    over: threading.Event,
    capfd: pytest.CaptureFixture[str],
    pieces: tuple[bytes, ...],
) -> None:
    """PostgreSQL takes no NUL, a terminal obeys ESC, and one bad row of a page undid all the others' reports."""
    attempts = desk.runtime.settings.webhook_attempts
    with misbehaving(answering(*pieces), over) as url:
        bad = owe(desk, read, "ada", [url])
        last = owe(desk, read, "ada", [url])
        _wear_out(desk, last, attempts - 1)
        good = owe(desk, read, "ada", [receiver.url] * 10, at=2.0)
        sender.call_due()
    assert delivered(desk, good)
    (waiting,), (dead,), (told,) = rows_of(desk, bad), rows_of(desk, last), desk.rows(incident)
    assert [(waiting["status"], waiting["attempts"]), dead["status"]] == [("waiting", 1), "dead"]
    for said in (waiting["error"], dead["error"], told["detail"]):
        assert said.isprintable()
        assert 0 < len(said) <= DETAIL_CHARACTERS
    (line,) = [line for line in capfd.readouterr().out.splitlines() if bad[0] in line]
    assert line.isprintable()


def _wear_out(desk: Desk, ids: Sequence[str], attempts: int) -> None:
    with desk.runtime.write.begin() as tx:
        tx.execute(webhook.update().where(webhook.c.id.in_(ids)).values(attempts=attempts))


# --- what is an answer


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200\r\n\r\n",),
        (b"HTTP/1.0 204 No Content\n\n",),
        (b"HTTP/1.1 299 \r\n",),
        (b"HTTP/1.1 2", b"02 Acc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (PARTS_THAT_BREAK_PARSERS.replace(b"500", b"200"),),
        (b"HTTP/1.1 200 \x00\xff" + b"x" * 100_000,),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000,),
    ],
)
def test_a_status_of_2xx_is_taken_whatever_follows_it(
    desk: Desk, read: Engine, sender: Webhooks, over: threading.Event, pieces: tuple[bytes, ...]
) -> None:
    """The receiver has it; what else it says is not asked for."""
    with misbehaving(answering(*pieces), over) as url:
        owed = owe(desk, read, "ada", [url])
        sender.call_due()
    assert delivered(desk, owed)


# --- rows of before


def test_a_row_of_before_is_called_as_any_other(
    desk: Desk, read: Engine, sender: Webhooks, receiver: Receiver, over: threading.Event
) -> None:
    """The migration names its receiver; a row that a process of before writes later has none, and is called, too."""
    undone = (
        "ALTER TABLE webhook DROP COLUMN traceparent",
        "ALTER TABLE webhook DROP COLUMN receiver",
        "ALTER TABLE acceptance RENAME COLUMN subject TO username",
        f"UPDATE front_door_version SET version_num = '{BEFORE}'",
    )
    with misbehaving(hang, over) as url:
        _without_receiver(desk, read, "ada", [url] * HUNDRED + [receiver.url], *undone)
        migrate(SYSTEM, desk.runtime.settings, desk.service, "write")
        assert {row["receiver"] for row in desk.rows(webhook)} == {receiver_of(url), receiver_of(receiver.url)}
        later = _without_receiver(desk, read, "ada", [receiver.url], "SELECT 1")
        with calling(sender, over):
            eventually(lambda: len(receiver.taken) == 2, PATIENCE_S)
            eventually(lambda: delivered(desk, later), PATIENCE_S)


def _without_receiver(desk: Desk, read: Engine, actor: str, urls: Sequence[str], *first: str) -> list[str]:
    """Owe calls as the release before did."""
    columns = "id, revision, actor, url, status, attempts, due_at, created_at, error"
    owed = f"INSERT INTO webhook ({columns}) VALUES (:id, 1, :actor, :url, 'waiting', 0, 1.0, 1.0, '')"
    ids = [new_id() for _ in urls]
    with desk.runtime.write.begin() as tx:
        for statement in first:
            tx.execute(text(statement))
        tx.execute(text(owed), [{"id": i, "actor": actor, "url": url} for i, url in zip(ids, urls, strict=True)])
    _end(read, ids)
    return ids
