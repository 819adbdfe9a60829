"""Handle correo's commands: keep the mail as a row, then send it outside any transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Engine, select

from correo.mail import KINDS, compose, domain_key
from correo.messages import MailSent, PasswordMailSent, SendMail, SendPasswordMail
from correo.settings import CorreoSettings
from correo.smtp import CutOff, Delayed, Letter, Outcome, RefusedForGood, Sent, open_postman
from correo.suspects import Suspects
from correo.tables import MailRow, address, mail
from pulsaga import (
    CommandRefused,
    Context,
    DomainError,
    Due,
    Duty,
    Level,
    Message,
    Received,
    Row,
    Runtime,
    Unavailable,
    UnitOfWork,
    about,
    claim,
    contract_of,
    faults,
    open_database,
    pack_context,
    printable,
    record_call,
    refused_by,
    report_apart,
    report_held,
    unpack_context,
    unseal_text,
    verdict,
)
from usuarios.messages import ResetIssued

log = structlog.get_logger()
TOKEN_KEY = "TOKEN_KEY"
ASKING = (SendPasswordMail, SendMail, ResetIssued)
"""What brings a mail."""
PAGE = 100
ROUNDS_OF_A_CLAIM = 3
"""A round of sending stops to report after a third of its claim: all but the slowest dialogue ends within it."""
DELAY_S = 30.0
"""Seconds after which a mail that its server put off is tried again; grows with the mail's age."""
LONGEST_DELAY_S = 900.0
"""Longest time that any mail waits for its next try."""
MOST_DOUBLINGS = 10
"""A mail that was cut off waits 1 s, 2 s, 4 s, …: so often doubled, it is more than `LONGEST_DELAY_S`."""


def send_password_mail(message: Message[SendPasswordMail], uow: UnitOfWork) -> None:
    """Keep one mail per command; the sender answers the command when the mail has ended."""
    body = message.body
    _keep("password", body.username, body.email, body.sealed_token, message, uow)


def send_mail(message: Message[SendMail], uow: UnitOfWork) -> None:
    """Keep one mail per command, as above; refuse with `unknown-kind`."""
    body = message.body
    if body.kind not in KINDS:
        raise DomainError("unknown-kind", f"there is no mail of the kind {printable(body.kind)}")
    _keep(body.kind, body.username, body.email, body.sealed_token, message, uow)


def send_reset(message: Message[ResetIssued], uow: UnitOfWork) -> None:
    """Keep one mail for each link by which a password may be chosen; nobody waits for an answer."""
    body = message.body
    _keep("reset", body.username, body.email, body.sealed_token, message, uow)


def _keep(kind: str, username: str, email: str, sealed_token: str, message: Message[Any], uow: UnitOfWork) -> None:
    row: MailRow = {
        "id": message.id,
        "kind": kind,
        "username": username,
        "recipient": email,
        "sealed_token": sealed_token,
        "context": pack_context(message.follow()),
        "status": "waiting",
        "attempts": 0,
        "claim": None,
        "due_at": uow.now,
        "created_at": uow.now,
        "ended_at": None,
        "error": "",
    }
    uow.put(mail, row)


# --- the sender


