"""The postmen against a real SMTP server on loopback, and against a real folder: what each reply means for a mail."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from tests.patience import PATIENCE_S
from tests.service.certificates import Certificate

from correo.mail import Mailbox, compose
from correo.smtp import (
    CutOff,
    Delayed,
    Letter,
    MaildirPostman,
    Outcome,
    Postman,
    RefusedForGood,
    Sent,
    Server,
    SmtpPostman,
    open_postman,
    read_server,
)
from pulsaga.errors import SettingError, Unavailable
from pulsaga.settings import Settings
from pulsaga.text import DETAIL_CHARACTERS

SENDER = Mailbox("no-reply", "example.test")
OK = "250 OK"


# --- the server at the other end


@dataclass
class MailServer:
    """Answer as told, and remember what was said: `at_rcpt` and `at_data` map an address to a reply or to a deed."""

    at_rcpt: dict[str, str] = field(default_factory=dict)
    at_data: dict[str, str] = field(default_factory=dict)
    at_mail: str = OK
    at_rset: str = OK
    dies_after_content: bool = False
    taken: list[tuple[str, str, bytes]] = field(default_factory=list)
    mail_options: list[list[str]] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)
    logged_in: list[bool | None] = field(default_factory=list)
    port: int = 0

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse the sender."""
        self.peers.add(session.peer)
        self.logged_in.append(session.authenticated)
        self.mail_options.append(options)
        if self.at_mail == OK:
            envelope.mail_from = address
        return self.at_mail

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse a recipient."""
        reply = self.at_rcpt.get(address, OK)
        if reply == OK:
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_RSET(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Forget the transaction."""
        return self.at_rset

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take or refuse the mail itself."""
        (recipient,) = envelope.rcpt_tos
        reply = self.at_data.get(recipient, OK)
        if reply == OK:
            assert envelope.mail_from is not None
            assert isinstance(envelope.content, bytes)
            self.taken.append((envelope.mail_from, recipient, envelope.content))
        if self.dies_after_content:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return reply


def free_port() -> int:
    """Name a port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port


@contextmanager
def running(handler: MailServer, session: type[SMTP] = SMTP, **options: Any) -> Iterator[MailServer]:
    """Serve on a loopback port until the test is over."""

    class Served(Controller):
        def factory(self) -> SMTP:
            return session(self.handler, **self.SMTP_kwargs)

    handler.port = free_port()
    controller = Served(handler, hostname="127.0.0.1", port=handler.port, **options)
    controller.start()
    try:
        yield handler
    finally:
        controller.stop()


@pytest.fixture
def server() -> Iterator[MailServer]:
    """A willing mail server with SMTPUTF8."""
    with running(MailServer(), enable_SMTPUTF8=True) as handler:
        yield handler


