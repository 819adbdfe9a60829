"""A mail server that misbehaves over one letter, one domain or all: who is blamed, who is delayed, who gets mail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select, update
from tests.service.desk import Desk, deliver, make_desk
from tests.service.stage import BOTH, LINK_KEY, pass_time, settings_on
from tests.service.test_smtp import SENDER, MailServer, running

import correo.handlers
from correo import smtp
from correo.handlers import LONGEST_DELAY_S, ROUNDS_OF_A_CLAIM, Sender, report
from correo.messages import PasswordMailSent, SendPasswordMail
from correo.settings import CorreoSettings
from correo.smtp import CutOff, Server, SmtpPostman
from correo.suspects import IN_A_ROW, MOST_DOMAINS, SHORTEST_REST_S, Suspects
from correo.tables import mail
from generador.vault import new_token
from pulsaga.delivery.messages import contract_of
from pulsaga.errors import Unavailable
from pulsaga.sealing import seal_text
from pulsaga.settings import Settings

TIMEOUT_S, TIMEOUT_OF_WHAT_HANGS_S = 10.0, 1.0
"""Nothing but what hangs may reach its time-out, however slow the machine: a good letter would be cut off, too."""
OTHERS = 9

Deed = Callable[[asyncio.WriteTransport], Awaitable[None]]


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """SQLite always, PostgreSQL too."""
    return settings_on(request, tmp_path)


# --- the server at the other end


def says(reply: bytes) -> Deed:
    """Answer with these bytes."""

    async def deed(transport: asyncio.WriteTransport) -> None:
        transport.write(reply)

    return deed


def repeats(piece: bytes, every_s: float = 0.0) -> Deed:
    """Answer without an end."""

    async def deed(transport: asyncio.WriteTransport) -> None:
        while not transport.is_closing():
            transport.write(piece)
            await asyncio.sleep(every_s)

    return deed


async def hangs_up(transport: asyncio.WriteTransport) -> None:
    """Close the connection."""
    transport.abort()


async def hangs(transport: asyncio.WriteTransport) -> None:
    """Answer nothing for as long as the connection lives."""
    while not transport.is_closing():
        await asyncio.sleep(0.01)


DEEDS: dict[str, Deed] = {
    "421": says(b"421 4.3.2 closing\r\n"),
    "503": says(b"503 5.5.1 bad sequence\r\n"),
    "000": says(b"000 zero\r\n"),
    "999": says(b"999 devil\r\n"),
    "no code": says(b"what?\r\n"),
    "garbage": says(bytes(range(14, 256)) + b"\r\n"),
    "nul": says(b"\0\0\0\r\n"),
    "nul in the words": says(b"421 a\0b\r\n"),
    "non-ascii": says("421 größer ∞\r\n".encode()),
    "not utf-8": says(b"421 \xff\xfe\xed\xa0\x80\r\n"),
    "escape": says(b"421 \x1b[2J\x9b\r\n"),
    "empty": says(b"\r\n"),
    "line without end": repeats(b"250-" + b"x" * 9000),
    "lines without end": repeats(b"250-and so on\r\n" * 100),
    "slow lines without end": repeats(b"250-and so on\r\n", every_s=0.05),
    "slow bytes": repeats(b"2", every_s=0.05),
    "hangs up": hangs_up,
    "hangs": hangs,
}
"""What blames no mailbox, wherever it is done."""
HANGING = [DEEDS[deed] for deed in ("slow lines without end", "slow bytes", "hangs")]
ANSWERS: dict[str, str] = {
    "450 4.2.0 greylisted": "waiting",
    "451 4.3.0 later": "waiting",
    "452 4.2.2 full": "waiting",
    "550 5.1.1 no such user": "refused",
    "554 5.7.1 spam": "refused",
}
"""What is an answer about one mailbox, and where its mail stands then."""


@dataclass
class Moody(MailServer):
    """Misbehave at one place of the dialogue, over the recipients whose address has `victims` in it."""

    place: str = ""
    deed: Deed = hangs
    victims: str = "@"
    times: int = 1_000_000
    connections: int = 0
    asked: list[str] = field(default_factory=list)

    def strikes(self, place: str, text: str) -> bool:
        """Tell whether it is here that the server misbehaves, and count it."""
        struck = place == self.place and self.victims in text and self.times > 0
        self.times -= struck
        return struck

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take the mail, and judge it."""
        if not self.strikes("content", str(envelope.rcpt_tos)):
            return await super().handle_DATA(server, session, envelope)
        assert isinstance(server.transport, asyncio.WriteTransport)
        await self.deed(server.transport)
        return ""


