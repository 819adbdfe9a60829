"""Find what waits and will not go on, and what an operator should have heard of: late successes, dead letters."""

from __future__ import annotations

from pulsaga.operate.verify.check import Check

STUCK = (
    Check(
        "stuck",
        "accepted-command",
        "accepted, and the coordinator has handled nothing since",
        """
        SELECT u.id, 'accepted for ' || u.subject FROM unheard u JOIN lived v ON v.service = :coordinator
        WHERE u.created_at + :bound < :cutoff AND u.created_at + :bound >= v.until
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = u.id AND service = :coordinator)
        """,
    ),
    Check(
        "stuck",
        "wake-up",
        "a saga's wake-up is overdue",
        """
        SELECT s.id, 'by ' || CAST(c.now - s.wake_at AS INTEGER) || ' s' FROM saga s JOIN judged USING (id)
        JOIN clock c ON c.service = :coordinator AND c.side = 'write'
        WHERE s.status IN ('RUNNING', 'COMPENSATING') AND s.wake_at + :bound < c.now
        """,
    ),
    Check(
        "stuck",
        "no-wake-up",
        "a saga goes on and nothing will wake it",
        """
        SELECT s.id, s.status FROM saga s JOIN judged USING (id)
        WHERE s.status IN ('RUNNING', 'COMPENSATING') AND s.wake_at IS NULL
        """,
    ),
    Check(
        "stuck",
        "not-sent-again",
        "a command was to be sent again, and none of its kind was sent for a minute",
        """
        SELECT s.id, 'to ' || s.target || ', overdue by ' || CAST(c.now - s.resend_at AS INTEGER) || ' s'
        FROM (SELECT id, target, resend_at FROM saga UNION ALL SELECT saga_id, target, resend_at FROM branch) s
        JOIN judged USING (id) JOIN clock c ON c.service = :coordinator AND c.side = 'write'
        WHERE s.resend_at + :bound < c.now
          AND s.target NOT IN (SELECT receiver FROM issued WHERE at + :bound >= c.now)
        """,
    ),
    Check(
        "stuck",
        "suspended-in-silence",
        "a saga is suspended, and no open incident tells an operator",
        """
        SELECT s.id, 'for ' || s.subject FROM saga s JOIN judged USING (id)
        WHERE s.status = 'SUSPENDED' AND NOT EXISTS (SELECT 1 FROM incident
            WHERE subject = s.id AND kind = 'suspended' AND service = :coordinator AND is_open)
        """,
    ),
    Check(
        "stuck",
        "given-up-command",
        "a command died before its saga began, and neither is it refused nor does an open dead letter tell an operator",
        """
        SELECT e.answers, e.type FROM event e JOIN judged j ON j.id = e.answers
        WHERE e.service = :coordinator AND e.type LIKE '%.command-failed'
          AND NOT EXISTS (SELECT 1 FROM log WHERE id = e.answers)
          AND NOT EXISTS (SELECT 1 FROM dead WHERE id = e.answers AND service = :coordinator AND is_open)
        """,
    ),
    Check(
        "stuck",
        "cancellation",
        "a cancel was handled, and neither was its saga given up nor the cancel refused",
        """
        SELECT c.id, 'by ' || c.command_id FROM cancelled c JOIN judged USING (id) LEFT JOIN log l USING (id)
        WHERE COALESCE(l.cause_code, '') <> 'cancelled'
          AND EXISTS (SELECT 1 FROM met WHERE id = c.command_id AND service = :coordinator AND how = 'handled')
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = c.id AND service = :coordinator AND how = 'tombstone')
          AND NOT EXISTS (SELECT 1 FROM event WHERE answers IN (c.id, c.command_id) AND service = :coordinator)
        """,
    ),
    Check(
        "stuck",
        "outbox",
        "a message was to be published again, and nobody did",
        """
        SELECT o.id, o.service || ': ' || o.topic || ' of saga ' || o.saga_id FROM outbox o
        JOIN clock c ON c.service = o.service AND c.side = 'write' WHERE o.due_at + :bound < c.now
        """,
    ),
    Check(
        "stuck",
        "failure",
        "a failed message was to be tried again, and nobody did",
        """
        SELECT f.id, f.service || ', ' || f.side || ' side: ' || f.topic FROM failure f
        JOIN clock c ON c.service = f.service AND c.side = f.side WHERE f.due_at + :bound < c.now
          AND NOT EXISTS (SELECT 1 FROM paused p
              WHERE p.service = f.service AND f.side = 'write' AND p.topic IN ('*', f.topic))
        """,
    ),
    Check(
        "stuck",
        "webhook",
        "a webhook was due, and whoever makes the calls has not been seen for a minute, or nobody ever will",
        """
        SELECT w.id, 'to ' || w.url FROM webhook w JOIN clock c ON c.service = :front_door AND c.side = 'write'
        WHERE w.status = 'waiting' AND (w.due_at IS NULL OR w.due_at + :bound < c.now AND NOT EXISTS
            (SELECT 1 FROM webhook seen WHERE seen.ended_at + :bound >= c.now OR seen.due_at <> seen.created_at
                AND seen.due_at BETWEEN c.now - :bound AND c.now + :bound))
        """,
    ),
)

LATE_AND_DEAD = (
    Check(
        "late",
        "success",
        "a success came after its saga had given up on it; the policy that handled it",
        """
        SELECT t.saga_id, t.policy || ': ' || o.name || ' ' || t.command_id
        FROM late t JOIN owned o ON o.id = t.command_id AND o.saga_id = t.saga_id
        WHERE t.kind = 'late' OR EXISTS (SELECT 1 FROM incident WHERE subject = t.saga_id AND kind = 'parked')
        """,
        is_defect=False,
    ),
    Check(
        "late",
        "parked-in-silence",
        "a late success was parked, and no incident tells an operator",
        """
        SELECT t.saga_id, t.command_id FROM late t JOIN judged j ON j.id = t.saga_id
        WHERE t.kind = 'parked' AND NOT EXISTS
            (SELECT 1 FROM incident WHERE subject = t.saga_id AND kind = 'parked' AND service = :coordinator)
        """,
    ),
    Check(
        "dead",
        "in-silence",
        "an open dead letter, and no open incident tells an operator",
        """
        SELECT d.id, d.service || ': ' || d.topic FROM dead d WHERE d.is_open AND NOT EXISTS
            (SELECT 1 FROM incident WHERE subject = d.id AND kind = 'dead-letter' AND service = d.service AND is_open)
        """,
    ),
    Check(
        "dead",
        "webhook-in-silence",
        "a webhook was given up, and no incident tells an operator",
        """
        SELECT w.id, 'to ' || w.url FROM webhook w WHERE w.status = 'dead' AND NOT EXISTS
            (SELECT 1 FROM incident WHERE subject = w.id AND kind = 'webhook' AND service = :front_door)
        """,
    ),
)
