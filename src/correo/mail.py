"""Write the mail with the reveal link, byte-identical each time, and read the addresses it goes from and to."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, unquote
from functools import cache, lru_cache
from typing import NoReturn

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pulsaga import DomainError, SettingError

REFUSED = "mailbox-refused"
LINE_OCTETS = 998
"""Longest line without its CRLF (RFC 5322 §2.1.1)."""
_MAIL_ID = re.compile(r"[0-9A-Za-z-]{1,60}")
_TOKEN = re.compile(r"[0-9A-Za-z._~-]+")
_ATOM = r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_LOCAL = re.compile(rf"(?!.*=\?){_ATOM}(\.{_ATOM})*")
_DOMAIN = re.compile(r"(?!-)[0-9a-z-]{1,63}(?<!-)(\.(?!-)[0-9a-z-]{1,63}(?<!-))*")
_SENDER = re.compile(r"(?P<name>[^<>]*)<(?P<boxed>[^<>\s]+)>|(?P<bare>[^<>\s]+)")
GREETED_CHARACTERS = 64
_GREETED = frozenset(["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc"])
"""Unicode categories of letters, and of the marks that some scripts write with them."""
_GREETED_DIGITS = 4
"""Fewer than any number that a mail program would offer to call."""
_OTHER_IN_IDNA_2008 = frozenset("ßẞς\u200c\u200d")
"""Characters that the standard library's IDNA 2003 maps to another domain than IDNA 2008 does (RFC 5894 §7.2)."""


@dataclass(frozen=True)
class Kind:
    """A kind of mail: its text lies in `templates/<text>.txt` and `.html`."""

    subject: str
    text: str
    page: str = ""
    """Of the front door: where its link leads; empty where it has none."""
    key: str = ""
    """Under which the token of its link is sealed."""
    to_holder: bool = False
    """Whether it goes to the address that its user has by then, rather than to the one that was said."""


KINDS = {
    "password": Kind("Your password is ready", "password", "reveal", "LINK_KEY", to_holder=True),
    "reset": Kind("Choose another password", "reset", "reset", "RESET_KEY"),
    "confirm-email": Kind("Confirm your new address", "confirm_email", "confirm-email", "TOKEN_KEY"),
    "email-changed": Kind("Your address was changed", "email_changed"),
}


@dataclass(frozen=True)
class Mailbox:
    """Hold one address that is safe in a header and in an SMTP command; the domain is in lower case and in ASCII."""

    local: str
    domain: str

    @property
    def address(self) -> str:
        """The address as the envelope says it."""
        return f"{self.local}@{self.domain}"

    @property
    def international(self) -> bool:
        """Whether only a server with SMTPUTF8 can take it (RFC 6531)."""
        return not self.local.isascii()


def mailbox(address: str) -> Mailbox:
    """Read a bare address; raise DomainError `mailbox-refused` for one that no mail can go to.

    Dot-atoms only (RFC 5321 §4.1.2): quoted local parts and address literals are refused, and `=?`, because mail
    programs decode it to another address (RFC 2047). Non-ASCII local parts stand as they are, non-ASCII domains
    become A-labels.
    """
    local, at, domain = address.rpartition("@")
    if not at or not local.isprintable() or not _LOCAL.fullmatch(local) or len(local.encode()) > 64:
        _refuse(address, "is not a mail address")
    return Mailbox(local, _ascii_domain(domain) or _refuse(address, "has no domain that mail can go to"))


def sender_mailbox(mail_from: str) -> tuple[str, Mailbox]:
    """Read `Name <address>` or `address` into name and mailbox; raise SettingError naming MAIL_FROM."""
    found = _SENDER.fullmatch(mail_from) if mail_from.isprintable() else None
    if found is None:
        raise SettingError("MAIL_FROM", f"{mail_from!r} is not one address (Name <address>)")
    try:
        box = mailbox(found["boxed"] or found["bare"])
    except DomainError as refused:
        raise SettingError("MAIL_FROM", refused.detail) from None
    if box.international:
        raise SettingError("MAIL_FROM", f"{box.address!r} has letters before the @ that not every server can take")
    return unquote((found["name"] or "").strip()), box


@lru_cache(1024)
def domain_key(domain: str) -> str:
    """Return the form in which two spellings of one domain are equal; of what is no domain, itself."""
    return _ascii_domain(domain) or domain.lower()


def checked_mail_id(mail_id: str) -> str:
    """Return a mail's id that may stand in a header, a boundary and a file name; raise ValueError for any other."""
    if not _MAIL_ID.fullmatch(mail_id):
        raise ValueError(f"{mail_id!r} is not a mail id (letters, digits and -, at most 60)")
    return mail_id


