"""Find what was lost, accepted, issued, answered or handled and then nowhere, and what is there twice."""

from __future__ import annotations

from pulsaga.operate.verify.check import Check

LOST = (
    Check(
        "lost",
        "accepted-command",
        "accepted, and no saga, answer, outbox row, failure or dead letter explains it",
        """
        SELECT u.id, 'accepted for ' || u.subject FROM unheard u JOIN lived v ON v.service = :coordinator
        WHERE u.created_at + :bound < v.until
           OR EXISTS (SELECT 1 FROM met WHERE id = u.id AND service = :coordinator)
        """,
    ),
    Check(
        "lost",
        "cancellation",
        "a command was to be cancelled, and the coordinator never heard of it",
        """
        SELECT c.id, 'by ' || c.command_id FROM cancelled c JOIN judged USING (id)
        JOIN lived v ON v.service = :coordinator
        WHERE c.at + :bound < v.until
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = c.command_id AND service = :coordinator)
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = c.command_id AND service = :front_door)
        """,
    ),
    Check(
        "lost",
        "issued-command",
        "a saga waits for a command that its receiver never got and that is nowhere on its way",
        """
        SELECT o.id, o.name || ' of saga ' || o.saga_id FROM owned o JOIN lived v ON v.service = o.receiver
        WHERE o.is_awaited AND o.saga_status IN ('RUNNING', 'COMPENSATING')
          AND o.at + :bound < v.until AND o.id >= :known
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = o.id AND service = o.receiver)
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = o.id AND service = :coordinator)
        """,
    ),
    Check(
        "lost",
        "handled-command",
        "a command was answered, and its receiver does not know that it handled it: it would be handled again",
        """
        SELECT o.id, e.type || ' ' || e.id || ' for saga ' || o.saga_id
        FROM owned o JOIN event e ON e.answers = o.id AND e.service = o.receiver
        WHERE o.id >= :known AND NOT EXISTS (SELECT 1 FROM met WHERE id = o.id AND service = o.receiver)
        """,
    ),
    Check(
        "lost",
        "reply",
        "a command was answered, and the coordinator never got the answer",
        """
        SELECT o.id, e.type || ' ' || e.id || ' for saga ' || o.saga_id
        FROM owned o JOIN event e ON e.answers = o.id AND e.service = o.receiver
        JOIN lived v ON v.service = :coordinator
        WHERE e.at < :cutoff AND e.at + :bound < v.until AND e.id >= :known
          AND NOT (e.service = :coordinator AND e.type LIKE '%.command-%')  -- told to callers
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = e.id AND service = :coordinator)
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
        WHERE EXISTS (SELECT 1 FROM met WHERE id = e.id AND service = :coordinator AND how = 'handled')
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = e.id AND service = :coordinator AND how = 'dead')
          AND CASE WHEN e.type LIKE '%.command-refused' OR e.type LIKE '%.command-failed'
              THEN NOT o.denied AND o.is_awaited AND o.saga_status IN ('RUNNING', 'COMPENSATING')
              WHEN e.type = :coordinator || '.child-ended' THEN NOT (o.succeeded OR o.denied OR o.is_undone)
              ELSE NOT o.succeeded END
        """,
    ),
    Check(
        "lost",
        "answer",
        "a command was handled, and neither is an answer kept nor will one come",
        """
        SELECT o.id, o.name || ' of saga ' || o.saga_id FROM owned o
        WHERE NOT o.is_undone AND NOT EXISTS (SELECT 1 FROM event WHERE answers = o.id AND service = o.receiver)
          AND o.name <> :coordinator || '.cancel-saga'  -- a child's end answers it
          AND NOT EXISTS (SELECT 1 FROM saga WHERE id = o.id AND status NOT IN ('COMPLETED', 'COMPENSATED'))
          AND EXISTS (SELECT 1 FROM met WHERE id = o.id AND service = o.receiver AND how = 'handled')
          AND NOT EXISTS (SELECT 1 FROM in_hand WHERE id = o.id AND service = o.receiver)
        """,
    ),
)

DOUBLED = (
    Check(
        "doubled",
        "reply",
        "one command has two answers",
        """
        SELECT answers, group_concat(type, ' ') FROM event WHERE answers IS NOT NULL
        GROUP BY service, answers HAVING COUNT(*) > 1
        """,
    ),
    Check(
        "doubled",
        "idempotency-key",
        "two acceptances of one caller have one idempotency key",
        """
        SELECT MIN(id), group_concat(id, ' ') || ' under ' || idempotency_key FROM accepted
        WHERE idempotency_key IS NOT NULL GROUP BY actor, idempotency_key HAVING COUNT(*) > 1
        """,
    ),
    Check(
        "doubled",
        "start-or-end",
        "a log starts or ends more than once",
        "SELECT id, started || ' starts, ' || ended || ' ends' FROM log WHERE started > 1 OR ended > 1",
    ),
    Check(
        "doubled",
        "version",
        "one version of one aggregate was told twice",
        """
        SELECT aggregate, service || ', version ' || version FROM event
        GROUP BY service, aggregate, version HAVING COUNT(*) > 1
        """,
    ),
)
