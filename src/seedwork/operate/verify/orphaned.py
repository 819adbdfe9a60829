"""Find what is there without what must have caused it."""

from __future__ import annotations

from pulsaga.operate.verify.check import Check

ORPHANED = (
    Check(
        "orphaned",
        "saga",
        "a saga runs that nobody accepted",
        """
        SELECT j.id, 'for ' || COALESCE(l.subject, s.subject, '?') FROM judged j
        LEFT JOIN log l USING (id) LEFT JOIN saga s USING (id) WHERE j.id NOT IN (SELECT id FROM accepted)
        """,
    ),
    Check(
        "orphaned",
        "handled-command",
        "a command was handled that no saga issued",
        """
        SELECT m.id, m.service || ', ' || m.how FROM met m
        WHERE m.service IN ('generador', 'correo') AND m.how IN ('handled', 'tombstone') AND m.id >= :since
          AND NOT EXISTS (SELECT 1 FROM issued WHERE id = m.id) AND NOT EXISTS (SELECT 1 FROM event WHERE id = m.id)
        """,
    ),
    Check(
        "orphaned",
        "answer",
        "a command was answered that no saga issued",
        """
        SELECT e.answers, e.type || ' ' || e.id FROM event e
        WHERE e.service IN ('generador', 'correo') AND e.answers >= :since
          AND NOT EXISTS (SELECT 1 FROM issued WHERE id = e.answers)
        """,
    ),
    Check(
        "orphaned",
        "known-answer",
        "a saga's log knows an answer that its receiver never gave",
        """
        SELECT o.id, o.name || ' of saga ' || o.saga_id FROM owned o WHERE (o.succeeded OR o.denied)
          AND NOT EXISTS (SELECT 1 FROM event WHERE answers = o.id AND service = o.receiver)
        """,
    ),
    Check(
        "orphaned",
        "password",
        "a password exists that no saga asked for",
        """
        SELECT p.command_id, p.username || ', saga ' || p.saga_id FROM password p
        WHERE p.command_id >= :since AND NOT EXISTS (SELECT 1 FROM issued WHERE id = p.command_id)
        """,
    ),
    Check(
        "orphaned",
        "mail",
        "a mail exists that no saga asked for",
        """
        SELECT m.id, 'to ' || m.recipient || ', saga ' || m.saga_id FROM mail m
        WHERE m.id >= :since AND NOT EXISTS (SELECT 1 FROM issued WHERE id = m.id)
        """,
    ),
    Check(
        "orphaned",
        "password-not-undone",
        "a saga was compensated, and its password is still valid",
        """
        SELECT p.saga_id, p.username || ' is ' || p.status FROM password p
        JOIN log l ON l.id = p.saga_id JOIN judged j ON j.id = l.id
        WHERE l.status = 'COMPENSATED' AND p.status IN ('issued', 'revealed')
        """,
    ),
    Check(
        "orphaned",
        "successor",
        "a rotation has ended, and a next password still waits beside the valid one",
        """
        SELECT r.saga_id, r.username FROM rotation r JOIN log l ON l.id = r.saga_id JOIN judged j ON j.id = l.id
        WHERE r.status = 'issued' AND l.status IN ('COMPLETED', 'COMPENSATED')
        """,
    ),
    Check(
        "orphaned",
        "webhook",
        "a caller was told the end of a command that has not ended",
        """
        SELECT w.id, 'to ' || w.url FROM webhook w JOIN judged USING (id) LEFT JOIN log l USING (id)
        WHERE w.status IN ('delivered', 'dead') AND COALESCE(l.status, '') NOT IN ('COMPLETED', 'COMPENSATED')
          AND NOT EXISTS (SELECT 1 FROM event WHERE answers = w.id AND type = 'protools_saga.command-refused')
        """,
    ),
    Check(
        "orphaned",
        "incident",
        "an open incident tells of a dead letter that was dealt with, or of a saga that is not suspended",
        """
        SELECT i.subject, i.service || ': ' || i.kind FROM incident i WHERE i.is_open AND i.kind = 'dead-letter'
          AND NOT EXISTS (SELECT 1 FROM dead WHERE id = i.subject AND service = i.service AND is_open)
        UNION ALL SELECT i.subject, s.status FROM incident i JOIN saga s ON s.id = i.subject
        WHERE i.is_open AND i.kind = 'suspended' AND i.service = 'protools_saga' AND s.status <> 'SUSPENDED'
        """,
    ),
    Check(
        "orphaned",
        "view",
        "a read model shows what the write side does not hold",
        """
        SELECT id, 'protools_saga.saga_view' FROM view_saga v
        WHERE id >= :since AND NOT EXISTS (SELECT 1 FROM log WHERE id = v.id)
        UNION ALL SELECT id, 'bff.command' FROM view_command v
        WHERE id >= :since AND NOT EXISTS (SELECT 1 FROM log WHERE id = v.id)
          AND NOT EXISTS (SELECT 1 FROM event WHERE answers = v.id AND service = 'protools_saga')
        UNION ALL SELECT username, service || ', password' FROM view_password v
        WHERE NOT EXISTS (SELECT 1 FROM password WHERE username = v.username)
          AND NOT EXISTS (SELECT 1 FROM newest WHERE aggregate = v.username)
        UNION ALL SELECT id, 'correo.mail_view' FROM view_mail v
        WHERE id >= :since AND NOT EXISTS (SELECT 1 FROM mail WHERE id = v.id)
        """,
    ),
)