@contextmanager
def scripted(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection by hand, for what no proper server does; give its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            talk(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(PATIENCE_S)
        listener.close()


WELCOME = ["220 hi", "250 hi", "250 sender ok", "250 recipient ok"]


def say(replies: list[str]) -> Callable[[socket.socket], None]:
    """Make a server that says these replies, one to each command and one to the content, and hangs up."""

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            for reply in replies:
                connection.sendall(f"{reply}\r\n".encode())
                while (line := lines.readline()) not in (b"", b".\r\n") and reply.startswith("354"):
                    assert line.endswith(b"\r\n")

    return talk


def postman(port: int, *, refused: frozenset[str] = frozenset(), timeout: float = 5.0) -> SmtpPostman:
    """Make a postman for a server without log-in."""
    place = Server(scheme="smtp", host="127.0.0.1", port=port)
    return SmtpPostman(place, SENDER, refused, timeout=timeout, content_timeout=timeout)


def letter(name: str, domain: str = "example.test") -> Letter:
    """Write a real mail to somebody."""
    recipient = f"{name}@{domain}"
    mail_id = f"0192-{name.encode().hex()}"
    content = compose(
        mail_id, name, recipient, "token", 1.0, public_url="http://127.0.0.1:3000", sender="no-reply@example.test"
    )
    return Letter(mail_id, recipient, content)


def outcomes(by: Postman, *letters: Letter) -> dict[str, Outcome]:
    """Deliver, and tell what came of each address."""
    return {sent.recipient: outcome for sent, outcome in by.deliver(letters)}


def until_unavailable(by: Postman, *letters: Letter) -> tuple[dict[str, Outcome], str]:
    """Deliver until the server is found to be down; tell what was settled before, and the reason."""
    settled: dict[str, Outcome] = {}
    with pytest.raises(Unavailable) as trouble:
        settled.update((sent.recipient, outcome) for sent, outcome in by.deliver(letters))
    return settled, str(trouble.value)


def settings(home: Path, **environment: str) -> Settings:
    """Read settings as a process does."""
    return Settings.read({"PROTOOLS_HOME": str(home), **environment})


# --- a willing server


def test_the_server_gets_the_mail_as_it_was_composed(server: MailServer) -> None:
    """The bytes on the wire are the bytes composed, so that a mail sent twice is the same mail twice."""
    mail = letter("ada")
    assert outcomes(postman(server.port), mail) == {"ada@example.test": Sent()}
    assert outcomes(postman(server.port), mail) == {"ada@example.test": Sent()}
    first, second = server.taken
    assert first == second == ("no-reply@example.test", "ada@example.test", mail.content)
    parts = list(message_from_bytes(first[2], policy=SMTPUTF8).iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert all("http://127.0.0.1:3000/reveal#token" in part.get_content() for part in parts)


def test_many_letters_go_over_one_connection(server: MailServer) -> None:
    """A connection costs several round trips and, with TLS, more than the mail."""
    names = [f"user{number}" for number in range(20)]
    result = outcomes(postman(server.port), *map(letter, names))
    assert list(result.values()) == [Sent()] * 20
    assert [recipient for _, recipient, _ in server.taken] == [f"{name}@example.test" for name in names]
    assert len(server.peers) == 1


def test_lines_that_begin_with_a_dot_arrive(server: MailServer) -> None:
    """A lone dot ends the mail on the wire; in the mail it must not."""
    mail = Letter("1", "ada@example.test", b"Subject: x\r\n\r\n.\r\n..two\r\n.\r\n")
    assert outcomes(postman(server.port), mail) == {"ada@example.test": Sent()}
    assert server.taken[0][2] == mail.content


def test_nothing_to_send_needs_no_server() -> None:
    """An idle sender must not report a server as down that nobody asked for."""
    assert list(postman(free_port()).deliver([])) == []


def test_who_stops_early_has_sent_no_more_than_was_yielded(server: MailServer) -> None:
    """The sender may stop when its claim runs out; what was not yielded must still be unsent."""
    deliveries = postman(server.port).deliver([letter("ada"), letter("bob")])
    assert next(iter(deliveries))[1] == Sent()
    deliveries.close()  # type: ignore[attr-defined]  # the port promises an Iterator, every postman is a generator
    assert [recipient for _, recipient, _ in server.taken] == ["ada@example.test"]


# --- a no about one mail


@pytest.mark.parametrize("code", [550, 551, 552, 553, 554, 501, 521, 556])
def test_a_recipient_refused_for_good_is_a_refusal_of_that_mail_alone(server: MailServer, code: int) -> None:
    """The saga compensates for this mailbox; its neighbours get their mail over the same connection."""
    server.at_rcpt = {"nobody@example.test": f"{code} 5.1.1 no such user here"}
    result = outcomes(postman(server.port), letter("nobody"), letter("ada"))
    assert result["nobody@example.test"] == RefusedForGood("mailbox-refused", f"{code} 5.1.1 no such user here")
    assert result["ada@example.test"] == Sent()
    assert len(server.peers) == 1


@pytest.mark.parametrize("code", [450, 451, 452])
def test_a_greylisted_recipient_delays_that_mail_alone(server: MailServer, code: int) -> None:
    """Greylisting is an answer about one mail: it must neither stop the others nor be taken for a refusal."""
    server.at_rcpt = {"grey@example.test": f"{code} 4.2.0 greylisted, come back later"}
    result = outcomes(postman(server.port), letter("ada"), letter("grey"), letter("bob"))
    assert result["grey@example.test"] == Delayed(f"{code} 4.2.0 greylisted, come back later")
    assert result["ada@example.test"] == result["bob@example.test"] == Sent()
    assert len(server.peers) == 1


def test_replies_to_the_mail_itself_are_told_apart(server: MailServer) -> None:
    """The same three answers at the end of DATA, on one connection."""
    server.at_data = {"slow@example.test": "451 4.3.0 queue full", "spam@example.test": "554 5.7.1 looks like spam"}
    result = outcomes(postman(server.port), letter("slow"), letter("spam"), letter("ada"))
    assert result == {
        "slow@example.test": Delayed("451 4.3.0 queue full"),
        "spam@example.test": RefusedForGood("mailbox-refused", "554 5.7.1 looks like spam"),
        "ada@example.test": Sent(),
    }


def test_a_reply_is_kept_in_one_short_line_that_any_store_can_hold(server: MailServer) -> None:
    """The detail goes to PostgreSQL and into XML; neither takes every character, and a server says what it likes."""
    server.at_rcpt = {"nobody@example.test": "550-first\r\n550 second\x07\ttab " + "x" * 600}
    refusal = outcomes(postman(server.port), letter("nobody"))["nobody@example.test"]
    assert isinstance(refusal, RefusedForGood)
    assert refusal.detail.startswith(r"550 first second\x07 tab xxx")
    assert refusal.detail.isprintable()
    assert len(refusal.detail) == DETAIL_CHARACTERS


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("451 4.3.0 no room now", Delayed("451 4.3.0 no room now")),
        ("554 5.5.1 no valid recipients", RefusedForGood("mailbox-refused", "554 5.5.1 no valid recipients")),
    ],
)
def test_a_server_may_answer_before_the_mail_is_sent(reply: str, outcome: Outcome) -> None:
    """A no to the word DATA is as much about this mail as a no after its content."""
    with scripted(say(WELCOME + [reply])) as port:
        assert outcomes(postman(port), letter("ada")) == {"ada@example.test": outcome}


def test_an_address_with_foreign_letters_needs_a_server_that_takes_them(server: MailServer) -> None:
    """With SMTPUTF8 the mail goes; without, it never will, and the saga must hear so."""
    assert outcomes(postman(server.port), letter("zoë")) == {"zoë@example.test": Sent()}
    assert "SMTPUTF8" in server.mail_options[0]
    with running(MailServer(), enable_SMTPUTF8=False) as plain:
        result = outcomes(postman(plain.port), letter("zoë"), letter("ada"))
    assert isinstance(result["zoë@example.test"], RefusedForGood)
    assert result["ada@example.test"] == Sent()


@pytest.mark.parametrize(
    "recipient", ["ada@x.test\r\nRCPT TO:<eve@x.test>", "ada@x.test> BODY=8BITMIME", "ada", "a b@x.test"]
)
def test_no_recipient_becomes_a_second_command(server: MailServer, recipient: str) -> None:
    """An address is checked again where it enters the protocol: a hostile one is refused, its neighbours go on."""
    result = outcomes(postman(server.port), Letter("1", recipient, b"x"), letter("ada"))
    assert isinstance(result[recipient], RefusedForGood)
    assert [to for _, to, _ in server.taken] == ["ada@example.test"]


# --- trouble with the server, or with our own configuration


def cut_off(by: Postman, *letters: Letter) -> tuple[dict[str, Outcome], str]:
    """Deliver until a letter is cut off; tell what was settled before, and what is said of that one."""
    settled = outcomes(by, *letters)
    *_, last = settled
    outcome = settled.pop(last)
    assert isinstance(outcome, CutOff)
    return settled, outcome.detail


def test_a_server_that_says_421_cuts_off_the_letter_in_hand_and_what_was_settled_stands(server: MailServer) -> None:
    """421 may be about this letter or about the server: nobody is refused for it, and the others go another way."""
    server.at_rcpt = {"bob@example.test": "421 4.3.2 shutting down", "nobody@example.test": "550 no"}
    settled, reason = cut_off(postman(server.port), *map(letter, ("ada", "nobody", "bob", "eve")))
    assert settled == {"ada@example.test": Sent(), "nobody@example.test": RefusedForGood("mailbox-refused", "550 no")}
    assert reason == "421 4.3.2 shutting down"


def test_421_at_the_mail_itself_refuses_nobody(server: MailServer) -> None:
    """The same at the other place where a server may say it."""
    server.at_data = {"ada@example.test": "421 4.3.2 shutting down"}
    assert cut_off(postman(server.port), letter("ada")) == ({}, "421 4.3.2 shutting down")


@pytest.mark.parametrize(
    "reply", ["530 5.7.0 Authentication required", "503 5.5.1 bad sequence", "550 relaying denied"]
)
def test_a_refused_sender_refuses_no_mailbox(server: MailServer, reply: str) -> None:
    """A wrong MAIL_FROM or a missing log-in must not compensate every saga."""
    server.at_mail = reply
    settled, reason = cut_off(postman(server.port), letter("ada"))
    assert settled == {}
    assert reason == f"{reply[:3]} MAIL FROM: {reply[4:]}"


@pytest.mark.parametrize("code", [503, 530, 535, 538])
def test_a_missing_log_in_said_at_the_recipient_refuses_nobody(server: MailServer, code: int) -> None:
    """Servers that judge late ask for a log-in only here; it is still not about the mailbox."""
    server.at_rcpt = {"ada@example.test": f"{code} 5.7.0 log in first"}
    assert cut_off(postman(server.port), letter("ada"))[0] == {}


def test_a_server_that_cannot_reset_is_left(server: MailServer) -> None:
    """Without a clean start the next mail might go to the recipient before it; it is not blamed for that either."""
    server.at_rcpt, server.at_rset = {"nobody@example.test": "550 no"}, "500 what?"
    settled = outcomes(postman(server.port), letter("nobody"), letter("ada"))
    assert set(settled) == {"nobody@example.test"}
    assert server.taken == []


def test_a_connection_that_dies_before_the_answer_cuts_the_letter_off(server: MailServer) -> None:
    """Nobody knows whether the mail was taken (RFC 1047): it goes again, byte-identical, and is not called sent."""
    server.dies_after_content = True
    assert cut_off(postman(server.port), letter("ada"))[0] == {}
    assert len(server.taken) == 1


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Connection refused: wait, uncounted."""
    assert "Connection refused" in until_unavailable(postman(free_port()), letter("ada"))[1]


def test_a_server_whose_name_is_unknown_is_unavailable() -> None:
    """DNS trouble comes and goes."""
    place = Server(scheme="smtp", host="mail.invalid", port=25)
    assert "mail.invalid:25" in until_unavailable(SmtpPostman(place, SENDER, frozenset()), letter("ada"))[1]


def test_a_server_that_says_nothing_is_unavailable() -> None:
    """A silent server must not hold the sender for ever."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        silent_port = silent.getsockname()[1]
        assert "timed out" in until_unavailable(postman(silent_port, timeout=0.2), letter("ada"))[1]


@pytest.mark.parametrize("banner", [b"421 too busy\r\n", b"554 go away\r\n", b"HTTP/1.1 400 Bad Request\r\n", b""])
def test_a_server_that_does_not_welcome_us_is_unavailable(banner: bytes) -> None:
    """Whatever speaks there, no mailbox was asked about."""
    with scripted(lambda connection: connection.sendall(banner)) as port:
        assert until_unavailable(postman(port), letter("ada"))[0] == {}


@pytest.mark.parametrize("answers", [["354 go", "oops"], ["354 go", "354 go"], ["250 taken"], ["421 busy"]])
def test_a_reply_that_makes_no_sense_is_no_yes(answers: list[str]) -> None:
    """Only a yes after the content is a yes: whatever else is said there must not count as sent."""
    with scripted(say(WELCOME + answers)) as port:
        assert cut_off(postman(port), letter("ada"))[0] == {}


@pytest.mark.parametrize(
    "challenge",
    [
        b"334 \xff\xfe\r\n",
        b"334 a\r\n",
        b"334 " + b"x" * 9000,
        b"999 \r\n",
        b"250-so it goes on\r\n" * 9000,
        b"",
        b"\0\r\n",
    ],
)
def test_whatever_a_server_says_before_any_letter_is_the_servers(challenge: bytes) -> None:
    """No letter is in hand at the log-in: none is blamed, and nothing that smtplib raises gets past the loop."""

    def talk(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            for reply in (b"220 hi\r\n", b"250-hi\r\n250 AUTH PLAIN LOGIN\r\n", challenge):
                connection.sendall(reply)
                connection.recv(1000)

    with scripted(talk) as port:
        place = read_server(f"smtp://ada:hidden@127.0.0.1:{port}")
        settled, reason = until_unavailable(SmtpPostman(place, SENDER, frozenset(), timeout=1), letter("ada"))
    assert settled == {}
    assert reason.isprintable()


def test_a_farewell_without_an_answer_holds_nobody_up() -> None:
    """All is settled when QUIT is said; the mails that were sent wait to be reported."""
    left: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        say([*WELCOME, "354 go", "250 taken"])(connection)
        left.append(connection.recv(1000))  # raises TimeoutError when nobody leaves

    with scripted(talk) as port:
        assert outcomes(postman(port, timeout=3600.0), letter("ada")) == {"ada@example.test": Sent()}
    assert left == [b""]


def test_a_farewell_that_fails_takes_nothing_back() -> None:
    """All mails are settled when QUIT is said; a server that just hangs up then is no trouble."""
    with scripted(say([*WELCOME, "354 go", "250 taken"])) as port:
        assert outcomes(postman(port), letter("ada")) == {"ada@example.test": Sent()}


# --- log-in and TLS


def only_ada(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    """Let `ada@x` in with her password, nobody else."""
    known = isinstance(data, LoginPassword) and data == LoginPassword(b"ada@x", b"s:/#%")
    return AuthResult(success=known, handled=False)


LOG_IN = {"authenticator": only_ada, "auth_required": True}
LOG_IN_IN_THE_CLEAR = {"authenticator": only_ada, "auth_require_tls": False}


def test_a_log_in_with_a_percent_encoded_secret_is_accepted() -> None:
    """Passwords hold what they like; on loopback they may go in the clear."""
    with running(MailServer(), **LOG_IN_IN_THE_CLEAR) as server:
        place = read_server(f"smtp://ada%40x:s%3A%2F%23%25@127.0.0.1:{server.port}")
        assert outcomes(SmtpPostman(place, SENDER, frozenset()), letter("ada")) == {"ada@example.test": Sent()}
    assert server.logged_in == [True]


def test_a_failed_log_in_is_unavailable_and_shows_no_secret() -> None:
    """A password that was changed at the server is repaired by an operator; no saga is compensated for it."""
    with running(MailServer(), **LOG_IN_IN_THE_CLEAR) as server:
        place = read_server(f"smtp://ada:hidden-word@127.0.0.1:{server.port}")
        settled, reason = until_unavailable(SmtpPostman(place, SENDER, frozenset()), letter("ada"))
    assert settled == {}
    assert "535" in reason
    assert "hidden-word" not in reason
    assert "hidden-word" not in repr(place)


def test_a_server_without_log_in_is_unavailable_to_a_user(server: MailServer) -> None:
    """Credentials are never silently left unused."""
    place = read_server(f"smtp://ada:secret@127.0.0.1:{server.port}")
    assert until_unavailable(SmtpPostman(place, SENDER, frozenset()), letter("ada"))[0] == {}


def test_starttls_with_a_certificate_that_nobody_signed_is_refused(certificate: Certificate) -> None:
    """Neither the password nor the link is shown to whoever stands in between."""
    with running(MailServer(), tls_context=certificate.context) as server:
        place = read_server(f"smtp+starttls://127.0.0.1:{server.port}")
        settled, reason = until_unavailable(SmtpPostman(place, SENDER, frozenset()), letter("ada"))
    assert settled == {}
    assert "CERTIFICATE_VERIFY_FAILED" in reason
    assert server.taken == []


def test_starttls_that_is_not_offered_is_refused(server: MailServer) -> None:
    """Taking the offer away must not make us go on in the clear."""
    place = read_server(f"smtp+starttls://127.0.0.1:{server.port}")
    assert "STARTTLS" in until_unavailable(SmtpPostman(place, SENDER, frozenset()), letter("ada"))[1]
    assert server.taken == []


def test_starttls_with_a_trusted_certificate_logs_in_and_sends(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual way to a submission server, all of it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    with running(MailServer(), tls_context=certificate.context, **LOG_IN) as server:
        place = read_server(f"smtp+starttls://ada%40x:s%3A%2F%23%25@127.0.0.1:{server.port}")
        assert outcomes(SmtpPostman(place, SENDER, frozenset()), letter("ada")) == {"ada@example.test": Sent()}
    assert server.logged_in == [True]


def test_smtps_sends_to_a_trusted_server_only(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS from the first byte, with the same care about the certificate."""
    with running(MailServer(), ssl_context=certificate.context) as server:
        place = read_server(f"smtps://127.0.0.1:{server.port}")
        assert "CERTIFICATE" in until_unavailable(SmtpPostman(place, SENDER, frozenset()), letter("ada"))[1]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
        assert outcomes(SmtpPostman(place, SENDER, frozenset()), letter("ada")) == {"ada@example.test": Sent()}


# --- the choice


def test_addresses_say_host_port_and_credentials() -> None:
    """Three forms, each with the port that the field is used to."""
    assert read_server("smtp://mail.test") == Server(scheme="smtp", host="mail.test", port=25)
    assert read_server("smtps://mail.test") == Server(scheme="smtps", host="mail.test", port=465)
    assert read_server("smtp+starttls://a%40b:c%2Fd@mail.test") == Server(
        scheme="smtp+starttls", host="mail.test", port=587, user="a@b", password="c/d"
    )
    assert read_server("smtp://a:b@[::1]:2525").host == "::1"
    assert read_server("smtp://bücher.test").host == "xn--bcher-kva.test"


@pytest.mark.parametrize(
    "url",
    [
        "smtp://ada:hidden@mail.test:25",
        "smtps://ada:hid#den@mail.test",
        "smtps://ada:12#hidden@mail.test",
        "smtps://ada:hid/den@mail.test",
        "smtps://ada:hidden@mail.test:many",
        "smtps://ada:hidden@mail.test:99999",
        "smtps://ada:hidden@mail.test/inbox",
        "smtps://ada:hidden@mail.test?x=hidden",
        "smtps://ada:hidden@",
        "smtps://ada:hidden@mail..test",
        "smtps://ada:hidden@[::1",
        "smtps://ada:hidd%C3%A9n@mail.test",
        "smtps://hidden@mail.test",
        "smtps://:hidden@mail.test",
        "imap://ada:hidden@mail.test",
    ],
)
def test_a_wrong_address_names_its_variable_and_hides_its_secret(url: str) -> None:
    """An operator reads this at start, in a log that others read too."""
    with pytest.raises(SettingError) as refusal:
        read_server(url)
    assert refusal.value.variable == "SMTP_URL"
    assert "hid" not in str(refusal.value)


def test_smtp_url_chooses_the_server_and_mail_from_the_envelopes_sender(server: MailServer, tmp_path: Path) -> None:
    """Settings alone decide, and choosing connects nowhere."""
    chosen = open_postman(
        settings(tmp_path, SMTP_URL=f"smtp://127.0.0.1:{server.port}", MAIL_FROM="Passwords <pw@bücher.test>")
    )
    assert server.peers == set()
    assert outcomes(chosen, letter("ada")) == {"ada@example.test": Sent()}
    assert server.taken[0][0] == "pw@xn--bcher-kva.test"
    assert not (tmp_path / "mail").exists()


def test_a_wrong_sender_stops_the_program_at_start(tmp_path: Path) -> None:
    """Better than every mail failing later."""
    with pytest.raises(SettingError, match="MAIL_FROM"):
        open_postman(settings(tmp_path, MAIL_FROM="nobody"))


@pytest.mark.parametrize("domain", ["refused.test", "Refused.TEST", "bücher.test", "xn--bcher-kva.test"])
def test_refused_domains_are_refused_before_anybody_is_asked(tmp_path: Path, domain: str) -> None:
    """Anyone can watch a compensation, with the mail server down and without any."""
    refused = {"MAIL_REFUSED_DOMAINS": "refused.test, BÜCHER.test"}
    down = settings(tmp_path, SMTP_URL=f"smtp://127.0.0.1:{free_port()}", **refused)
    for chosen in (open_postman(settings(tmp_path, **refused)), open_postman(down)):
        outcome = outcomes(chosen, letter("ada", domain))[f"ada@{domain}"]
        assert isinstance(outcome, RefusedForGood)
        assert outcome.code == "mailbox-refused"
        assert domain.lower().replace("bücher", "xn--bcher-kva") in outcome.detail


def test_refusals_by_address_stand_although_the_server_is_down() -> None:
    """They need no server, so they are told first."""
    by = postman(free_port(), refused=frozenset(["refused.test"]))
    settled, _ = until_unavailable(by, letter("ada"), letter("bob", "refused.test"))
    assert set(settled) == {"bob@refused.test"}


# --- Maildir


def test_without_a_server_mail_goes_into_a_maildir_that_any_mail_program_reads(tmp_path: Path) -> None:
    """The first run needs no mail server; the link is a secret, so the files are their owner's alone."""
    mail = letter("ada")
    assert outcomes(open_postman(settings(tmp_path)), mail, letter("bob")) == {
        "ada@example.test": Sent(),
        "bob@example.test": Sent(),
    }
    box = tmp_path / "mail"
    assert sorted(child.name for child in box.iterdir()) == ["cur", "new", "tmp"]
    assert (box / "new" / mail.id).read_bytes() == mail.content
    assert (box / "new" / mail.id).stat().st_mode & 0o777 == 0o600
    assert (box / "new").stat().st_mode & 0o777 == 0o700
    assert list((box / "tmp").iterdir()) == []


def test_a_mail_kept_twice_is_one_file(tmp_path: Path) -> None:
    """A sender that died before its report sends again; people must see one mail."""
    by = open_postman(settings(tmp_path))
    for _ in range(2):
        assert outcomes(by, letter("ada")) == {"ada@example.test": Sent()}
    assert len(list((tmp_path / "mail" / "new").iterdir())) == 1


def test_a_mail_that_was_read_does_not_come_back(tmp_path: Path) -> None:
    """A mail program moves what it has seen to `cur`; a repeat after that is still the same mail."""
    by, mail = open_postman(settings(tmp_path)), letter("ada")
    outcomes(by, mail)
    box = tmp_path / "mail"
    (box / "new" / mail.id).rename(box / "cur" / f"{mail.id}:2,S")
    assert outcomes(by, mail) == {"ada@example.test": Sent()}
    assert list((box / "new").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    """A full or missing disk is repaired; no mail is called sent or broken for it."""
    (tmp_path / "mail").write_text("in the way")
    settled, reason = until_unavailable(open_postman(settings(tmp_path)), letter("ada"))
    assert settled == {}
    assert str(tmp_path / "mail") in reason


def test_a_file_that_cannot_be_written_stops_no_other(tmp_path: Path) -> None:
    """Its mail is tried again by itself; half a mail is never seen, and retries do not fill the disk."""
    in_the_way, others = letter("ada"), [letter("bob"), letter("eve")]
    (tmp_path / "new" / in_the_way.id).mkdir(parents=True)
    by = MaildirPostman(tmp_path, frozenset())
    assert cut_off(by, others[0], in_the_way, others[1])[0] == {"bob@example.test": Sent()}
    assert outcomes(by, others[1]) == {"eve@example.test": Sent()}
    assert [(tmp_path / "new" / mail.id).read_bytes() for mail in others] == [mail.content for mail in others]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_no_mail_id_names_a_file_elsewhere(tmp_path: Path) -> None:
    """An id comes with a message; it must not choose a path."""
    by, hostile = MaildirPostman(tmp_path / "mail", frozenset()), Letter("../out", "eve@x.test", b"x")
    assert cut_off(by, letter("ada"), hostile)[0] == {"ada@example.test": Sent()}
    assert not (tmp_path / "out").exists()
