"""Hand letters to a mail server, or keep them in a Maildir, and say of each what came of it.

A no that is about one mail is an outcome. All that is about the server or about our configuration is `Unavailable`:
nobody is refused a password because a log-in has expired.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import ssl
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from smtplib import SMTP, SMTP_SSL, SMTPDataError, SMTPResponseException
from typing import Protocol, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from correo.mail import REFUSED, Mailbox, checked_mail_id, domain_key, mailbox, sender_mailbox
from seedwork.errors import DomainError, SettingError, Unavailable
from seedwork.settings import Settings

TIMEOUT_S = 10.0
CONTENT_TIMEOUT_S = 30.0
"""Seconds for a server to take and judge the mail itself (RFC 5321 §4.5.3.2.6 grants minutes): giving up here means
that the mail may arrive twice, so it is longer than `TIMEOUT_S`, yet within a claim."""
DEFAULT_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
ABOUT_THE_SESSION = frozenset({421, 503, 530, 534, 535, 538})
"""Replies that never blame a mailbox: closing, out of sequence, log in first, encrypt first (RFC 5321, RFC 4954)."""
DETAIL_CHARACTERS = 300


@dataclass(frozen=True)
class Letter:
    """Hold one mail that is ready to go: `content` is RFC 5322 with CRLF."""

    id: str
    recipient: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Sent:
    """Say that the recipient's server, or the Maildir, has taken the mail."""


@dataclass(frozen=True)
class RefusedForGood:
    """Say that this mail will never be taken, with the code of the refusal and the server's own words."""

    code: str
    detail: str


@dataclass(frozen=True)
class Delayed:
    """Say that this mail alone is to be tried again later, with the server's own words."""

    detail: str


@dataclass(frozen=True)
class CutOff:
    """Say that the connection broke while this mail was in hand: its own fault, perhaps, or nobody's."""

    detail: str


Outcome: TypeAlias = Sent | RefusedForGood | Delayed | CutOff
Reply: TypeAlias = tuple[int, bytes]


class Postman(Protocol):
    """Deliver letters; the outcomes yielded so far stand, whatever happens next."""

    def deliver(self, letters: Iterable[Letter]) -> Generator[tuple[Letter, Outcome]]:
        """Yield each letter's outcome, refused addresses first; raise Unavailable for those not yet yielded.

        A letter whose outcome was not yielded may have been sent. Whoever stops early closes the connection.
        """
        ...


def open_postman(settings: Settings) -> Postman:
    """Choose SMTP where SMTP_URL is given, else the Maildir in the home folder; raise SettingError, connect nowhere."""
    refused = frozenset(map(domain_key, settings.mail_refused_domains))
    _, sender = sender_mailbox(settings.mail_from)
    if settings.smtp_url:
        return SmtpPostman(read_server(settings.smtp_url), sender, refused)
    return MaildirPostman(settings.home / "mail", refused)


# --- where the server is


@dataclass(frozen=True, kw_only=True)
class Server:
    """Say where the mail server is and how to enter it; `scheme` is smtp, smtps or smtp+starttls."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)


def read_server(url: str) -> Server:
    """Read SMTP_URL; raise SettingError, which never shows the URL's secret."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        raise SettingError("SMTP_URL", _WRONG_URL) from None
    if parts.scheme not in DEFAULT_PORTS or not host or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise SettingError("SMTP_URL", _WRONG_URL)
    user, password = _credentials(parts)
    if user and parts.scheme == "smtp" and not _is_loopback(host):
        raise SettingError("SMTP_URL", "smtp:// would send the password in the clear: use smtps:// or smtp+starttls://")
    return Server(
        scheme=parts.scheme,
        host=host,
        port=port or DEFAULT_PORTS[parts.scheme],
        user=user,
        password=password,
    )


_WRONG_URL = "is not scheme://user:password@host:port (in user and password, write characters such as @ : / # as %40)"


