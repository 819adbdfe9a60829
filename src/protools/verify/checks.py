"""Name every class of defect as one query over the extracted facts: it yields ids, each with a detail.

Known to the queries: the tables of `facts.TABLES`; `judged`, the sagas in question; `owned`, the commands of these;
`unheard`, the acceptances that left no trace; `newest`, the last event of each username; `lived`, until when a service
has handled messages; `:since`, `:cutoff` (later is too young to judge), `:bound` (seconds of grace).
A read model may be behind what lies in an outbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lost", "doubled", "stuck", "orphaned", "diverged", "late", "dead"]


@dataclass(frozen=True)
class Check:
    """Say what must not be, or with `is_defect` False what is told for information."""

    kind: Kind
    name: str
    says: str
    sql: str
    is_defect: bool = True


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
        "issued-command",
        "a saga waits for a command that its receiver never got and that is nowhere on its way",
        """
        SELECT o.id, o.name || ' of saga ' || o.saga_id FROM owned o JOIN lived v ON v.service = o.receiver
        WHERE o.saga_awaits = o.id AND o.saga_status IN ('RUNNING', 'COMPENSATING')
          AND o.at < :cutoff AND o.at + :bound < v.until
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
        WHERE e.at < :cutoff AND e.at + :bound < v.until
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

