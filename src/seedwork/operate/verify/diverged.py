"""Find where two records of one fact differ: log, snapshot, last event, row, read models."""

from __future__ import annotations

from pulsaga.operate.verify.check import Check

DIVERGED = (
    Check(
        "diverged",
        "snapshot",
        "a saga's row is not what its log says",
        """
        SELECT l.id, CASE WHEN s.id IS NULL THEN 'no row' WHEN l.trouble <> '' THEN l.trouble
            ELSE 'row: ' || s.status || ', move ' || s.seq || '; log: ' || l.status || ', move ' || l.seq END
        FROM log l JOIN judged USING (id) LEFT JOIN saga s USING (id)
        WHERE s.id IS NULL OR l.trouble <> '' OR s.digest <> l.digest OR s.status <> l.status OR s.seq <> l.seq
           OR s.subject <> l.subject OR s.moved_at <> l.moved_at OR s.wake_at IS NOT NULL AND s.wake_at IS NOT l.wake_at
                AND (l.branches = 0 OR l.wake_at IS NULL OR s.wake_at > l.wake_at)
           OR s.target IS NOT l.target OR (s.resend_at IS NULL) <> (s.target IS NULL)
        UNION ALL
        SELECT s.id, 'no log' FROM saga s JOIN judged USING (id) WHERE NOT EXISTS (SELECT 1 FROM log WHERE id = s.id)
        UNION ALL
        SELECT l.saga_id, 'branch ' || l.id || CASE WHEN b.id IS NULL THEN ': no row' ELSE '' END
        FROM branch_log l JOIN judged j ON j.id = l.saga_id LEFT JOIN branch b USING (id)
        WHERE b.id IS NULL OR b.digest <> l.digest OR b.wake_at IS NOT l.wake_at OR b.target IS NOT l.target
           OR (b.resend_at IS NULL) <> (b.target IS NULL)
        UNION ALL
        SELECT b.saga_id, 'branch ' || b.id || ': no log' FROM branch b JOIN judged j ON j.id = b.saga_id
        WHERE NOT EXISTS (SELECT 1 FROM branch_log WHERE id = b.id)
        """,
    ),
    Check(
        "diverged",
        "slot",
        "what a step holds of its limit is not what its saga's log says: it may hold others up for ever",
        """
        SELECT l.saga_id, l.id || ': log ' || l.state || ', row ' || COALESCE(s.state, 'none')
        FROM slot_log l JOIN judged j ON j.id = l.saga_id LEFT JOIN slot s USING (id)
        WHERE l.state <> COALESCE(s.state, 'free')
        UNION ALL
        SELECT s.saga_id, s.id || ': no log' FROM slot s JOIN judged j ON j.id = s.saga_id
        WHERE s.state <> 'free' AND NOT EXISTS (SELECT 1 FROM slot_log WHERE id = s.id)
        """,
    ),
    Check(
        "diverged",
        "last-event",
        "a saga's last event tells another state than its log",
        "SELECT l.id, 'log: ' || l.status FROM log l JOIN judged USING (id) WHERE l.said_otherwise",
    ),
    Check(
        "diverged",
        "version-gap",
        "versions are missing in a history",
        """
        SELECT l.id, l.versions || ' moves up to version ' || l.last_version FROM log l JOIN judged USING (id)
        WHERE l.versions <> l.last_version
        UNION ALL
        SELECT aggregate, COUNT(DISTINCT version) || ' events from ' || MIN(version) || ' to ' || MAX(version)
        FROM event WHERE service <> :coordinator
        GROUP BY service, aggregate HAVING COUNT(DISTINCT version) <> MAX(version) - MIN(version) + 1
        """,
    ),
    Check(
        "diverged",
        "subject",
        "a saga runs for another subject than was accepted",
        """
        SELECT a.id, 'accepted: ' || a.subject || '; saga: ' || l.subject
        FROM accepted a JOIN judged USING (id) JOIN log l USING (id) WHERE a.subject <> l.subject
        """,
    ),
    Check(
        "diverged",
        "saga-view",
        "the coordinator's read model does not show what a log says",
        """
        SELECT l.id, 'log: ' || l.status || ', move ' || l.seq || '; view: '
            || COALESCE(v.status || ', move ' || v.version, 'nothing') || ', ' || COALESCE(m.moves, 0) || ' moves'
        FROM log l JOIN judged USING (id) LEFT JOIN view_saga v USING (id) LEFT JOIN view_moves m USING (id)
        WHERE l.trouble = '' AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = l.id)
          AND (v.version IS NOT l.seq OR v.status <> l.status OR v.reason_code <> l.reason_code
           OR v.subject <> l.subject OR v.moved_at <> l.moved_at OR m.moves IS NOT l.versions)
        UNION ALL
        SELECT l.saga_id, 'branch ' || l.id || ' moved last in move ' || l.version || '; view: '
            || COALESCE(v.version, 'nothing')
        FROM branch_log l JOIN judged j ON j.id = l.saga_id LEFT JOIN view_branch v USING (id)
        WHERE v.version IS NOT l.version AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = l.saga_id)
        """,
    ),
    Check(
        "diverged",
        "command-view",
        "the front door's read model does not show how a command ended",
        """
        WITH shown (id, oldest, version, subject, status, reason_code) AS (
            SELECT l.id, l.seq, l.seq, l.subject, CASE l.status WHEN 'COMPLETED' THEN 'completed'
                WHEN 'COMPENSATED' THEN 'refused' WHEN 'SUSPENDED' THEN 'suspended' ELSE 'running' END,
                CASE WHEN l.status IN ('COMPENSATED', 'SUSPENDED') THEN l.reason_code ELSE '' END
            FROM log l JOIN judged USING (id) WHERE l.trouble = ''
            UNION ALL
            SELECT e.answers, 0, e.type LIKE '%.command-refused', a.subject,
                CASE WHEN e.type LIKE '%.command-refused' THEN 'refused' ELSE 'suspended' END, NULL
            FROM event e JOIN judged j ON j.id = e.answers LEFT JOIN accepted a ON a.id = e.answers
            WHERE e.service = :coordinator AND e.at < :cutoff
              AND NOT EXISTS (SELECT 1 FROM log WHERE id = e.answers))
        SELECT s.id, 'to show: ' || s.status || ', version ' || s.version || '; shown: '
            || COALESCE(v.status || ', version ' || v.version, 'nothing')
        FROM shown s LEFT JOIN view_command v USING (id)
        WHERE :front_door <> '' AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = s.id)
          AND (COALESCE(v.version, -1) NOT BETWEEN s.oldest AND s.version OR v.status <> s.status
           OR v.subject <> s.subject OR v.reason_code <> s.reason_code)
        """,
    ),
    Check(
        "diverged",
        "command-owner",
        "the front door shows a command to another caller than the one who asked for it",
        """
        SELECT a.id, 'asked for by ' || a.actor || '; shown to ' || COALESCE(v.actor, 'nobody')
        FROM accepted a JOIN judged USING (id) JOIN view_command v USING (id) WHERE v.actor IS NOT a.actor
        """,
    ),
    Check(
        "diverged",
        "command-moves",
        "the front door does not know every move of a command: who follows it would wait at the gap",
        """
        SELECT v.id, COALESCE(m.moves || ' moves up to version ' || m.last, 'no move of ' || v.version)
        FROM view_command v JOIN judged USING (id) LEFT JOIN view_command_moves m USING (id)
        WHERE (m.moves <> m.last OR COALESCE(m.last, 0) < v.version)
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = v.id)
        """,
    ),
)
