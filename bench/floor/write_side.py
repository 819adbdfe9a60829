"""Take batches as the services do: accept, coordinate, generate, send; publish after the commit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

from bench.floor.parts import (
    ACTOR,
    BEGIN,
    CLOCK,
    COMMIT,
    EVENT,
    GENERATE,
    GENERATED,
    ISSUE,
    MOVED,
    OUTBOX,
    SEND,
    SENT,
    TELL,
    Desk,
    Said,
    Table,
    Wire,
    decode,
    encode,
    envelope,
    rfc3339,
    run,
)
from correo.mail import compose
from correo.settings import CorreoSettings
from correo.smtp import Letter, open_postman
from generador.vault import new_password, new_token, seal_password, token_hash, verifier_of
from pulsaga.delivery.messages import new_id
from pulsaga.sealing import seal_text, unseal_text
from system import SYSTEM

LIFETIME_S, RETRY_S, GENERATE_S, SEND_S, CLAIM_S = 7 * 24 * 3600.0, 5.0, 900.0, 3600.0, 30.0
WORKFLOW = "issue-password@1"


def inbox(consumer: str) -> str:
    """Write the common table expressions that read the clock and note which messages are new."""
    return (
        f"WITH clock AS MATERIALIZED (SELECT {CLOCK} AS now), fresh AS ("  # noqa: S608 - our names
        f"INSERT INTO inbox (consumer, id, hash, at) SELECT '{consumer}', m.id, m.hash, now "
        "FROM clock, unnest(%s::uuid[], %s::bytea[]) AS m (id, hash) ON CONFLICT DO NOTHING RETURNING id)"
    )


def heard(batch: Sequence[Any], envelopes: Sequence[dict[str, str]]) -> tuple[list[str], list[bytes]]:
    """Return what the inbox notes: ids and hashes of bodies."""
    ids = [one["ce_id"] for one in envelopes]
    return ids, [sha256(message.data()).digest() for message in batch]


# --- bff

ACCEPTANCE = Table("acceptance", "id uuid, type text, subject text, actor text, body_hash text, created_at float8")


def accept(desk: Desk, usernames: Sequence[str]) -> list[str]:
    """Accept commands in one commit and publish them; return their ids."""
    now = time.time()
    at, expires_at, said, rows = rfc3339(now), rfc3339(now + LIFETIME_S), Said(now), []
    for username in usernames:
        saga_id = new_id()
        body = encode(ISSUE, {"username": username, "email": f"{username}@example.test"})
        properties = envelope(ISSUE, saga_id, "/protools/bff", username, at, saga_id)
        properties["ce_expirytime"] = expires_at
        said.command((ISSUE, saga_id, properties, body))
        rows.append((saga_id, "issue-password", username, ACTOR, "", int(saga_id[:8] + saga_id[9:13], 16) / 1000))
    run(desk.connection, BEGIN, ACCEPTANCE.write(rows), OUTBOX.write(said.commands), desk.cleared(), COMMIT)
    desk.publish(said)
    return [row[0] for row in rows]


# --- generador

PASSWORD = Table(
    "password",
    "username text, revision int, version int, command_id uuid, saga_id uuid, actor text, status text, "
    "token_hash bytea, sealed_key bytea, sealed_secret bytea, verifier bytea, issued_at float8, changed_at float8",
)
GENERADOR_READ = (
    f"{inbox('generador')}, held AS (SELECT username FROM password "  # noqa: S608 - our names
    "WHERE username = ANY(%s::text[]) ORDER BY username FOR UPDATE) "
    "SELECT now, id::text, NULL FROM clock, fresh UNION ALL SELECT now, NULL, username FROM clock, held"
)


def generate(desk: Desk, batch: Sequence[Any]) -> None:
    """Generate a password for each username that has none."""
    envelopes = [message.properties() for message in batch]
    asked_for = (*heard(batch, envelopes), [one["ce_subject"] for one in envelopes])
    known = run(desk.connection, BEGIN, (GENERADOR_READ, asked_for)).fetchall()
    now, fresh, held = known[0][0], {row[1] for row in known}, {row[2] for row in known}
    said, rows = Said(now), []
    for message, asked in zip(batch, envelopes, strict=True):
        username = decode(GENERATE, message.data())["username"]
        if asked["ce_id"] not in fresh or username in held:
            raise RuntimeError(f"{username} came twice")
        rows.append(_generated(desk, said, asked, username, now))
    run(desk.connection, PASSWORD.write(rows), (TELL, EVENT.columns(said.events)), desk.cleared(), COMMIT)
    desk.publish(said)


def _generated(desk: Desk, said: Said, asked: dict[str, str], username: str, now: float) -> tuple[Any, ...]:
    command_id, saga_id, token = asked["ce_id"], asked["ce_correlationid"], new_token()
    plain = new_password()
    sealed = seal_password(plain, desk.settings.key("VAULT_KEY"), username)
    sealed_token = seal_text(token, desk.settings.key("LINK_KEY"), username)
    state = {"username": username, "status": "issued", "issued_at": now, "changed_at": now}
    properties = envelope(GENERATED, new_id(), "/protools/generador", username, rfc3339(now), saga_id)
    properties |= {"ce_causationid": command_id, "ce_commandid": command_id, "ce_version": "1"}
    wire = (GENERATED, saga_id, properties, encode(GENERATED, {**state, "sealed_token": sealed_token}))
    said.event(wire, username, 1, command_id)
    return (
        *(username, 1, 1, command_id, saga_id, ACTOR, "issued", token_hash(token), sealed.key, sealed.secret),
        *(verifier_of(plain), now, now),
    )


# --- correo

CORREO_KEEP = (
    f"{inbox('correo')} INSERT INTO mail SELECT m.id, 1, username, "  # noqa: S608 - our names
    "recipient, sealed_token, context, 'waiting', 0, "
    f"%s::uuid, now + {CLAIM_S}, now, NULL, '' FROM clock, fresh JOIN "
    "unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[]) "
    "AS m (id, username, recipient, sealed_token, context) USING (id) RETURNING id, created_at"
)
CORREO_REPORT = (
    "UPDATE mail SET revision = revision + 1, status = 'sent', attempts = 1, claim = NULL, due_at = NULL, "
    "ended_at = %s WHERE id = ANY(%s::uuid[]) AND claim = %s"
)


def send(desk: Desk, batch: Sequence[Any]) -> None:
    """Keep mails as rows that are claimed already, send them outside any transaction, report."""
    envelopes, bodies = [m.properties() for m in batch], [decode(SEND, m.data()) for m in batch]
    ids, claim = [one["ce_id"] for one in envelopes], new_id()
    contexts = [_context(one) for one in envelopes]
    words = [[body[name] for body in bodies] for name in ("username", "email", "sealed_token")]
    written = run(desk.connection, (CORREO_KEEP, (*heard(batch, envelopes), claim, ids, *words, contexts)))
    kept, began = dict(written.fetchall()), time.monotonic()
    _deliver(desk, [(one["ce_id"], body) for one, body in zip(envelopes, bodies, strict=True)], kept)
    created_at = kept[envelopes[0]["ce_id"]]
    now = created_at + time.monotonic() - began
    said = Said(now)
    for asked, body in zip(envelopes, bodies, strict=True):
        _sent(said, asked, body, created_at, now)
    reported = (CORREO_REPORT, (now, ids, claim))
    run(desk.connection, BEGIN, reported, (TELL, EVENT.columns(said.events)), desk.cleared(), COMMIT)
    desk.publish(said)


def _context(cause: dict[str, str]) -> str:
    names = {"saga_id": cause["ce_correlationid"], "causation_id": cause["ce_id"]}
    return orjson.dumps({**names, "actor": ACTOR, "traceparent": None}).decode()


def _deliver(desk: Desk, mails: Sequence[tuple[str, dict[str, Any]]], created_at: dict[str, float]) -> None:
    settings, letters = desk.settings, []
    where: dict[str, Any] = {"public_url": SYSTEM.public_url(settings), "sender": settings.of(CorreoSettings).mail_from}
    for mail_id, body in mails:
        username, recipient = body["username"], body["email"]
        token = unseal_text(body["sealed_token"], settings.keys("LINK_KEY"), username)
        content = compose(mail_id, username, recipient, token, created_at[mail_id], **where)
        letters.append(Letter(mail_id, recipient, content))
    for _ in open_postman(settings).deliver(letters):
        pass


def _sent(said: Said, asked: dict[str, str], body: dict[str, Any], created_at: float, now: float) -> None:
    mail_id, saga_id, username = asked["ce_id"], asked["ce_correlationid"], body["username"]
    named = {"mail_id": mail_id, "username": username, "email": body["email"]}
    state = {**named, "status": "sent", "attempts": 1, "created_at": created_at, "sent_at": now}
    properties = envelope(SENT, new_id(), "/protools/correo", username, rfc3339(now), saga_id)
    properties |= {"ce_causationid": mail_id, "ce_commandid": mail_id, "ce_version": "1"}
    said.event((SENT, saga_id, properties, encode(SENT, state)), mail_id, 1, mail_id)


# --- protools_saga

SAGA_TYPES = (
    "id uuid, revision int, workflow text, status text, seq int, subject text, progress text, context text, "
    "target text, resend_at float8, wake_at float8, moved_at float8, asked_at float8"
)
MOVE = ", ".join(f"{column.split()[0]} = excluded.{column.split()[0]}" for column in SAGA_TYPES.split(", ")[1:])
SAGA = Table("saga", SAGA_TYPES, f"ON CONFLICT (id) DO UPDATE SET {MOVE} WHERE saga.revision = excluded.revision - 1")
SAGA_READ = (
    f"{inbox('protools_saga')}, held AS (SELECT id, revision, progress FROM saga "  # noqa: S608 - our names
    "WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE) "
    "SELECT now, id, NULL::int, NULL::text FROM clock, fresh "
    "UNION ALL SELECT now, id, revision, progress FROM clock, held"
)
PENDING: dict[str, Any] = {
    "status": "pending",
    "command": "",
    "command_id": "",
    "attempts": 0,
    "undo": "",
    "undo_id": "",
    "undo_attempts": 0,
    "late": False,
    "undo_answer": "",
    "former": "",
}
NOTHING: dict[str, Any] = {
    "command": "",
    "command_id": "",
    "attempt": 0,
    "code": "",
    "detail": "",
    "wake_at": None,
    "data": {},
}


def coordinate(desk: Desk, batch: Sequence[Any]) -> None:
    """Start sagas and move them on."""
    envelopes, read_side = [message.properties() for message in batch], desk.options.read_side
    moving = [one["ce_correlationid"] for one in envelopes if one["ce_type"] != ISSUE]
    known = run(desk.connection, BEGIN, (SAGA_READ, (*heard(batch, envelopes), moving))).fetchall()
    held = {row[1]: row for row in known if row[2] is not None}
    moves = Moves(known[0][0], read_side)
    for message, cause in zip(batch, envelopes, strict=True):
        body = decode(cause["ce_type"], message.data())
        if cause["ce_type"] == ISSUE:
            moves.start(cause, body)
        else:
            _, _, revision, progress = held[cause["ce_correlationid"]]
            moves.advance(cause, body, revision, orjson.loads(progress))
    said = moves.said
    told = (TELL if read_side else EVENT.insert, EVENT.columns(said.events))
    sent = [OUTBOX.write(said.commands)] if said.commands else []
    run(desk.connection, SAGA.write(moves.sagas), *sent, told, desk.cleared(), COMMIT)
    desk.publish(said)
    if not read_side:
        desk.channel.tell([one["ce_correlationid"] for one in envelopes])


class Moves:
    """Collect the moves of a batch: saga rows, commands, log."""

    def __init__(self, now: float, read_side: bool) -> None:
        self.now, self.at, self.expires_at = now, rfc3339(now), rfc3339(now + LIFETIME_S)
        self.said = Said(now)
        self.sagas: list[tuple[Any, ...]] = []
        self._read_side = read_side

    def start(self, cause: dict[str, str], data: dict[str, Any]) -> None:
        """Begin a saga with its first command."""
        progress = {
            "saga_id": cause["ce_id"],
            "workflow": WORKFLOW,
            "status": "RUNNING",
            "seq": 1,
            "data": data,
            "steps": [PENDING, PENDING],
            "compensating": False,
            "cause": ("", ""),
            "reason": ("", ""),
            "wake_at": None,
            "sent_at": None,
            "started_at": self.now,
            "moved_at": self.now,
        }
        started = self._entry("started", -1, data=data)
        issued = self._issue(progress, 0, GENERATE, GENERATE_S, {"username": data["username"]}, cause)
        self._move(progress, [started, issued], cause, 1)

    def advance(self, cause: dict[str, str], reply: dict[str, Any], revision: int, progress: dict[str, Any]) -> None:
        """Take the reply to the outstanding command."""
        step = 0 if cause["ce_type"] == GENERATED else 1
        learned = {"sealed_token": reply["sealed_token"]} if step == 0 else {}
        progress["steps"][step]["status"] = "done"
        progress["data"] |= learned
        progress |= {"seq": progress["seq"] + 1, "moved_at": self.now}
        replied = self._entry("replied", step, command_id=cause["ce_commandid"], data=learned)
        if step == 0:
            following = self._issue(progress, 1, SEND, SEND_S, progress["data"], cause)
        else:
            following = self._entry("ended", -1, code="COMPLETED")
            progress |= {"status": "COMPLETED", "wake_at": None, "sent_at": None}
        self._move(progress, [replied, following], cause, revision + 1)

    def _entry(self, kind: str, step: int, **values: Any) -> dict[str, Any]:
        return {"kind": kind, "at": self.now, "step": step, **NOTHING, **values}

    def _issue(
        self, progress: dict[str, Any], step: int, topic: str, deadline_s: float, body: Any, cause: dict[str, str]
    ) -> dict[str, Any]:
        command_id, saga_id, wake_at = new_id(), progress["saga_id"], self.now + deadline_s
        issued = {"status": "issued", "command": topic, "command_id": command_id, "attempts": 1}
        progress["steps"][step] = {**PENDING, **issued}
        progress |= {"wake_at": wake_at, "sent_at": self.now}
        properties = envelope(topic, command_id, "/protools/protools_saga", body["username"], self.at, saga_id)
        properties |= {"ce_causationid": cause["ce_id"], "ce_expirytime": self.expires_at}
        self.said.command((topic, saga_id, properties, encode(topic, body)))
        return self._entry("issued", step, command=topic, command_id=command_id, attempt=1, wake_at=wake_at)

    def _move(self, progress: dict[str, Any], entries: list[Any], cause: dict[str, str], revision: int) -> None:
        saga_id, seq, status = progress["saga_id"], progress["seq"], progress["status"]
        subject = progress["data"]["username"]
        target = entries[-1]["command"].partition(".")[0] or None
        asked_at, resend_at = (self.now, self.now + RETRY_S) if target else (None, None)
        due = (target, resend_at, progress["wake_at"], self.now, asked_at)
        words = (orjson.dumps(progress).decode(), _context(cause))
        self.sagas.append((saga_id, revision, WORKFLOW, status, seq, subject, *words, *due))
        moved = {
            "saga_id": saga_id,
            "workflow": WORKFLOW,
            "subject": subject,
            "status": status,
            "reason_code": "",
            "reason_detail": "",
            "cancellable": seq == 1,
            "started_at": progress["started_at"],
            "moved_at": self.now,
            "steps": orjson.dumps(progress["steps"]).decode(),
            "entries": orjson.dumps(entries).decode(),
        }
        properties = envelope(MOVED, new_id(), "/protools/protools_saga", subject, self.at, saga_id)
        properties |= {"ce_causationid": cause["ce_id"], "ce_version": str(seq)}
        wire: Wire = (MOVED, saga_id, properties, encode(MOVED, moved))
        self.said.event(wire, saga_id, seq, None, published=self._read_side)
