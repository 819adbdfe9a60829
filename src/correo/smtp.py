"""Hand letters to a mail server, or keep them in a Maildir, and say of each what came of it.

What happens while one letter is in hand is an outcome of that letter, whatever it is. What happens before any (connect,
TLS, log-in) is the server's or our configuration's, and `Unavailable`. Only a clear no to a recipient or to the content
is a refusal: nobody is refused a password because a log-in has expired.
"""

from __future__ import annotations

import ctypes
import io
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from smtplib import SMTP, SMTP_SSL, SMTPDataError, SMTPResponseException
from typing import Any, Protocol, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from correo.mail import REFUSED, Mailbox, checked_mail_id, domain_key, mailbox, sender_mailbox
from correo.settings import CorreoSettings
from pulsaga import DETAIL_CHARACTERS, DomainError, SettingError, Settings, Unavailable, printable

TIMEOUT_S = 10.0
CONTENT_TIMEOUT_S = 30.0
"""Seconds for a server to take the mail itself, and to judge it (RFC 5321 §4.5.3.2.6 grants minutes): giving up here
means that the mail may arrive twice, so it is longer than `TIMEOUT_S`. With several senders it may do so, too, when a
dialogue outlasts its claim."""
DEFAULT_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
FAREWELL_TIMEOUT_S = 1.0
"""Seconds for the answer to QUIT: all is settled then, and what was sent waits to be reported."""
REPLY_OCTETS = 65536
"""Longest reply, all its lines together, that is read to its end."""
ABOUT_THE_SESSION = frozenset({421, 503, 530, 534, 535, 538})
"""Replies that never refuse a mailbox: closing, out of sequence, log in first, encrypt first (RFC 5321, RFC 4954)."""


@dataclass(frozen=True)
class Letter:
    """Hold one mail that is ready to go: `content` is RFC 5322 with CRLF."""

    id: str
    recipient: str
    content: bytes = field(repr=False)
    traceparent: str | None = None


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
    """Say that the dialogue came to nothing while this mail was in hand: its own fault, perhaps, or nobody's."""

    detail: str
    lost_s: float = 0.0
    """Seconds that it held up the letters behind it."""


Outcome: TypeAlias = Sent | RefusedForGood | Delayed | CutOff
Reply: TypeAlias = tuple[int, bytes]


class Postman(Protocol):
    """Deliver letters; the outcomes yielded so far stand, whatever happens next."""

    def deliver(self, letters: Iterable[Letter]) -> Generator[tuple[Letter, Outcome]]:
        """Yield each letter's outcome, refused addresses first, in the end perhaps not of all of them.

        Every letter that was tried has an outcome; behind a `CutOff` none may be tried. Raise Unavailable for what
        blames no letter. Whoever stops early closes the connection.
        """
        ...


def open_postman(settings: Settings) -> Postman:
    """Choose SMTP where SMTP_URL is given, else the Maildir in the home folder; raise SettingError, connect nowhere."""
    own = settings.of(CorreoSettings)
    refused = frozenset(map(domain_key, own.mail_refused_domains))
    _, sender = sender_mailbox(own.mail_from)
    if own.smtp_url:
        return SmtpPostman(read_server(own.smtp_url), sender, refused)
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
        """Yield outcomes for as long as the next letter has a clean start: else it might go to the one before."""
        for letter, to in good:
            outcome = self._transaction(smtp, letter, to)
            yield letter, outcome
            if isinstance(outcome, CutOff):
                smtp.close()
                return
            if not isinstance(outcome, Sent) and not _is_reset(smtp):
                return

    def _transaction(self, smtp: SMTP, letter: Letter, to: Mailbox) -> Outcome:
        """Hand over one letter; whatever the server makes of it, and smtplib of the server, is an outcome of it."""
        began = time.monotonic()
        try:
            return self._dialogue(smtp, letter, to)
        except Exception as error:  # a stranger's server speaks
            return CutOff(_words(error), time.monotonic() - began)

    def _dialogue(self, smtp: SMTP, letter: Letter, to: Mailbox) -> Outcome:
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
        smtp = self._enter()
        try:
            yield smtp
            with suppress(Exception):  # all is settled: a farewell that fails takes nothing back
                _set_timeout(smtp, FAREWELL_TIMEOUT_S)
                smtp.quit()
        finally:
            smtp.close()

    def _enter(self) -> SMTP:
        """Connect and log in; raise Unavailable for whatever the server says or smtplib makes of it."""
        smtp: SMTP | None = None
        try:
            smtp = self._connect()
            if self._server.scheme == "smtp+starttls":
                smtp.starttls(context=self._tls)
            smtp.ehlo_or_helo_if_needed()
            if self._server.user is not None:
                smtp.login(self._server.user, self._server.password)
        except Exception as error:  # a stranger's server speaks
            if smtp is not None:
                smtp.close()
            raise Unavailable(f"mail server {self._server.host}:{self._server.port}: {_words(error)}") from error
        return smtp

    def _connect(self) -> SMTP:
        # Our own name is given: smtplib would ask the resolver for it, without any time limit.
        server, name = self._server, self._sender.domain
        if server.scheme == "smtps":
            return _BoundedSsl(server.host, server.port, name, timeout=self._timeout, context=self._tls)
        return _Bounded(server.host, server.port, name, timeout=self._timeout)


