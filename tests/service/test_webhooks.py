"""Call callers back over real sockets: signed, until they take it, and never into our own networks."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson
import pytest
import standardwebhooks
from click.testing import CliRunner, Result
from sqlalchemy import update
from structlog.testing import capture_logs
from tests.receiver import Receiver, receiving, reply
from tests.service.certificates import Certificate
from tests.service.desk import KEYS
from tests.service.rooms import Room, room
from tests.service.wishes import DOOR

from pulsaga.delivery import database
from pulsaga.delivery.tables import audit, incident, outbox
from pulsaga.delivery.transaction.claims import claim
from pulsaga.errors import DomainError
from pulsaga.web.front_door.callbacks import outward
from pulsaga.web.front_door.callbacks.outward import check_host, is_public, read_url
from pulsaga.web.front_door.callbacks.webhooks import (
    CLAIM_S,
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    NotTaken,
    Webhooks,
    secret_of,
)
from pulsaga.web.front_door.tables import command, webhook
from pulsaga_program.cli import commands

ATTEMPTS = 3


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path, WEBHOOK_PRIVATE="allow", WEBHOOK_ATTEMPTS=str(ATTEMPTS), **KEYS)
    yield made
    made.close()


@pytest.fixture
def sender(bff: Room) -> Webhooks:
    return Webhooks(bff.runtime, bff.app.extensions["read"], DOOR.views)


def owe(bff: Room, url: str, status: str = "completed") -> str:
    """Accept a command that wants to be called back, and show how it stands."""
    answer = bff.http.post("/passwords", json={"username": "ada", "callback": url})
    assert answer.status_code == 202, answer.json
    row = {"id": answer.json["id"], "version": 3, "type": "issue-password", "subject": "ada", "status": status}
    reason = {"reason_code": "", "reason_detail": "", "cancellable": False}
    bff.write_view(command, **row, **reason, created_at=1.0, updated_at=2.0)
    return str(answer.json["id"])


def state(bff: Room) -> tuple[str, int]:
    (row,) = bff.rows(webhook)
    return row["status"], row["attempts"]


def waits(bff: Room) -> float:
    """Return for how long it is put off, and put an end to that."""
    (row,) = bff.rows(webhook)
    with bff.runtime.write.begin() as tx:
        now = database.now(tx)
        tx.execute(update(webhook).values(due_at=0.0))
    return float(row["due_at"] - now)


def secret(bff: Room, caller: str) -> str:
    """Return a caller's secret as its operator is told it."""
    return f"whsec_{base64.b64encode(secret_of(bff.runtime.settings, caller)).decode()}"


# --- the call


def test_the_end_is_told_once_and_signed(bff: Room, sender: Webhooks, receiver: Receiver) -> None:
    """Whoever takes it must know that it is ours, whole and fresh: the field's own library says so."""
    identifier = owe(bff, receiver.url)
    sender.call_due()
    sender.call_due()
    ((headers, body),) = receiver.taken
    known = {name.lower(): value for name, value in headers.items()}
    assert standardwebhooks.Webhook(secret(bff, "nobody")).verify(body, known) == orjson.loads(body)
    assert orjson.loads(body) == bff.http.get(f"/commands/{identifier}").json
    assert (known["webhook-id"], known["content-type"]) == (identifier, "application/json")
    assert state(bff) == ("delivered", 1)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secret(bff, "eve")).verify(body, known)


@pytest.mark.parametrize("status", ["running", "suspended"])
def test_nothing_is_told_before_the_end(bff: Room, sender: Webhooks, receiver: Receiver, status: str) -> None:
    """A suspended command may still complete; the call is made when it has, and nobody counts the looks."""
    owe(bff, receiver.url, status)
    sender.call_due()
    assert (receiver.taken, state(bff)) == ([], ("waiting", 0))
    assert 0 < waits(bff) <= 60
    with bff.projector.begin() as tx:
        tx.execute(update(command).values(status="refused"))
    sender.call_due()
    assert orjson.loads(receiver.taken[0][1])["status"] == "refused"