DOUBLED = (
    Check(
        "doubled",
        "password",
        "two passwords were generated for one command",
        """
        SELECT answers, COUNT(*) || ' for ' || MIN(aggregate) FROM event
        WHERE type = 'generador.password-generated' AND answers IS NOT NULL GROUP BY answers HAVING COUNT(*) > 1
        """,
    ),
    Check(
        "doubled",
        "password-of-name",
        "a password was generated for a username whose password was valid",
        """
        SELECT e.answers, e.aggregate || ', version ' || e.version FROM event e
        JOIN event before ON before.aggregate = e.aggregate AND before.version = e.version - 1
         AND before.service = e.service
        WHERE e.type = 'generador.password-generated'
          AND before.type IN ('generador.password-generated', 'generador.password-revealed')
        UNION ALL
        SELECT MIN(saga_id), COUNT(*) || ' valid passwords of ' || username FROM password
        WHERE status IN ('issued', 'revealed') GROUP BY username HAVING COUNT(*) > 1
        """,
    ),
    Check(
        "doubled",
        "mail",
        "one saga has two mails",
        "SELECT saga_id, group_concat(id, ' ') FROM mail GROUP BY saga_id HAVING COUNT(*) > 1",
    ),
    Check(
        "doubled",
        "reply",
        "one command has two answers",
        """
        SELECT answers, group_concat(type, ' ') FROM event WHERE answers IS NOT NULL
        GROUP BY service, answers HAVING COUNT(*) > 1 AND SUM(type = 'generador.password-generated') < 2
        """,
    ),
    Check(
        "doubled",
        "idempotency-key",
        "two acceptances have one idempotency key",
        """
        SELECT MIN(id), group_concat(id, ' ') || ' under ' || idempotency_key FROM accepted
        WHERE idempotency_key IS NOT NULL GROUP BY idempotency_key HAVING COUNT(*) > 1
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

STUCK = (
    Check(
        "stuck",
        "accepted-command",
        "accepted, and the coordinator has handled nothing since",
        """
        SELECT u.id, 'accepted for ' || u.username FROM unheard u JOIN lived v ON v.service = 'protools_saga'
        WHERE u.at + :bound < :cutoff AND u.at + :bound >= v.until
          AND NOT EXISTS (SELECT 1 FROM met WHERE id = u.id AND service = 'protools_saga')
        """,
    ),
    Check(
        "stuck",
        "wake-up",
        "a saga's wake-up is overdue",
        """
        SELECT s.id, 'by ' || CAST(c.now - s.wake_at AS INTEGER) || ' s' FROM saga s JOIN judged USING (id)
        JOIN clock c ON c.service = 'protools_saga' AND c.side = 'write'
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
        FROM saga s JOIN judged USING (id) JOIN clock c ON c.service = 'protools_saga' AND c.side = 'write'
        WHERE s.resend_at + :bound < c.now
          AND s.target NOT IN (SELECT receiver FROM issued WHERE at + :bound >= c.now)
        """,
    ),
    Check(
        "stuck",
        "suspended-in-silence",
        "a saga is suspended, and no incident tells an operator",
        """
        SELECT s.id, 'for ' || s.subject FROM saga s JOIN judged USING (id)
        WHERE s.status = 'SUSPENDED' AND NOT EXISTS
            (SELECT 1 FROM incident WHERE subject = s.id AND kind = 'suspended' AND service = 'protools_saga')
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
        """,
    ),
    Check(
        "stuck",
        "mail",
        "a mail was to be sent, and the sender has not been seen for a minute",
        """
        SELECT m.id, 'to ' || m.recipient || ' for saga ' || m.saga_id FROM mail m
        JOIN clock c ON c.service = 'correo' AND c.side = 'write'
        WHERE m.id >= :since AND m.status = 'waiting' AND m.claim IS NULL AND m.due_at + :bound < c.now AND NOT EXISTS
            (SELECT 1 FROM mail seen WHERE seen.ended_at + :bound >= c.now OR seen.due_at <> seen.created_at
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
)

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
          AND NOT EXISTS (SELECT 1 FROM issued WHERE id = m.id)
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
           OR s.target IS NOT l.target OR (s.resend_at IS NULL) <> (s.target IS NULL)
        UNION ALL
        SELECT s.id, 'no log' FROM saga s JOIN judged USING (id) WHERE NOT EXISTS (SELECT 1 FROM log WHERE id = s.id)
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
        FROM event WHERE service <> 'protools_saga' AND type NOT LIKE '%.command-%'
        GROUP BY service, aggregate HAVING COUNT(DISTINCT version) <> MAX(version) - MIN(version) + 1
        """,
    ),
    Check(
        "diverged",
        "subject",
        "a saga runs for another user than was accepted",
        """
        SELECT a.id, 'accepted: ' || a.username || '; saga: ' || l.subject
        FROM accepted a JOIN judged USING (id) JOIN log l USING (id) WHERE a.username <> l.subject
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
        """,
    ),
    Check(
        "diverged",
        "command-view",
        "the front door's read model does not show how a command ended",
        """
        WITH shown (id, version, username, status, reason_code) AS (
            SELECT l.id, l.seq, l.subject, CASE l.status WHEN 'COMPLETED' THEN 'completed'
                WHEN 'COMPENSATED' THEN 'refused' WHEN 'SUSPENDED' THEN 'suspended' ELSE 'running' END,
                CASE WHEN l.status IN ('COMPENSATED', 'SUSPENDED') THEN l.reason_code ELSE '' END
            FROM log l JOIN judged USING (id) WHERE l.trouble = ''
            UNION ALL
            SELECT e.answers, 1, a.username, CASE WHEN e.type LIKE '%.command-refused' THEN 'refused'
                ELSE 'suspended' END, NULL
            FROM event e JOIN judged j ON j.id = e.answers LEFT JOIN accepted a ON a.id = e.answers
            WHERE e.service = 'protools_saga' AND e.at < :cutoff
              AND NOT EXISTS (SELECT 1 FROM log WHERE id = e.answers))
        SELECT s.id, 'to show: ' || s.status || ', version ' || s.version || '; shown: '
            || COALESCE(v.status || ', version ' || v.version, 'nothing')
        FROM shown s LEFT JOIN view_command v USING (id)
        WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = s.id)
          AND (v.version IS NOT s.version OR v.status <> s.status OR v.username <> s.username
           OR v.reason_code <> s.reason_code)
        """,
    ),
    Check(
        "diverged",
        "password",
        "a password's row is not what its newest event says",
        """
        SELECT p.username, 'row: ' || p.status || ', version ' || p.version || '; event: '
            || COALESCE(n.type || ', version ' || n.version, 'none')
        FROM password p LEFT JOIN newest n ON n.aggregate = p.username
        WHERE n.version IS NOT p.version
           OR p.status <> CASE n.type WHEN 'generador.password-generated' THEN 'issued'
                ELSE substr(n.type, length('generador.password-') + 1) END
        """,
    ),
    Check(
        "diverged",
        "password-view",
        "a read model does not show a password as it is",
        """
        SELECT p.username, s.service || ': ' || COALESCE(v.status || ', version ' || v.version, 'nothing')
            || '; row: ' || p.status || ', version ' || p.version
        FROM password p JOIN clock s ON s.service IN ('generador', 'bff') AND s.side = 'read'
        LEFT JOIN view_password v ON v.username = p.username AND v.service = s.service
        WHERE p.changed_at < :cutoff AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = p.saga_id)
          AND (v.version IS NOT p.version OR v.status <> p.status OR v.changed_at <> p.changed_at)
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
        WHERE m.status = 'sent' AND m.ended_at < :cutoff AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = m.saga_id)
          AND (v.id IS NULL OR v.status <> m.status OR v.username <> m.username OR v.recipient <> m.recipient)
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
            (SELECT 1 FROM incident WHERE subject = t.saga_id AND kind = 'parked' AND service = 'protools_saga')
        """,
    ),
    Check(
        "dead",
        "in-silence",
        "a dead letter, and no incident tells an operator",
        """
        SELECT d.id, d.service || ': ' || d.topic FROM dead d WHERE NOT EXISTS
            (SELECT 1 FROM incident WHERE subject = d.id AND kind = 'dead-letter' AND service = d.service)
        """,
    ),
)

CHECKS = (*LOST, *DOUBLED, *STUCK, *ORPHANED, *DIVERGED, *LATE_AND_DEAD)