class MoodySession(SMTP):
    """Talk SMTP, except where the server misbehaves."""

    def connection_made(self, transport: Any) -> None:
        self.event_handler.connections += 1
        super().connection_made(transport)

    async def smtp_MAIL(self, arg: str | None) -> None:
        await self._or_misbehave("MAIL", str(arg), super().smtp_MAIL(arg))

    async def smtp_RCPT(self, arg: str | None) -> None:
        self.event_handler.asked.append(str(arg))
        await self._or_misbehave("RCPT", str(arg), super().smtp_RCPT(arg))

    async def smtp_DATA(self, arg: str | None) -> None:
        assert self.envelope
        await self._or_misbehave("DATA", str(self.envelope.rcpt_tos), super().smtp_DATA(arg))

    async def push(self, status: Any) -> None:
        if status:  # nothing is added to what was done instead of an answer
            await super().push(status)

    async def _or_misbehave(self, place: str, text: str, proper: Coroutine[Any, Any, None]) -> None:
        if self.event_handler.strikes(place, text):
            proper.close()
            await self.event_handler.deed(self.transport)
        else:
            await proper


@contextmanager
def mail_server(place: str, deed: Deed, **more: Any) -> Iterator[Moody]:
    """Serve until the test is over; misbehave there."""
    server = Moody(place=place, deed=deed, **more)
    with running(server, MoodySession):
        yield server


# --- correo