def test_who_does_not_take_it_is_called_again_ever_later_and_given_up_with_an_incident(
    bff: Room, sender: Webhooks, receiver: Receiver
) -> None:
    """A receiver that is down for an hour must get it; one that is down for good must not be called for ever."""
    receiver.answer = lambda handler: reply(handler, 500)
    identifier = owe(bff, receiver.url)
    delays = []
    for _ in range(ATTEMPTS - 1):
        sender.call_due()
        delays.append(round(waits(bff), -1) if delays else round(waits(bff)))
    assert delays == [FIRST_DELAY_S, 2 * FIRST_DELAY_S]
    sender.call_due()
    assert state(bff) == ("dead", ATTEMPTS)
    ((kind, subject),) = [(row["kind"], row["subject"]) for row in bff.rows(incident)]
    assert (kind, subject) == ("webhook", identifier)
    assert len({headers["webhook-id"] for headers, _ in receiver.taken}) == 1


def test_the_delay_has_an_end_whatever_number_of_attempts_was_set(
    bff: Room, sender: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its doubling would leave the range of numbers after a thousand of them, and take the page with it."""
    monkeypatch.setattr(sender, "_settings", replace(bff.runtime.settings, webhook_attempts=1_000_000))
    receiver.answer = lambda handler: reply(handler, 500)
    owe(bff, receiver.url)
    with bff.runtime.write.begin() as tx:
        tx.execute(update(webhook).values(attempts=100_000))
    sender.call_due()
    assert state(bff) == ("waiting", 100_001)
    assert waits(bff) == pytest.approx(LONGEST_DELAY_S, rel=0.01)


def test_who_is_gone_for_good_is_not_called_again(bff: Room, sender: Webhooks, receiver: Receiver) -> None:
    """410 says so (Standard Webhooks)."""
    receiver.answer = lambda handler: reply(handler, 410)
    owe(bff, receiver.url)
    sender.call_due()
    assert (state(bff), len(bff.rows(incident))) == (("dead", 1), 1)


def test_a_redirect_is_not_followed(bff: Room, sender: Webhooks, receiver: Receiver) -> None:
    """It would lead behind every check."""
    with receiving() as other:
        receiver.answer = lambda handler: reply(handler, 307, Location=other.url)
        owe(bff, receiver.url)
        sender.call_due()
    assert (other.taken, state(bff)) == ([], ("waiting", 1))


def test_nobody_there_and_an_answer_that_never_ends_count_as_not_taken(
    bff: Room, sender: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that drips must not hold a thread for hours."""
    monkeypatch.setattr(outward, "CALL_S", 0.3)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        ended = threading.Event()
        while not ended.wait(0.05):
            try:
                handler.wfile.write(b"H")
            except OSError:
                return

    receiver.answer = drip
    owe(bff, receiver.url)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    owe(bff, f"http://127.0.0.1:{port}/")
    sender.call_due()
    assert {(row["status"], row["attempts"]) for row in bff.rows(webhook)} == {("waiting", 1)}


def test_what_follows_the_head_of_an_answer_is_not_read(bff: Room, sender: Webhooks, receiver: Receiver) -> None:
    """Its size is the receiver's choice; our memory is not."""

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(65536))
        except OSError:
            return

    receiver.answer = flood
    owe(bff, receiver.url)
    sender.call_due()
    assert state(bff) == ("delivered", 1)


def test_a_sender_that_lost_its_claim_reports_nothing(bff: Room, sender: Webhooks, receiver: Receiver) -> None:
    """It stood still for longer than its claim; the other's word counts, the call came twice under one id."""
    owe(bff, receiver.url)
    stale = bff.runtime.transactions.run(lambda uow: claim(uow, webhook, 1, -1.0))
    sender.call_due()
    sender._outcomes = [(row, NotTaken("late")) for row in stale]
    sender.call_due()
    assert state(bff) == ("delivered", 1)
    assert CLAIM_S > 2 * outward.CALL_S