class Sender:
    """Send due mails: claim them, talk SMTP outside any transaction, report what came of it."""

    def __init__(self, runtime: Runtime) -> None:
        self._transactions, self._runtime = runtime.transactions, runtime
        self._settings = runtime.settings.of(CorreoSettings)
        self._postman = open_postman(runtime.settings)
        self._read = open_database(runtime.settings, runtime.service, "read", "reader")
        self._suspects = Suspects()
        self._is_page_of_resting = False
        """Whether the last page that was claimed was full, and all of it rests: others may be due behind it."""

    def send_due(self) -> None:
        """Send until nothing is due; raise Unavailable when the mail server is, with what was sent reported."""
        self._is_page_of_resting = True
        while self._is_page_of_resting:
            rows = self._transactions.run(self._claim)
            while rows:
                rows = self._round(rows)

    def _round(self, rows: list[MailRow]) -> list[MailRow]:
        """Send what is under the least suspicion, and report it; return what is claimed and to be sent next."""
        least = min(map(self._suspicion_of, rows))
        first = [row for row in rows if self._suspicion_of(row) == least]
        rest = [row for row in rows if self._suspicion_of(row) != least]
        outcomes = self._send(first, rows)
        if len(outcomes) < len(first):  # what was not tried is due again, and can be claimed once that is reported
            return self._report_then_claim(rows, outcomes)
        if rest:  # a suspect must not hold up the report of what was sent
            self._report_apart(first, outcomes)
            return rest
        try:
            left, claimed = self._transactions.run(partial(self._go_on, rows, outcomes))
        except Exception as error:
            if verdict(error) != "item":
                raise
            left, claimed = rows, []
        return self._report_then_claim(left, outcomes) if left else claimed

    def _report_then_claim(self, rows: Sequence[MailRow], outcomes: dict[str, Outcome]) -> list[MailRow]:
        self._report_apart(rows, outcomes)
        return self._transactions.run(self._claim)

    def _report_apart(self, rows: Sequence[MailRow], outcomes: dict[str, Outcome]) -> None:
        report_apart(self._transactions, mail, rows, partial(self._report, outcomes), LONGEST_DELAY_S)

    def _send(self, first: Sequence[MailRow], claimed: Sequence[MailRow]) -> dict[str, Outcome]:
        """Send the first of what is claimed; return what came of it, or report it and raise what ended the round."""
        outcomes: dict[str, Outcome] = {}
        letters = self._letters(first, outcomes)
        faults.reach("claimed", _about(first))
        try:
            self._deliver(letters, outcomes)
            faults.reach("sent", _about(first))
        except BaseException:
            self._report_apart(claimed, outcomes)
            raise
        return outcomes

    def _go_on(
        self, rows: Sequence[MailRow], outcomes: dict[str, Outcome], uow: UnitOfWork
    ) -> tuple[list[MailRow], list[MailRow]]:
        """Report and claim what is due next in one transaction, or return what is left to report: it is locked."""
        locked = report_held(uow, mail, rows, partial(self._report, outcomes))
        return locked, [] if locked else self._claim(uow, reported={row["id"] for row in rows})

    def _deliver(self, letters: list[Letter], outcomes: dict[str, Outcome]) -> None:
        """Collect outcomes until all are there, the round is over or a letter was cut off; the rest was not tried.

        Raise Unavailable when several letters in a row were cut off and none got through: it is the server then.
        """
        ends_at, began = time.monotonic() + self._settings.mail_claim / ROUNDS_OF_A_CLAIM, time.time_ns()
        with closing(self._postman.deliver(letters)) as delivered:
            for letter, outcome in delivered:
                outcomes[letter.id] = outcome
                record_call("send mail", letter.traceparent, began, "" if isinstance(outcome, Sent) else outcome.detail)
                began = time.time_ns()
                if self._suspects.condemn_server(letter, outcome):
                    raise Unavailable(f"mail after mail is cut off: {outcome}")
                if isinstance(outcome, CutOff) or time.monotonic() > ends_at:
                    return

    def _letters(self, rows: Sequence[MailRow], outcomes: dict[str, Outcome]) -> list[Letter]:
        """Compose what can be composed; what cannot is an outcome of that mail alone."""
        letters = []
        for row in rows:
            try:
                letters.append(self._letter(row, unpack_context(row["context"])))  # else it could not be answered
            except DomainError as no:
                outcomes[row["id"]] = RefusedForGood(no.code, no.detail)
            except Exception as error:  # one mail that cannot be composed must not stop the others
                log.exception("mail not composed", command=row["id"])
                outcomes[row["id"]] = Delayed(f"not composed: {type(error).__name__}")
        return letters

    def _claim(self, uow: UnitOfWork, reported: Collection[str] = ()) -> list[MailRow]:
        """Claim what is due, but for what rests with its domain."""
        rows, due = [], claim(uow, mail, PAGE, self._settings.mail_claim, but=reported)
        for row in self._addressed(due, uow):
            rests_until = self._suspects.rests_until(_domain_of(row), uow.now)
            if rests_until > uow.now:
                uow.put(mail, row | {"claim": None, "due_at": min(rests_until, uow.now + LONGEST_DELAY_S)})
            else:
                rows.append(row)
        self._is_page_of_resting = not rows and len(due) + len(reported) >= PAGE
        return rows

    def _addressed(self, rows: Sequence[MailRow], uow: UnitOfWork) -> Iterator[MailRow]:
        """Yield mails with the address that their users have by now, where they are users and it is theirs to have."""
        names = {row["username"] for row in rows if KINDS[row["kind"]].to_holder}
        held = _held_by(self._read, names) if names else {}
        for row in rows:
            email = held.get(row["username"], row["recipient"]) if KINDS[row["kind"]].to_holder else row["recipient"]
            if email != row["recipient"]:
                row = {**row, "recipient": email}
                uow.put(mail, row)
            yield row

    def _suspicion_of(self, row: MailRow) -> tuple[int, int]:
        return self._suspects.strikes(_domain_of(row)), row["attempts"]

    def _letter(self, row: MailRow, context: Context) -> Letter:
        kind = KINDS[row["kind"]]
        owner = row["username"] if kind.key != TOKEN_KEY else context.saga_id
        token = unseal_text(row["sealed_token"], self._runtime.settings.keys(kind.key), owner) if kind.key else ""
        content = compose(
            row["id"],
            row["username"],
            row["recipient"],
            token,
            row["created_at"],
            public_url=self._runtime.public_url,
            sender=self._settings.mail_from,
            kind=kind,
        )
        return Letter(row["id"], row["recipient"], content, context.traceparent)

    def _report(self, outcomes: dict[str, Outcome], uow: UnitOfWork, row: MailRow) -> None:
        outcome = outcomes.get(row["id"])
        if outcome is not None:
            self._suspects.note(row["id"], _domain_of(row), outcome, uow.now)
        try:
            report(uow, row.copy(), outcome)
        except Exception as error:  # one mail that cannot be reported must not undo the report of the others
            log.exception("mail not reported", command=row["id"])
            uow.drop()
            report(uow, row, Delayed(f"not reported: {type(error).__name__}"))
        uow.keep()