@dataclass
class Runtimes:
    """Correo's worker, with a sender that loses its patience soon."""

    desk: Desk
    sender: Sender

    def ask(self, *recipients: str) -> None:
        """Ask for a mail to each, one after the other."""
        for recipient in recipients:
            username = recipient.partition("@")[0]
            token = seal_text(new_token(), LINK_KEY, username)
            self.desk.worker.settle([deliver(SendPasswordMail(username, recipient, token))])

    def send(self, turns: int = 1) -> int:
        """Let the sender have its turns, a second apart; return how often it found the server to be down."""
        down = 0
        for _ in range(turns):
            try:
                self.sender.send_due()
            except Unavailable:
                down += 1
            pass_time(self.desk, 1.0)
        return down

    def mails(self) -> dict[str, Any]:
        """Return where each mail stands, by recipient."""
        return {row["recipient"]: row for row in self.desk.rows(mail)}

    def statuses(self, *recipients: str) -> set[str]:
        """Return where these mails stand."""
        return {row["status"] for recipient, row in self.mails().items() if recipient in recipients}

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the sender."""
        pass_time(self.desk, seconds)


def runtimes(settings: Settings, server: Moody) -> Runtimes:
    """Sit correo down with this mail server."""
    desk = make_desk(settings, "correo")
    sender = Sender(desk.runtime)
    place = Server(scheme="smtp", host="127.0.0.1", port=server.port)
    timeout_s = TIMEOUT_OF_WHAT_HANGS_S if server.deed in HANGING else TIMEOUT_S
    sender._postman = SmtpPostman(place, SENDER, frozenset(), timeout=timeout_s, content_timeout=timeout_s)
    return Runtimes(desk, sender)


def addresses(number: int, domain: str = "example.test", name: str = "u") -> list[str]:
    """Name so many mailboxes at a domain."""
    return [f"{name}{i}@{domain}" for i in range(number)]


BAD = "bad@example.test"
ALL = addresses(OTHERS)
PLACES = ("MAIL", "RCPT", "DATA", "content")


# --- one letter


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_one_letter_that_is_cut_off_delays_no_other(settings: Settings, place: str, deed: str) -> None:
    """Whatever a server does over one letter: the others go in the same turn, it is counted, and goes once it can."""
    with mail_server(place, DEEDS[deed], victims="@" if place == "MAIL" else BAD, times=1) as server:
        correo = runtimes(settings, server)
        correo.ask(BAD, *ALL)
        assert correo.send() == 0
        (counted,) = [row for row in correo.mails().values() if row["status"] != "sent"]
        assert (counted["recipient"], counted["status"], counted["attempts"]) == (BAD, "waiting", 1)
        assert counted["error"]
        assert counted["error"].isprintable()
        assert len(correo.desk.said(contract_of(PasswordMailSent).name)) == OTHERS
        assert correo.send(2) == 0
        assert correo.statuses(BAD, *ALL) == {"sent"}
        assert sorted(to for _, to, _ in server.taken) == sorted([BAD, *ALL])


@pytest.mark.parametrize("deed", ["nul in the words", "not utf-8", "hangs up"])
def test_what_a_server_says_can_be_kept_by_both_databases(settings: Settings, deed: str) -> None:
    """PostgreSQL takes no NUL: a report that it refuses would send every mail of the page again, for ever."""
    with mail_server("RCPT", DEEDS[deed], victims=BAD) as server:
        correo = runtimes(settings, server)
        correo.ask(BAD, *ALL)
        assert correo.send() == 0
        assert correo.statuses(*ALL) == {"sent"}
        assert correo.mails()[BAD]["attempts"] == 1


@pytest.mark.parametrize("place", PLACES[1:])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_an_answer_about_one_mailbox_is_told_of_it_alone(settings: Settings, place: str, answer: str) -> None:
    """A clear no, for now or for good, needs no new connection, and no other mail hears of it."""
    with mail_server(place, says(f"{answer}\r\n".encode()), victims=BAD) as server:
        correo = runtimes(settings, server)
        correo.ask(BAD, *ALL)
        correo.send()
        assert correo.statuses(BAD) == {ANSWERS[answer]}
        assert correo.statuses(*ALL) == {"sent"}
        assert len(server.peers) == 1


@pytest.mark.parametrize("deed", ["421", "hangs up", "hangs"])
def test_one_letter_that_is_always_cut_off_is_tried_ever_more_rarely_and_last(settings: Settings, deed: str) -> None:
    """It comes behind those that were never tried, so that it holds up nobody twice; no count of tries overflows."""
    with mail_server("RCPT", DEEDS[deed], victims=BAD) as server:
        correo = runtimes(settings, server)
        correo.ask(BAD)
        for turn in range(12):
            correo.ask(f"u{turn}@example.test")
            assert correo.send() == 0
            assert correo.statuses(f"u{turn}@example.test") == {"sent"}
            correo.pass_time(2.0**turn)
        assert server.asked.count(f"TO:<{BAD}>") == correo.mails()[BAD]["attempts"] <= 12
        with correo.desk.runtime.write.begin() as tx:
            tx.execute(update(mail).where(mail.c.recipient == BAD).values(attempts=5000))
        correo.pass_time(LONGEST_DELAY_S)
        correo.send()
        assert correo.mails()[BAD]["attempts"] == 5001


def test_many_letters_that_are_cut_off_let_the_others_past(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than a page holds, and all before the first good one."""
    monkeypatch.setattr(correo.handlers, "PAGE", 4)
    bad = [f"bad{i}@d{i}.test" for i in range(6)]
    with mail_server("RCPT", DEEDS["421"], victims="bad") as server:
        correo_ = runtimes(settings, server)
        correo_.ask(*bad, *ALL)
        correo_.send(4)
        assert correo_.statuses(*ALL) == {"sent"}
        assert all(row["attempts"] <= 3 for row in correo_.mails().values())