class _Bounded(SMTP):
    """Bound each reply as a whole: smtplib bounds a line and the wait for its next byte, not how many there are."""

    def getreply(self) -> Reply:
        """Read one reply within the time limit, or close the connection and raise SMTPServerDisconnected."""
        if self.sock is not None:
            self.file = io.BufferedReader(_Reply(self.sock, self.timeout))
        try:
            return super().getreply()
        finally:
            _set_timeout(self, self.timeout)


class _BoundedSsl(_Bounded, SMTP_SSL):
    """The same over TLS from the first byte."""


class _Reply(io.RawIOBase):
    """Read one reply from a socket, for so many seconds and octets at most."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock, self._ends_at, self._room = sock, time.monotonic() + timeout, REPLY_OCTETS

    def readable(self) -> bool:
        """Tell that this can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what has come; raise OSError when the reply takes too long, or is."""
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0 or self._room <= 0:
            raise TimeoutError("timed out" if left_s <= 0 else "the reply does not end")
        self._sock.settimeout(left_s)
        count = self._sock.recv_into(buffer)
        self._room -= count
        return count


def _is_reset(smtp: SMTP) -> bool:
    try:
        return _is_yes(smtp.rset())
    except Exception:  # a stranger's server speaks; no letter is in hand
        return False


def _outcome(reply: Reply) -> Outcome:
    """Judge the reply to RCPT or DATA; raise what is no answer about a mailbox."""
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
    return _one_line(f"{reply[0]} {reply[1].decode(errors='replace')}")


def _words(error: Exception) -> str:
    if isinstance(error, SMTPResponseException):
        return _detail((error.smtp_code, _as_bytes(error.smtp_error)))
    return _one_line(str(error) or type(error).__name__)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()), DETAIL_CHARACTERS)


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _set_timeout(smtp: SMTP, timeout: float) -> None:
    smtp.timeout = timeout
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
            yield from self._keep([letter for letter, _ in good])

    def _keep(self, letters: list[Letter]) -> Iterator[tuple[Letter, Outcome]]:
        """Write all at once; where that fails, each alone, up to the one that cannot be written."""
        read = self._open()
        together = self._written(letters, read)
        for letter in letters:
            outcome = together if isinstance(together, Sent) else self._written([letter], read)
            yield letter, outcome
            if isinstance(outcome, CutOff):
                return

    def _open(self) -> set[str]:
        """Make the folder where it is missing; return the ids of the mails that were read."""
        try:
            for name in ("tmp", "new", "cur"):
                (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            return {path.name.partition(":")[0] for path in (self._folder / "cur").iterdir()}
        except OSError as error:
            raise Unavailable(f"mail folder {self._folder}: {error}") from error

    def _written(self, letters: list[Letter], read: set[str]) -> Sent | CutOff:
        try:
            self._write({checked_mail_id(letter.id): letter.content for letter in letters if letter.id not in read})
        except Exception as error:
            return CutOff(_words(error))
        return Sent()

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