def test_https_is_for_whom_the_certificate_names(
    bff: Room, sender: Webhooks, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting to a checked address must not mean to believe whoever answers there."""
    with receiving(certificate.context) as receiver:
        owe(bff, receiver.url)
        sender.call_due()
        assert (state(bff), receiver.taken) == (("waiting", 1), [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
        waits(bff)
        sender.call_due()
    assert (state(bff), len(receiver.taken)) == (("delivered", 2), 1)


# --- where it may go

PRIVATE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
    "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001::1", "2001:db8::1", "fec0::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_no_address_of_ours_is_public_however_it_is_written(address: str) -> None:
    """Metadata services, databases and the broker stand there."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_the_open_internet_is(address: str) -> None:
    """Otherwise the test above would pass whatever is asked."""
    assert is_public(ip_address(address))


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path / "strict", **KEYS)
    yield made
    made.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name stand for these addresses; return the names that were asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("addresses", [("10.0.0.1",), ("1.1.1.1", "127.0.0.1"), ("::ffff:10.0.0.1",)])
def test_a_name_of_which_one_address_is_ours_is_not_called(
    strict: Room, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    """Which of several is taken is chance; and a name may be anybody's who wants in."""
    owe(strict, "https://caller.example/hook")
    resolve_to(monkeypatch, *addresses)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it was called"))
    Webhooks(strict.runtime, strict.app.extensions["read"], DOOR.views).call_due()
    (row,) = strict.rows(webhook)
    assert (row["status"], row["attempts"]) == ("waiting", 1)
    assert "PermissionError" in row["error"]


def test_a_name_is_resolved_once_and_what_was_checked_is_called(
    bff: Room, sender: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that says another address the second time (DNS rebinding) is asked no second time."""
    owe(bff, receiver.url.replace("127.0.0.1", "localhost"))
    asked = resolve_to(monkeypatch, "127.0.0.1")
    connect, connected = socket.socket.connect, []
    monkeypatch.setattr(
        outward.socket,
        "create_connection",
        lambda address, timeout: connected.append(address) or _plain(connect, address, timeout),
    )
    sender.call_due()
    assert asked == ["localhost"]
    assert [host for host, _ in connected] == ["127.0.0.1"]
    assert receiver.taken[0][0]["Host"].startswith("localhost:")


def _plain(connect: Any, address: Any, timeout: float) -> socket.socket:
    made = socket.socket()
    made.settimeout(timeout)
    connect(made, address)
    return made


@pytest.mark.parametrize(
    "url",
    [
        "ftp://caller.example/", "http://caller.example/", "https://", "https://ada:secret@caller.example/", "//x/",
        "https://caller.example/#here", "https://caller.example:0/", "https://caller.example:99999/", "https://[::1/",
        "https://caller.example/a b", "https://cäller.example/", "https://x/" + "a" * 2000, "", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused_at_once(bff: Room, url: str) -> None:
    """The caller learns it now, and not from a call that never comes."""
    with pytest.raises(ValueError, match=r"\S"):
        read_url(url)
    answer = bff.http.post("/passwords", json={"username": "ada", "callback": url})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/callback")
    assert bff.rows(outbox) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "https://localhost/", "https://10.0.0.1/", "https://[::1]/"])
def test_what_is_written_as_an_address_of_ours_is_refused_at_once(strict: Room, url: str) -> None:
    """Unless a setting says that callers may have it."""
    answer = strict.http.post("/passwords", json={"username": "ada", "callback": url})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/callback")


def test_a_name_is_checked_when_it_is_resolved() -> None:
    """What it stands for now says nothing of then."""
    check_host("caller.example")


def test_without_a_secret_no_callback_is_promised(tmp_path: Path) -> None:
    """Unsigned, it would be worth nothing to the receiver."""
    made = room("bff", tmp_path, BROKER_URL="pulsar://127.0.0.1:1", **{**KEYS, "WEBHOOK_SECRET": ""})
    answer = made.http.post("/passwords", json={"username": "ada", "callback": "https://caller.example/"})
    made.close()
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/callback")
    assert "WEBHOOK_SECRET" in answer.json["detail"]


def test_a_repeated_request_owes_one_call(bff: Room) -> None:
    """And another callback is another request."""
    said, key = {"username": "ada", "callback": "https://caller.example/a"}, {"Idempotency-Key": "k"}
    for _ in range(2):
        assert bff.http.post("/passwords", json=said, headers=key).status_code == 202
    assert len(bff.rows(webhook)) == 1
    other = bff.http.post("/passwords", json=said | {"callback": "https://caller.example/b"}, headers=key)
    assert other.status_code == 422


# --- given up on


def given_up_on(bff: Room, sender: Webhooks, receiver: Receiver) -> str:
    """Owe a call to a receiver that is broken for as long as it is tried."""
    receiver.answer = lambda handler: reply(handler, 500)
    identifier = owe(bff, receiver.url)
    for _ in range(ATTEMPTS):
        sender.call_due()
        with bff.runtime.write.begin() as tx:
            tx.execute(update(webhook).where(webhook.c.due_at.is_not(None)).values(due_at=0.0))
    assert state(bff) == ("dead", ATTEMPTS)
    receiver.answer = lambda handler: reply(handler, 204)
    return identifier


@pytest.fixture
def protools(bff: Room) -> Callable[..., Result]:
    """The command line on the front door's data, in this process."""
    environment = {"PROTOOLS_HOME": str(bff.runtime.settings.home), "PROTOOLS_SYSTEM": "system:SYSTEM", **KEYS}

    def run(*arguments: str, **changes: str) -> Result:
        with capture_logs():  # which go to standard error, unless another test has had them elsewhere
            return CliRunner().invoke(commands, ["webhooks", *arguments], env=environment | changes)

    return run


def test_calls_that_were_given_up_on_are_listed_with_their_reason_and_made_anew(
    bff: Room, sender: Webhooks, receiver: Receiver, protools: Callable[..., Result]
) -> None:
    """A receiver that was away for a day has them by one command, and not by hand out of a table."""
    identifier = given_up_on(bff, sender, receiver)
    (group,) = orjson.loads(protools("list", "--json").stdout)
    assert (group["count"], group["reason"]) == (1, "answered 500")
    assert group["webhooks"][0]["id"] == identifier
    done = protools("replay", "--where", f"group={group['group']}", "--why", "it is back", "--as", "ada")
    assert (done.exit_code, done.stdout) == (0, "replay: 1 of 1 done\n")
    assert all(row["closed_at"] for row in bff.rows(incident))
    assert "1 webhooks" in protools("list", "--waiting").stdout
    sender.call_due()
    assert state(bff) == ("delivered", 1)
    assert protools("list").stdout == "0 webhooks\n"
    again = protools("replay", identifier, "--why", "once more", "--as", "ada")
    assert isinstance(again.exception, DomainError)
    assert protools("replay", "x", "--why", "typed").exit_code == 2
    assert [(row["action"], row["subject"]) for row in bff.rows(audit)] == [("replay-webhook", identifier)]


def test_two_operators_agree_on_a_call_as_on_a_letter(
    bff: Room, sender: Webhooks, receiver: Receiver, protools: Callable[..., Result]
) -> None:
    """One rule for all that operators do; nothing is called before the second one has said so."""
    given_up_on(bff, sender, receiver)
    again = ("replay", "--all", "--why", "it is back", "--as")
    assert protools(*again, "ada", OPERATOR_APPROVALS="2").exit_code == 3
    assert state(bff) == ("dead", ATTEMPTS)
    assert protools(*again, "bob", OPERATOR_APPROVALS="2").exit_code == 0
    assert state(bff) == ("waiting", 0)