def _about(rows: Sequence[MailRow]) -> list[Row]:
    return [about(mail, row) for row in rows]


def _domain_of(row: MailRow) -> str:
    return domain_key(row["recipient"].rpartition("@")[2])


def report(uow: UnitOfWork, row: MailRow, outcome: Outcome | None) -> None:
    """Write what came of one claimed mail: None means that it was not tried, and it is due again soon."""
    match outcome:
        case Sent():
            row |= {"status": "sent", "attempts": row["attempts"] + 1, "due_at": None, "ended_at": uow.now}
            _log(uow, row, "mail sent")
            _answer(uow, row, _sent(row))
        case RefusedForGood(code=code, detail=detail):
            row |= {
                "status": "refused",
                "attempts": row["attempts"] + 1,
                "due_at": None,
                "ended_at": uow.now,
                "error": detail,
            }
            _log(uow, row, "mail refused", code=code)
            asked_by = SendPasswordMail if row["kind"] == "password" else SendMail
            _answer(uow, row, refused_by(asked_by)(contract_of(asked_by).name, code, detail))
        case Delayed(detail=detail):
            row = _put_off(uow, row, uow.now + min(LONGEST_DELAY_S, max(DELAY_S, uow.now - row["created_at"])), detail)
        case CutOff(detail=detail):
            row = _put_off(
                uow, row, uow.now + min(LONGEST_DELAY_S, 2.0 ** min(row["attempts"], MOST_DOUBLINGS)), detail
            )
        case None:
            row |= {"due_at": uow.now}
    uow.put(mail, row)


def _answer(uow: UnitOfWork, row: MailRow, body: PasswordMailSent | MailSent | CommandRefused) -> None:
    """Tell what became of a mail; it answers the command that asked for it, if one did."""
    asked = None if row["kind"] == "reset" else row["id"]
    context = unpack_context(row["context"])
    uow.record(body, row["id"], 1, subject=row["username"], answers=asked, context=context)


def _log(uow: UnitOfWork, row: MailRow, event: str, level: Level = "info", **about: Any) -> None:
    context = unpack_context(row["context"])
    uow.log(event, level, context=context, command=row["id"], kind=row["kind"], attempt=row["attempts"], **about)


def _put_off(uow: UnitOfWork, row: MailRow, due_at: float, detail: str) -> MailRow:
    row = _again(row, due_at, detail)
    _log(uow, row, "mail put off", "warning", again_in_s=round(due_at - uow.now, 1), error=detail)
    return row


def _again(row: MailRow, due_at: float, detail: str) -> MailRow:
    return {**row, "attempts": row["attempts"] + 1, "due_at": due_at, "error": detail}


def _sent(row: MailRow) -> PasswordMailSent | MailSent:
    about: dict[str, Any] = {
        "mail_id": row["id"],
        "username": row["username"],
        "email": row["recipient"],
        "attempts": row["attempts"],
        "created_at": row["created_at"],
        "sent_at": row["ended_at"] or 0.0,
    }
    if row["kind"] == "password":
        return PasswordMailSent(**about, status=row["status"])
    return MailSent(**about, kind=row["kind"])


def _held_by(read: Engine, names: Collection[str]) -> dict[str, str]:
    """Return the addresses that users of these names have."""
    query = select(address.c.username, address.c.email).where(address.c.username.in_(names))
    with read.connect() as connection:
        return {row.username: row.email for row in connection.execute(query)}


def send_mails(runtime: Runtime) -> Duty:
    """Make the sender a duty of the worker, woken by every batch that brought a mail."""
    sender = Sender(runtime)

    def brings_mail(batch: Sequence[Received]) -> bool:
        return any(isinstance(received.message.body, ASKING) for received in batch if received.message)

    longest_s = max(LONGEST_DELAY_S, runtime.settings.of(CorreoSettings).mail_claim)
    return Duty("sender", sender.send_due, woken_by=brings_mail, due=[Due(mail.c.due_at, longest_s)])