def test_what_was_sent_is_reported_before_a_suspect_is_tried(settings: Settings) -> None:
    """A server that hangs would outlast the claim: another sender would then send everybody's mail once more."""
    seen: list[dict[str, int]] = []

    async def look_and_hang_up(transport: asyncio.WriteTransport) -> None:
        with correo.desk.runtime.write.connect() as connection:
            statuses = connection.execute(select(mail.c.status)).scalars().all()
        seen.append({status: statuses.count(status) for status in set(statuses)})
        transport.abort()

    with mail_server("RCPT", look_and_hang_up, victims=BAD) as server:
        correo = runtimes(settings, server)
        correo.ask(BAD)
        correo.send(2)
        correo.ask(*ALL)
        correo.pass_time(10.0)
        correo.send()
        assert seen[-1] == {"sent": OTHERS, "waiting": 1}


def test_a_letter_that_hangs_at_any_one_place_is_reported_within_its_claim() -> None:
    """Else another sender takes it and sends it, too; neither may report it, and it is never tried more rarely."""
    claim_s = Settings.read({}).of(CorreoSettings).mail_claim
    assert claim_s / ROUNDS_OF_A_CLAIM + smtp.TIMEOUT_S + smtp.CONTENT_TIMEOUT_S <= claim_s


# --- one domain


@pytest.mark.parametrize("deed", ["421", "hangs"])
def test_a_domain_where_every_letter_is_cut_off_rests(settings: Settings, deed: str) -> None:
    """Fresh letters to it arrive all the time: it takes a tenth of the time at most, and the others flow."""
    with mail_server("RCPT", DEEDS[deed], victims="tarpit.test") as server:
        correo = runtimes(settings, server)
        correo.ask(*addresses(10, "tarpit.test"), *ALL)
        correo.send(2)
        assert correo.statuses(*ALL) == {"sent"}
        for turn in range(20):
            correo.ask(f"x{turn}@tarpit.test", f"y{turn}@other.test")
            correo.send()
            assert correo.statuses(f"y{turn}@other.test") == {"sent"}
        probes = sum("tarpit" in asked for asked in server.asked)
        assert probes <= IN_A_ROW + 22 / SHORTEST_REST_S + 1
        assert sum(row["attempts"] for row in correo.mails().values() if "tarpit" in row["recipient"]) == probes
        server.place = ""
        correo.pass_time(LONGEST_DELAY_S)
        correo.send(3)
        assert {row["status"] for row in correo.mails().values()} == {"sent"}


def test_one_letter_alone_makes_no_domain_rest() -> None:
    """However often it is cut off: a stranger's mailbox must not close the domain that everybody has mail at."""
    suspects = Suspects()
    for at in range(100):
        suspects.note("bad", "big.test", CutOff("421"), float(at))
    assert suspects.rests_until("big.test", 99.0) <= 99.0


def test_no_rest_outlives_the_clock_by_which_it_was_meant(settings: Settings) -> None:
    """The clock was a day ahead and is put right: nothing may rest for a day."""
    tarpit = addresses(IN_A_ROW, "tarpit.test")
    with mail_server("RCPT", DEEDS["421"], victims="tarpit.test") as server:
        correo = runtimes(settings, server)
        correo.pass_time(86400.0)
        correo.ask(*tarpit)
        correo.ask(*ALL)
        correo.send(2 * IN_A_ROW)
        server.place = ""
        correo.pass_time(-86400.0 - 2 * IN_A_ROW)
        with correo.desk.runtime.write.begin() as tx:  # as the lookout does
            tx.execute(update(mail).where(mail.c.due_at.is_not(None)).values(due_at=0.0))
        correo.send(3)
        assert correo.statuses(*tarpit) == {"sent"}


