"""The mail: what stands in it, that it never changes, and that nothing can be smuggled into it."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from email import message_from_bytes, message_from_string
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from pathlib import Path
from smtplib import quoteaddr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from correo.mail import LINE_OCTETS, Mailbox, compose, domain_key, mailbox, sender_mailbox
from pulsaga.errors import DomainError, SettingError

MAIL_ID = "01920000-0000-7000-8000-00000000000a"
TOKEN = "Jb2-_x" * 7 + "A"
LINK = f"http://127.0.0.1:3000/reveal#{TOKEN}"
CREATED_AT = 1_760_000_000.75
SRC = Path(__file__).resolve().parents[2] / "src"


def written(
    mail_id: str = MAIL_ID,
    username: str = "ada",
    recipient: str = "ada@example.test",
    token: str = TOKEN,
    created_at: float = CREATED_AT,
    sender: str = "Protools <no-reply@example.test>",
    public_url: str = "http://127.0.0.1:3000",
) -> bytes:
    """Compose a mail of which the test says only what matters."""
    return compose(mail_id, username, recipient, token, created_at, public_url=public_url, sender=sender)


def read(content: bytes) -> EmailMessage:
    """Parse a mail as a mail program does."""
    message = message_from_string(content.decode(), policy=SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return message


def parts(content: bytes) -> tuple[str, str]:
    """Return the text and the HTML of a mail."""
    plain, rich = read(content).iter_parts()
    assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    text, html = (part.get_content().replace("\r\n", "\n") for part in (plain, rich))
    return text, html


def test_text_and_html_carry_the_link_and_the_headers_say_who_and_when() -> None:
    """The reader gets one link, whatever the mail program shows, and no vacation notice answers."""
    message = read(written())
    assert message.get_content_type() == "multipart/alternative"
    assert dict(message.items()) == {
        "From": "Protools <no-reply@example.test>",
        "To": "ada@example.test",
        "Subject": "Your password is ready",
        "Date": "Thu, 09 Oct 2025 08:53:20 +0000",
        "Message-ID": f"<{MAIL_ID}@example.test>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="=_{MAIL_ID}"',
    }
    plain, rich = parts(written())
    assert f"\n{LINK}\n" in plain
    assert "Hello ada," in plain
    assert f'href="{LINK}"' in rich


def test_the_link_of_a_plain_mail_can_be_searched_for_in_the_file() -> None:
    """People grep the Maildir of a first run: no transfer encoding breaks the link's line."""
    assert f"\r\n{LINK}\r\n".encode() in written()


def test_the_same_arguments_give_the_same_bytes_in_any_process_and_surroundings() -> None:
    """A mail sent twice is the same mail: a resend must not depend on time zone, locale or hash seed."""
    program = (
        "import sys; from correo.mail import compose; sys.stdout.buffer.write("
        f"compose({MAIL_ID!r}, 'Zoë', 'zoe@bücher.test', {TOKEN!r}, {CREATED_AT!r},"
        " public_url='http://127.0.0.1:3000', sender='Protools <no-reply@example.test>'))"
    )
    other = {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "7", "PYTHONUTF8": "1"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | other | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        check=True,
    )
    assert elsewhere.stdout == written(username="Zoë", recipient="zoe@bücher.test")


def test_different_mails_differ_in_message_id_and_boundary() -> None:
    """One distinct mail per command: mail programs fold twins by Message-ID."""
    other = read(written(mail_id="another-1"))
    assert other["Message-ID"] == "<another-1@example.test>"
    assert other.get_boundary() == "=_another-1"


NAMES = ["ada", "Zoë", "用户", "Ada Lovelace", "O'Brien", "jean-luc_2", "राम", "a" * 64]


@pytest.mark.parametrize("username", NAMES)
def test_a_name_is_greeted_as_it_is(username: str) -> None:
    """What can be nothing but a name reaches the reader unchanged, over any transactions: 7 bit, no line too long."""
    content = written(username=username)
    plain, rich = parts(content)
    assert plain.startswith(f"Hello {username},\n")
    assert f"<p>Hello <strong>{username}</strong>,</p>" in html.unescape(rich)
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= LINE_OCTETS


