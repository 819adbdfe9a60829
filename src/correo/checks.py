"""Say what `protools verify` should know of mails: each is sent or refused once, and a sender looks after the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, or_, select

from correo.tables import mail, mail_view
from pulsaga import Check, Checks, FactTable, Floor, unpack_context


def _mails(floor: Floor) -> Select[Any]:
    kept = ("username", "recipient", "status", "claim", "due_at", "created_at", "ended_at")
    waiting = mail.c.due_at.is_not(None)  # whatever its age: it tells whether the sender is alive
    named = select(mail.c.id, mail.c.context.label("saga_id"), *(mail.c[name] for name in kept))
    return named.where(or_(mail.c.id >= floor.id, waiting))


def _of_saga(row: Any) -> Iterable[Any]:
    identifier, context, *rest = row
    return (identifier, unpack_context(context).saga_id, *rest)


CHECKS = Checks(
    facts=[
        FactTable("mail", _mails, index=["id", "saga_id"], row=_of_saga),
        FactTable(
            "view_mail",
            lambda floor: select(
                *(mail_view.c[name] for name in ("id", "version", "username", "recipient", "status"))
            ).where(mail_view.c.id >= floor.id),
            side="read",
            index=["id"],
        ),
    ],
    in_hand="SELECT id FROM mail WHERE status = 'waiting'",
    checks=[
        Check(
            "lost",
            "mail",
            "correo handled a command, and there is neither a mail nor an answer",
            """
            SELECT o.id, 'for saga ' || o.saga_id FROM owned o
            WHERE o.receiver = 'correo'
              AND EXISTS (SELECT 1 FROM met WHERE id = o.id AND service = o.receiver AND how = 'handled')
              AND NOT EXISTS (SELECT 1 FROM mail WHERE id = o.id)
              AND NOT EXISTS (SELECT 1 FROM event WHERE answers = o.id AND service = o.receiver)
            """,
            narrows="lost/answer",
        ),
        Check(
            "lost",
            "mail-of-completed",
            "a saga that asked for a mail is completed, and no mail of it was sent",
            """
            SELECT l.id, 'for ' || l.subject FROM log l JOIN judged USING (id)
            WHERE l.status = 'COMPLETED'
              AND EXISTS (SELECT 1 FROM issued WHERE saga_id = l.id AND name LIKE 'correo.send-%')
              AND NOT EXISTS (SELECT 1 FROM mail WHERE saga_id = l.id AND status = 'sent')
            """,
        ),
        Check(
            "doubled",
            "mail",
            "one saga has more mails than it asked for",
            """
            SELECT m.saga_id, group_concat(m.id, ' ') FROM mail m GROUP BY m.saga_id
            HAVING COUNT(*) > MAX(1, (SELECT COUNT(*) FROM issued
                WHERE saga_id = m.saga_id AND name LIKE 'correo.send-%'))
            """,
        ),
        Check(
            "stuck",
            "mail",
            "a mail was to be sent, and the sender has not been seen for a minute",
            """
            SELECT m.id, 'to ' || m.recipient || ' for saga ' || m.saga_id FROM mail m
            JOIN clock c ON c.service = 'correo' AND c.side = 'write'
            WHERE m.id >= :since AND m.status = 'waiting' AND m.claim IS NULL AND m.due_at + :bound < c.now
              AND NOT EXISTS (SELECT 1 FROM mail seen
                WHERE seen.ended_at + :bound >= c.now OR seen.due_at <> seen.created_at
                    AND seen.due_at BETWEEN c.now - :bound AND c.now + :bound / 2)
            """,
        ),
        Check(
            "stuck",
            "mail-claim",
            "a mail was claimed, the claim is long over, and nobody took it again",
            """
            SELECT m.id, 'claim ' || m.claim || ' for saga ' || m.saga_id FROM mail m
            JOIN clock c ON c.service = 'correo' AND c.side = 'write'
            WHERE m.id >= :since AND m.status = 'waiting' AND m.claim IS NOT NULL AND m.due_at + :bound < c.now
            """,
        ),
        Check(
            "stuck",
            "mail-never-due",
            "a mail waits and will never be due",
            "SELECT id, 'for saga ' || saga_id FROM mail WHERE status = 'waiting' AND due_at IS NULL",
        ),
        Check(
            "orphaned",
            "mail",
            "a mail exists that no saga and no event asked for",
            """
            SELECT m.id, 'to ' || m.recipient || ', saga ' || m.saga_id FROM mail m
            WHERE m.id >= :since AND NOT EXISTS (SELECT 1 FROM issued WHERE id = m.id)
              AND NOT EXISTS (SELECT 1 FROM event WHERE id = m.id)
            """,
        ),
        Check(
            "orphaned",
            "view",
            "the read model shows a mail that the write side does not hold",
            """
            SELECT id, 'correo.mail_view' FROM view_mail v
            WHERE id >= :since AND NOT EXISTS (SELECT 1 FROM mail WHERE id = v.id)
            """,
        ),
        Check(
            "diverged",
            "mail",
            "a mail's row is not what was answered",
            """
            SELECT m.id, 'row: ' || m.status || '; answer: ' || e.type FROM mail m
            JOIN event e ON e.answers = m.id AND e.service = 'correo'
            WHERE m.status <> CASE e.type WHEN 'correo.password-mail-sent' THEN 'sent'
                WHEN 'correo.mail-sent' THEN 'sent'
                WHEN 'correo.command-refused' THEN 'refused' ELSE m.status END
            """,
        ),
        Check(
            "diverged",
            "mail-view",
            "the read model does not show a sent mail as it is",
            """
            SELECT m.id, 'to ' || m.recipient || '; shown: ' || COALESCE(v.recipient || ', ' || v.status, 'nothing')
            FROM mail m LEFT JOIN view_mail v USING (id)
            WHERE m.status = 'sent' AND m.ended_at < :cutoff
              AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = m.saga_id)
              AND (v.id IS NULL OR v.status <> m.status OR v.username <> m.username OR v.recipient <> m.recipient)
            """,
        ),
    ],
)