def compose(
    mail_id: str,
    username: str,
    recipient: str,
    token: str,
    created_at: float,
    *,
    public_url: str,
    sender: str,
    kind: Kind = KINDS["password"],
) -> bytes:
    """Write a mail (RFC 5322, CRLF), by default the one that reveals a password; equal arguments give equal bytes.

    Its link has the token; a kind without a page has no link. `created_at` is in seconds since the epoch. Raise
    DomainError `mailbox-refused` for the recipient's address, SettingError for the sender's, ValueError for anything
    else that must not stand in a mail.

    Strangers choose the username: it is greeted only where it can be taken for nothing but a name (`greeted`).
    """
    checked_mail_id(mail_id)
    if not _TOKEN.fullmatch(token) and kind.page:
        raise ValueError("the token holds characters that cannot stand in a URL's fragment")
    name = greeted(username)
    to, date = mailbox(recipient), format_datetime(datetime.fromtimestamp(int(created_at), UTC))
    pattern = _pattern(kind, public_url, sender, is_named=bool(name))
    if pattern is None or not (_PLAIN.fullmatch(name or "-") and _PLAIN.fullmatch(to.local)):
        return _written(kind, mail_id, name, to, token, date, public_url, sender)
    values = (mail_id, name, to.address, token, date)
    return _filled(pattern, {blank: value.encode() for blank, value in zip(BLANKS, values, strict=True)})


def greeted(username: str) -> str:
    """Return a username as the mail may say it; nothing when a mail program could make a link or a call of it.

    Letters, a few digits, spaces and `_-'` in one short line: no dot, colon, slash or @, in whatever script, nor marks
    that turn the direction of writing.
    """
    digits = sum(map(str.isdigit, username))
    plain = all(c.isdigit() or c in " _-'" or unicodedata.category(c) in _GREETED for c in username)
    return username if plain and digits <= _GREETED_DIGITS and len(username) <= GREETED_CHARACTERS else ""


BLANKS = (b"MAIL-ID-BLANK", b"NAME-BLANK", b"recipient-blank@blank.invalid", b"TOKEN-BLANK", b"DATE-BLANK")
"""What stands in the pattern for mail id, name, recipient, token and date."""
_PLAIN = re.compile(r"[0-9A-Za-z._-]{1,64}")
"""What needs no quoting anywhere in a mail, neither in a header nor in HTML."""


@cache
def _pattern(kind: Kind, public_url: str, sender: str, *, is_named: bool) -> tuple[bytes, ...] | None:
    """Write the mail once, with blanks, and cut it there: filling them in is 50 times faster than writing it anew.

    None where a line is so long that the text must be quoted, which may cut a blank in two.
    """
    mail_id, name, recipient, token, date = (blank.decode() for blank in BLANKS)
    now = format_datetime(datetime.fromtimestamp(0, UTC))
    written = _written(kind, mail_id, name if is_named else "", mailbox(recipient), token, now, public_url, sender)
    if b"quoted-printable" in written:
        return None
    cuts = b"|".join(map(re.escape, BLANKS))
    return tuple(re.split(b"(" + cuts + b")", written.replace(now.encode(), date.encode(), 1)))


def _filled(pattern: tuple[bytes, ...], values: dict[bytes, bytes]) -> bytes:
    return b"".join(values.get(piece, piece) for piece in pattern)


def _written(
    kind: Kind, mail_id: str, name: str, to: Mailbox, token: str, date: str, public_url: str, sender: str
) -> bytes:
    words = {"subject": kind.subject, "name": name, "link": f"{public_url}/{kind.page}#{token}"}
    message = _headed(kind, mail_id, to, date, sender)
    _add_text(message, "plain", _templates().get_template(f"{kind.text}.txt").render(words))
    message.make_alternative(boundary=f"=_{mail_id}")
    _add_text(message, "html", _templates().get_template(f"{kind.text}.html").render(words))
    return message.as_bytes()


def _headed(kind: Kind, mail_id: str, to: Mailbox, date: str, sender: str) -> EmailMessage:
    name, box = sender_mailbox(sender)
    message = EmailMessage(policy=SMTPUTF8 if to.international else SMTP)
    message["From"] = Address(name, box.local, box.domain)
    message["To"] = Address(username=to.local, domain=to.domain)
    message["Subject"] = kind.subject
    message["Date"] = date
    message["Message-ID"] = f"<{mail_id}@{box.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    return message


def _add_text(message: EmailMessage, subtype: str, text: str) -> None:
    # Plain 7 bit where it can be: people grep a Maildir for the link. Never 8 bit: not every server relays it.
    plain = text.isascii() and max(map(len, text.split("\n"))) <= LINE_OCTETS
    add = message.add_alternative if message.is_multipart() else message.set_content
    add(text, subtype=subtype, charset="utf-8", cte="7bit" if plain else "quoted-printable")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("correo"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def _ascii_domain(domain: str) -> str | None:
    if not _OTHER_IN_IDNA_2008.isdisjoint(domain):
        return None
    try:
        ascii_form = domain.encode("idna").decode().lower()
    except Exception:  # the codec may make anything of what strangers write
        return None
    return ascii_form if len(ascii_form) <= 253 and _DOMAIN.fullmatch(ascii_form) else None


def _refuse(address: str, problem: str) -> NoReturn:
    raise DomainError(REFUSED, f"{address[:100]!r} {problem}")
