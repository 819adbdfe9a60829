"""Find what was lost: accepted, issued, answered or handled, and then nowhere."""

from __future__ import annotations

from pulsaga.operate.verify.check import Check

LOST = (
    Check(
        "lost",
        "accepted-command",
        "accepted, and no saga, answer, outbox row, failure or dead letter explains it",
        """
        SELECT u.id, 'accepted for ' || u.username FROM unheard u JOIN lived v ON v.service = 'protools_saga'
        WHERE u.at + :bound < v.until
           OR EXISTS (SELECT 1 FROM met WHERE id = u.id AND service = 'protools_saga')
        """,
    ),
    Check(
        "lost",
        "cancellation",
        "a command was to be cancelled, and the coordinator never heard of it",
        """
        SELECT c.id, 'by ' || c.command_id FROM cancelled c JOIN judged USING (id)
        JOIN lived v ON v.service = 'protools_saga'
        WHERE c.at + :bound < v.until
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = c.command_id AND service = 'protools_saga')
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = c.command_id AND service = 'bff')
        """,
    ),
    Check(
        "lost",
        "issued-command",
        "a saga waits for a command that its receiver never got and that is nowhere on its way",
        """
        SELECT o.id, o.name || ' of saga ' || o.saga_id FROM owned o JOIN lived v ON v.service = o.receiver
        WHERE o.saga_awaits = o.id AND o.saga_status IN ('RUNNING', 'COMPENSATING')
          AND o.at + :bound < v.until AND o.id >= :known
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = o.id AND service = o.receiver)
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = o.id AND service = 'protools_saga')
        """,
    ),
    Check(
        "lost",
        "reply",
        "a command was answered, and the coordinator never got the answer",
        """
        SELECT o.id, e.type || ' ' || e.id || ' for saga ' || o.saga_id
        FROM owned o JOIN event e ON e.answers = o.id AND e.service = o.receiver
        JOIN lived v ON v.service = 'protools_saga'
        WHERE e.at < :cutoff AND e.at + :bound < v.until AND e.id >= :known
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = e.id AND service = 'protools_saga')
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = e.id AND service = e.service)
        """,
    ),
    Check(
        "lost",
        "reply-without-effect",
        "the coordinator handled an answer, and the saga's log does not know it",
        """
        SELECT o.id, e.type || ' ' || e.id || ' for saga ' || o.saga_id
        FROM owned o JOIN event e ON e.answers = o.id AND e.service = o.receiver
        WHERE EXISTS (SELECT 1 FROM met WHERE id = e.id AND service = 'protools_saga' AND how = 'handled')
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = e.id AND service = 'protools_saga' AND how = 'dead')
          AND CASE WHEN e.type LIKE '%.command-refused' OR e.type LIKE '%.command-failed'
              THEN NOT o.denied AND o.saga_awaits = o.id AND o.saga_status IN ('RUNNING', 'COMPENSATING')
              ELSE NOT o.succeeded END
        """,
    ),
    Check(
        "lost",
        "answer",
        "a command was handled to its end, and no answer is kept",
        """
        SELECT o.id, o.name || ' of saga ' || o.saga_id FROM owned o
        WHERE NOT EXISTS (SELECT 1 FROM event WHERE answers = o.id AND service = o.receiver)
          AND (o.receiver = 'generador'
               AND EXISTS (SELECT 1 FROM met WHERE id = o.id AND service = o.receiver AND how = 'handled')
               OR EXISTS (SELECT 1 FROM mail WHERE id = o.id AND status <> 'waiting'))
        """,
    ),
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
    ),
    Check(
        "lost",
        "password",
        "a password was generated, and the vault does not hold it",
        """
        SELECT COALESCE(n.answers, n.aggregate), n.type || ' of ' || n.aggregate FROM newest n
        WHERE NOT EXISTS (SELECT 1 FROM password WHERE username = n.aggregate)
        """,
    ),
    Check(
        "lost",
        "mail-of-completed",
        "a saga is completed, and no mail of it was sent",
        """
        SELECT l.id, 'for ' || l.subject FROM log l JOIN judged USING (id)
        WHERE l.status = 'COMPLETED' AND NOT EXISTS (SELECT 1 FROM mail WHERE saga_id = l.id AND status = 'sent')
        """,
    ),
)