BAIT = [
    "https://evil.example/login",
    "evil.example",
    "www.evil.example",
    "john.doe",
    "evil。example",
    "evil．example",
    "evil｡example",
    "evil․example",
    "mailto:eve",
    "eve@evil.example",
    "tel:0900",
    "0900123456",
    "call 0900 12 34 56",
    "٠٩٠٠١٢٣٤٥٦",
    "//evil",
    "\\\\evil",
    '<a href="http://evil.test">x</a> & co',
    "[x](evil)",
    "elpmaxe\u202e.live",
    "a\u2066b",
    "o\u200dz",
    "\ufeffada",
    "a\r\nBcc: eve@evil.test",
    "a\nb",
    "a\x00",
    "a\x1b[2J",
    "a\x85b",
    "a\u2028b",
    "\ud800",
    "\U000e0041",
    "a\u00a0b",
    "--=_" + MAIL_ID,
    "=3D",
    "{{ link }}",
    "a" * 65,
    "a" * 3000,
    "",
]


@pytest.mark.parametrize("username", BAIT)
def test_what_could_be_more_than_a_name_is_not_in_the_mail(username: str) -> None:
    """A stranger chooses it and we send it: a link, a call or a text of theirs would go out in our name."""
    content = written(username=username)
    assert content == written(username="evil.test")
    plain, rich = parts(content)
    assert plain.startswith("Hello,\n")
    assert "<p>Hello,</p>" in rich
    assert {found for part in (plain, rich) for found in re.findall(r"\w+://[^\s\"<]+", part)} == {LINK}


@settings(deadline=None)
@given(st.text(min_size=1, max_size=80))
def test_no_username_writes_a_line_or_a_link_of_its_own(username: str) -> None:
    """Whatever it is, the mail has the lines of any other, and one link."""
    plain, rich = parts(written(username=username))
    assert plain.split("\n")[1:] == parts(written())[0].split("\n")[1:]
    assert not set(plain.split("\n")[0].removeprefix("Hello").removesuffix(",")) & set(".:/@\\<>")
    assert rich.count("://") == parts(written())[1].count("://")


REFUSED_ADDRESSES = [
    "ada@example.test\r\nBcc: eve@evil.test",
    "ada\r\n@example.test",
    "ada@example.test\n",
    "ada@example.test, eve@evil.test",
    "ada@example.test eve@evil.test",
    "ada@example.test> SIZE=1",
    "<ada@example.test>",
    "Ada <ada@example.test>",
    "ada\x00@example.test",
    "ada\u2028x@example.test",
    "ada\u00a0x@example.test",
    "ada\ud800@example.test",
    '"ada b"@example.test',
    "a@b@example.test",
    ".ada@example.test",
    "ada..b@example.test",
    "a" * 65 + "@example.test",
    "é" * 33 + "@example.test",
    "ada",
    "ada@",
    "@example.test",
    "",
    "ada@-example.test",
    "ada@exam_ple.test",
    "ada@example..test",
    "ada@example.test.",
    "=?utf-8?q?eve=40evil.test=3e?=@example.test",
    "ada@[127.0.0.1]",
    "ada@" + "b" * 64 + ".test",
    "ada@" + ".".join(["b" * 60] * 5),
    "ada@faß.test",
    "ada@℀.test",
    "ada@evil.test\uff0fx",
]


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_an_address_that_no_mail_can_go_to_is_a_business_no(address: str) -> None:
    """The saga compensates instead of retrying a mail for ever, and nothing is smuggled into headers."""
    with pytest.raises(DomainError) as refusal:
        written(recipient=address)
    assert refusal.value.code == "mailbox-refused"
    assert refusal.value.detail.isprintable()


def joined(*pieces: str) -> st.SearchStrategy[str]:
    """Make words of which many are nearly right."""
    return st.lists(st.sampled_from(pieces), max_size=5).map("".join)


@settings(deadline=None)  # the first run compiles the templates
@given(joined(*"aZ09.=?_-+'`{!é用", "=?utf-8?q?", "x" * 30, *",@\r "), joined(*"aB1-.ü", "。", "x" * 30, *"ß@\n "))
@example("{}|~`'!#$%&*+-/=?^_", "example.test")
def test_an_accepted_address_is_one_word_of_a_command_and_one_header(local: str, domain: str) -> None:
    """Whatever is let through must read back as exactly the address that was meant."""
    try:
        box = mailbox(f"{local}@{domain}")
    except DomainError:
        return
    assert box.local == local
    assert box.domain.isascii()
    assert quoteaddr(box.address) == f"<{box.address}>"
    message = read(written(recipient=f"{local}@{domain}"))
    assert [(a.username, a.domain) for a in message["To"].addresses] == [(box.local, box.domain)]
    assert message.keys() == read(written()).keys()