def test_letters_that_rest_with_their_domain_keep_no_page_from_the_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand of them were put off a page a second, and everybody else's mail waited behind them."""
    with mail_server("RCPT", DEEDS["421"], victims="tarpit.test") as server:
        correo_ = runtimes(settings, server)
        correo_.ask(*addresses(IN_A_ROW, "tarpit.test", "first"))
        correo_.ask("z@example.test")
        correo_.send(IN_A_ROW + 1)
        monkeypatch.setattr(correo.handlers, "PAGE", 4)
        correo_.ask(*addresses(12, "tarpit.test"), *ALL)
        correo_.send()
        assert correo_.statuses(*ALL) == {"sent"}


def test_strangers_cannot_fill_the_memory_with_domains() -> None:
    """Whoever asks for a password chooses a domain."""
    suspects = Suspects()
    for number in range(2 * MOST_DOMAINS):
        suspects.note(str(number), f"d{number}.test", CutOff("421"), 1.0)
    assert sum(suspects.strikes(f"d{number}.test") for number in range(2 * MOST_DOMAINS)) == MOST_DOMAINS


# --- everybody


@pytest.mark.parametrize("domains", [1, 20])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("deed", ["421", "hangs up"])
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_server_that_cuts_everybody_off_is_left_alone_for_a_while(
    settings: Settings, place: str, deed: str, domains: int
) -> None:
    """It is not hammered, no mail's tries rise beyond reason, and after it heals every mail goes, once."""
    everybody = [f"u{i}@d{i % domains}.test" for i in range(20)]
    with mail_server(place, DEEDS[deed]) as server:
        correo = runtimes(settings, server)
        correo.ask(*everybody)
        turns = 30
        assert correo.send(turns) >= 1
        assert correo.statuses(*everybody) == {"waiting"}
        assert server.connections <= turns * IN_A_ROW
        assert max(row["attempts"] for row in correo.mails().values()) <= 6  # tries double their distance
        server.place = ""
        server.taken.clear()
        correo.pass_time(LONGEST_DELAY_S)
        correo.send(2)
        assert correo.statuses(*everybody) == {"sent"}
        assert sorted(to for _, to, _ in server.taken) == sorted(everybody)


# --- what cannot be reported


def test_a_mail_that_cannot_be_answered_is_not_sent_and_stops_no_other(settings: Settings) -> None:
    """A page is reported in one transaction: one row that is broken must not have all its neighbours sent again."""
    with mail_server("", hangs) as server:
        correo = runtimes(settings, server)
        correo.ask(BAD, *ALL)
        with correo.desk.runtime.write.begin() as tx:
            tx.execute(update(mail).where(mail.c.recipient == BAD).values(context="{"))
        assert correo.send() == 0
        assert correo.statuses(*ALL) == {"sent"}
        assert correo.mails()[BAD]["status"] == "waiting"
        assert sorted(to for _, to, _ in server.taken) == sorted(ALL)


def test_a_report_that_fails_is_that_mails_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever cannot be told of one mail, the others' users have theirs, and their sagas hear of it."""

    def fail_for_bad(uow: Any, row: Any, outcome: Any) -> None:
        report(uow, row, outcome)
        if row["recipient"] == BAD and row["status"] == "sent":
            raise ValueError("cannot be told")

    monkeypatch.setattr(correo.handlers, "report", fail_for_bad)
    with mail_server("", hangs) as server:
        here = runtimes(settings, server)
        here.ask(BAD, *ALL)
        assert here.send() == 0
        assert here.statuses(*ALL) == {"sent"}
        assert len(here.desk.said(contract_of(PasswordMailSent).name)) == OTHERS
        assert (here.mails()[BAD]["status"], here.mails()[BAD]["attempts"]) == ("waiting", 1)