def _credentials(parts: SplitResult) -> tuple[str | None, str]:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password):
        raise SettingError("SMTP_URL", "user and password belong together, one is missing")
    if not (user + password).isascii():
        raise SettingError("SMTP_URL", "user and password must be ASCII")
    return user or None, password


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- refused before anybody is asked


def _sort_out(
    letters: Iterable[Letter], refused_domains: frozenset[str]
) -> tuple[list[tuple[Letter, Mailbox]], list[tuple[Letter, Outcome]]]:
    """Part letters into those to deliver, with their mailbox, and those refused by their address alone."""
    good: list[tuple[Letter, Mailbox]] = []
    refused: list[tuple[Letter, Outcome]] = []
    for letter in letters:
        try:
            good.append((letter, _welcome(letter, refused_domains)))
        except DomainError as no:
            refused.append((letter, RefusedForGood(no.code, no.detail)))
    return good, refused


def _welcome(letter: Letter, refused_domains: frozenset[str]) -> Mailbox:
    box = mailbox(letter.recipient)
    if box.domain in refused_domains:
        raise DomainError(REFUSED, f"no mail goes to addresses at {box.domain} (MAIL_REFUSED_DOMAINS)")
    return box


# --- SMTP


class SmtpPostman:
    """Deliver by SMTP (RFC 5321), one connection for all letters of a call."""

    def __init__(
        self,
        server: Server,
        sender: Mailbox,
        refused_domains: frozenset[str],
        *,
        timeout: float = TIMEOUT_S,
        content_timeout: float = CONTENT_TIMEOUT_S,
    ) -> None:
        self._server, self._sender, self._refused = server, sender, refused_domains
        self._timeout, self._content_timeout = timeout, content_timeout
        self._tls = None if server.scheme == "smtp" else ssl.create_default_context()

    def deliver(self, letters: Iterable[Letter]) -> Generator[tuple[Letter, Outcome]]:
        """Keep the promise of `Postman.deliver`; connect only if a letter is left to send."""
        good, refused = _sort_out(letters, self._refused)
        yield from refused
        if good:
            with self._connection() as smtp:
                yield from self._transactions(smtp, good)

    def _transactions(self, smtp: SMTP, good: list[tuple[Letter, Mailbox]]) -> Iterator[tuple[Letter, Outcome]]:
        unfinished = False
        for letter, to in good:
            if unfinished:
                _expect_yes("RSET", smtp.rset())
            outcome = self._transaction(smtp, letter, to)
            unfinished = not isinstance(outcome, Sent)
            yield letter, outcome

    def _transaction(self, smtp: SMTP, letter: Letter, to: Mailbox) -> Outcome:
        if to.international and not smtp.has_extn("smtputf8"):
            return RefusedForGood(REFUSED, f"the mail server takes ASCII addresses only, not {to.address}")
        options = ("SMTPUTF8", "BODY=8BITMIME") if to.international else ()
        _expect_yes("MAIL FROM", smtp.mail(self._sender.address, options))
        reply = smtp.rcpt(to.address)
        return _outcome(self._hand_over(smtp, letter.content) if _is_yes(reply) else reply)

    def _hand_over(self, smtp: SMTP, content: bytes) -> Reply:
        _set_timeout(smtp, self._content_timeout)
        try:
            return smtp.data(content)
        except SMTPDataError as no:
            if 400 <= no.smtp_code < 600:
                return no.smtp_code, _as_bytes(no.smtp_error)
            raise
        finally:
            _set_timeout(smtp, self._timeout)

    @contextmanager
    def _connection(self) -> Iterator[SMTP]:
        smtp: SMTP | None = None
        try:
            smtp = self._connect()
            self._enter(smtp)
            yield smtp
            with suppress(OSError):  # all is settled: a farewell that fails takes nothing back
                smtp.quit()
        except OSError as error:  # every SMTPException, ssl.SSLError, socket.gaierror and TimeoutError is one
            raise Unavailable(f"mail server {self._server.host}:{self._server.port}: {_words(error)}") from error
        finally:
            if smtp is not None:
                smtp.close()

    def _connect(self) -> SMTP:
        # Our own name is given: smtplib would ask the resolver for it, without any time limit.
        server, name = self._server, self._sender.domain
        if server.scheme == "smtps":
            return SMTP_SSL(server.host, server.port, name, timeout=self._timeout, context=self._tls)
        return SMTP(server.host, server.port, name, timeout=self._timeout)

    def _enter(self, smtp: SMTP) -> None:
        if self._server.scheme == "smtp+starttls":
            smtp.starttls(context=self._tls)
        smtp.ehlo_or_helo_if_needed()
        if self._server.user is not None:
            try:
                smtp.login(self._server.user, self._server.password)
            except ValueError as error:  # a challenge that is not base64, a digest that this Python may not use
                raise Unavailable(f"mail server {self._server.host}: log-in failed: {error}") from error