def test_a_foreign_domain_is_written_in_ascii_and_needs_no_special_server() -> None:
    """Only letters before the @ need SMTPUTF8; a domain has an ASCII form that every server takes."""
    assert mailbox("ada@BÜCHER.test") == Mailbox("ada", "xn--bcher-kva.test")
    content = written(recipient="ada@Bücher.test")
    assert content.isascii()
    assert message_from_bytes(content, policy=SMTP)["To"] == "ada@xn--bcher-kva.test"


def test_foreign_letters_before_the_at_stand_in_the_header_as_they_are() -> None:
    """RFC 6532: an encoded word must not stand inside an address."""
    content = written(recipient="zoë@bücher.test")
    assert mailbox("zoë@bücher.test").international
    assert "To: zoë@xn--bcher-kva.test\r\n".encode() in content


@pytest.mark.parametrize("mail_id", ["", "a b", "a\r\nX: y", "../etc", "a" * 61, 'a"', "ä"])
def test_a_mail_id_that_is_none_is_refused(mail_id: str) -> None:
    """The id stands in a header, in the boundary and in a file's name."""
    with pytest.raises(ValueError, match="mail id"):
        written(mail_id=mail_id)


@pytest.mark.parametrize("token", ["", "a b", "a\r\n", 'a"><x', "a#b"])
def test_a_token_that_is_none_is_refused_without_being_shown(token: str) -> None:
    """The token stands in a link; being a secret, it stands in no error."""
    with pytest.raises(ValueError, match="token holds characters") as refusal:
        written(token=token)
    assert "><x" not in str(refusal.value)


@pytest.mark.parametrize(
    "sender",
    ["", "no address", "a@x.test, b@x.test", "A\r\nBcc: eve@evil.test <a@x.test>", "zoë@x.test", "a@", "a@b c"],
)
def test_a_wrong_sender_names_its_variable(sender: str) -> None:
    """A wrong MAIL_FROM is our mistake: no saga is compensated for it."""
    with pytest.raises(SettingError) as refusal:
        written(sender=sender)
    assert refusal.value.variable == "MAIL_FROM"


def test_the_senders_name_may_be_of_any_language() -> None:
    """The name is for people; the bytes stay ASCII, each line short enough."""
    name = "Paßwörter für alle, Söhne & Töchter"
    content = written(sender=f'"{name}" <no-reply@bücher.test>')
    assert content.isascii()
    assert read(content)["From"].addresses[0].display_name == name
    assert read(content)["Message-ID"] == f"<{MAIL_ID}@xn--bcher-kva.test>"
    assert sender_mailbox("no-reply@x.test") == ("", Mailbox("no-reply", "x.test"))


def test_a_long_address_and_a_long_public_url_are_not_broken() -> None:
    """Folding must never cut an address, a Message-ID or the link."""
    domain = ".".join(["b" * 60] * 4)
    content = written(recipient=f"{'a' * 64}@{domain}", sender=f"x@{domain}", public_url="https://x.test/" + "p" * 1200)
    message = read(content)
    assert message["To"] == f"{'a' * 64}@{domain}"
    assert message["Message-ID"] == f"<{MAIL_ID}@{domain}>"
    assert f"{'p' * 1200}/reveal#{TOKEN}\n" in parts(content)[0]
    assert max(map(len, content.split(b"\r\n"))) <= LINE_OCTETS


def test_every_line_ends_with_crlf() -> None:
    """A bare line feed is refused by careful servers and splits a mail at careless ones (SMTP smuggling)."""
    for content in (written(), written(username="Zoë"), written(recipient="zoë@x.test")):
        assert b"\n" not in content.replace(b"\r\n", b"")
        assert b"\r" not in content.replace(b"\r\n", b"")


def test_two_spellings_of_a_domain_are_one() -> None:
    """A refused domain is refused however it is written."""
    assert domain_key("Bücher.TEST") == domain_key("xn--bcher-kva.test") == "xn--bcher-kva.test"
    assert domain_key("not a domain") == "not a domain"
