"""Take the mails of a system under test: by SMTP like anybody's mail server, or out of its Maildir."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Protocol

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from pulsaga_program.local.process import free_ports

LINK = re.compile(r"https?://\S+/(?:reveal|reset|confirm-email)#(\S+)")


@dataclass(frozen=True)
class Mail:
    """Hold one mail as it arrived."""

    raw: bytes = field(repr=False)

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        return _parsed(self.raw)

    @property
    def id(self) -> str:
        """The mail's Message-ID."""
        return str(self.message["Message-ID"])

    @property
    def recipient(self) -> str:
        """Whom the mail is for."""
        return str(self.message["To"])

    @property
    def text(self) -> str:
        """What a reader without HTML sees."""
        part = self.message.get_body(("plain",))
        assert part is not None
        return str(part.get_content())

    @property
    def link(self) -> str:
        """The one link in it."""
        found = LINK.search(self.text)
        assert found, self.text
        return found[0]

    @property
    def token(self) -> str:
        """What the link carries in its fragment."""
        return self.link.partition("#")[2]


@cache
def _parsed(raw: bytes) -> EmailMessage:
    parsed = message_from_bytes(raw, policy=policy.SMTPUTF8)
    assert isinstance(parsed, EmailMessage)
    return parsed


class Mailbox(Protocol):
    """Hold what a system has mailed so far."""

    environment: dict[str, str]
    """How the system is told of it."""
    refused: str
    """A domain whose every mailbox is refused for good."""

    def mails(self) -> Sequence[Mail]:
        """Return the mails that have come, repeats too."""
        ...


class SmtpServer:
    """Be a mail server that knows nobody at `refused`."""

    refused = "nowhere.example"
    _away = False

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.environment = {"SMTP_URL": f"smtp://127.0.0.1:{self.port}"}
        self._taken: list[Mail] = []
        self.refusals = 0
        """Sessions that were turned away during an outage."""
        self._controller = self._new_controller()

    def _new_controller(self) -> Controller:
        return Controller(self, hostname="127.0.0.1", port=self.port, enable_SMTPUTF8=True)

    def start(self) -> None:
        """Begin to serve."""
        self._controller.start()

    def stop(self) -> None:
        """End serving."""
        self._controller.stop()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Turn every session away (421) while the block runs, and count them."""
        self._away = True
        try:
            yield
        finally:
            self._away = False

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Greet, or say that nobody is served now."""
        if self._away:
            self.refusals += 1
            return ["421 4.3.2 not now"]
        session.host_name = hostname
        return responses

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:
        """Greet who speaks no ESMTP, or say that nobody is served now."""
        if self._away:
            return "421 4.3.2 not now"
        session.host_name = hostname
        return f"250 {server.hostname}"

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Begin a mail, or say so on a session that was open before the outage."""
        if self._away:
            self.refusals += 1
            return "421 4.3.2 not now"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse whom we do not know."""
        if address.endswith(f"@{self.refused}"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take the mail."""
        assert isinstance(envelope.content, bytes)
        self._taken.append(Mail(envelope.content))
        return "250 OK"

    def mails(self) -> Sequence[Mail]:
        """Return what was taken, in its order."""
        return tuple(self._taken)


@contextmanager
def smtp_server() -> Iterator[SmtpServer]:
    """Serve on a loopback port until the block ends."""
    server = SmtpServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Maildir:
    """Look into the Maildir that a system keeps when it is given no mail server."""

    refused = "refused.test"

    def __init__(self, home: Path) -> None:
        self.environment: dict[str, str] = {}
        self._folder = home / "mail" / "new"

    def mails(self) -> Sequence[Mail]:
        """Return what lies there."""
        return [Mail(path.read_bytes()) for path in self._folder.glob("*")]