def _outcome(reply: Reply) -> Outcome:
    """Judge the reply to RCPT or DATA; raise the session's trouble."""
    code, _ = reply
    if _is_yes(reply):
        return Sent()
    if code in ABOUT_THE_SESSION or not 400 <= code < 600:
        raise SMTPResponseException(*reply)
    return Delayed(_detail(reply)) if code < 500 else RefusedForGood(REFUSED, _detail(reply))


def _is_yes(reply: Reply) -> bool:
    return 200 <= reply[0] < 300


def _expect_yes(command: str, reply: Reply) -> None:
    if not _is_yes(reply):
        raise SMTPResponseException(reply[0], f"{command}: ".encode() + reply[1])


def _detail(reply: Reply) -> str:
    """Put a reply into one line that a database and an XML document can hold."""
    text = f"{reply[0]} {reply[1].decode(errors='replace')}"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:DETAIL_CHARACTERS]


def _words(error: OSError) -> str:
    if isinstance(error, SMTPResponseException):
        return _detail((error.smtp_code, _as_bytes(error.smtp_error)))
    return str(error) or type(error).__name__


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _set_timeout(smtp: SMTP, timeout: float) -> None:
    if smtp.sock is not None:
        smtp.sock.settimeout(timeout)


# --- Maildir


class MaildirPostman:
    """Keep each mail as one file that only its owner reads; a repeat is the same file."""

    def __init__(self, folder: Path, refused_domains: frozenset[str]) -> None:
        self._folder, self._refused = folder, refused_domains

    def deliver(self, letters: Iterable[Letter]) -> Generator[tuple[Letter, Outcome]]:
        """Keep the promise of `Postman.deliver`; what is yielded as sent is on the disk."""
        good, refused = _sort_out(letters, self._refused)
        yield from refused
        if good:
            self._keep([letter for letter, _ in good])
        for letter, _ in good:
            yield letter, Sent()

    def _keep(self, letters: list[Letter]) -> None:
        try:
            for name in ("tmp", "new", "cur"):
                (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            read = {path.name.partition(":")[0] for path in (self._folder / "cur").iterdir()}
            self._write({checked_mail_id(letter.id): letter.content for letter in letters if letter.id not in read})
        except OSError as error:
            raise Unavailable(f"mail folder {self._folder}: {error}") from error

    def _write(self, contents: Mapping[str, bytes]) -> None:
        """Write all beside, flush the disk once for all of them, then move each to where mail programs look."""
        written = {name: self._folder / "tmp" / f"{name}.{os.getpid()}" for name in contents}
        try:
            for name, path in written.items():
                with open(path, "wb", opener=_open_private) as file:
                    file.write(contents[name])
            _sync_disk_of(self._folder / "tmp")
            for name, path in written.items():
                path.replace(self._folder / "new" / name)
            _sync_disk_of(self._folder / "new")
        except OSError:
            for path in written.values():
                path.unlink(missing_ok=True)
            raise


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_disk_of(folder: Path) -> None:
    """Wait until the disk holds what was written to the file system of a folder: syncfs(2), else sync(2)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _sync_file_system(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")
    finally:
        os.close(descriptor)


def _sync_everything(_descriptor: int) -> int:
    os.sync()
    return 0


_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_system: Callable[[int], int] = getattr(_libc, "syncfs", _sync_everything)
