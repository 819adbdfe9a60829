"""Find what is there without what must have caused it."""

from __future__ import annotations

from pulsaga.operate.verify.check import Check

ORPHANED = (
    Check(
        "orphaned",
        "saga",
        "a saga runs that no command began, or for a caller whom nobody accepted",
        """
        SELECT j.id, 'for ' || COALESCE(l.subject, s.subject, '?') FROM judged j
        LEFT JOIN log l USING (id) LEFT JOIN saga s USING (id)
        WHERE (l.id IS NOT NULL OR s.id IS NOT NULL)
          AND (j.id >= :known AND NOT EXISTS (SELECT 1 FROM met
                WHERE id = COALESCE(l.began_by, j.id) AND service = :coordinator AND how = 'handled')
            OR :front_door <> '' AND l.actor IS NOT NULL AND j.id NOT IN (SELECT id FROM accepted)
                AND NOT EXISTS (SELECT 1 FROM issued WHERE id = l.began_by))
        """,
    ),
    Check(
        "orphaned",
        "handled-command",
        "a command was handled that no saga issued",
        """
        SELECT m.id, m.service || ', ' || m.how FROM met m
        WHERE m.service <> :coordinator AND m.how IN ('handled', 'tombstone') AND m.id >= :since
          AND NOT EXISTS (SELECT 1 FROM issued WHERE id = m.id) AND NOT EXISTS (SELECT 1 FROM event WHERE id = m.id)
        """,
    ),
    Check(
        "orphaned",
        "answer",
        "a command was answered that no saga issued",
        """
        SELECT e.answers, e.type || ' ' || e.id FROM event e
        WHERE e.service <> :coordinator AND e.answers >= :since
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
        "webhook",
        "a caller was told the end of a command that has not ended",
        """
        SELECT w.id, 'to ' || w.url FROM webhook w JOIN judged USING (id) LEFT JOIN log l USING (id)
        WHERE w.status IN ('delivered', 'dead') AND COALESCE(l.status, '') NOT IN ('COMPLETED', 'COMPENSATED')
          AND NOT EXISTS (SELECT 1 FROM event WHERE answers = w.id AND type = :coordinator || '.command-refused')
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
        WHERE i.is_open AND i.kind = 'suspended' AND i.service = :coordinator AND s.status <> 'SUSPENDED'
        """,
    ),
    Check(
        "orphaned",
        "view",
        "a read model shows what the write side does not hold",
        """
        SELECT id, :coordinator || '.saga_view' FROM view_saga v
        WHERE id >= :since AND NOT EXISTS (SELECT 1 FROM log WHERE id = v.id)
        UNION ALL SELECT id, :front_door || '.command' FROM view_command v
        WHERE id >= :since AND NOT EXISTS (SELECT 1 FROM log WHERE id = v.id)
          AND NOT EXISTS (SELECT 1 FROM event WHERE answers = v.id AND service = :coordinator)
        """,
    ),
)
