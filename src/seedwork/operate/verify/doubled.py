"""Find what is there twice and must be once."""

from __future__ import annotations

from pulsaga.operate.verify.check import Check

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
        WHERE e.type = 'generador.password-generated'
          AND before.type IN
            ('generador.password-generated', 'generador.password-revealed', 'generador.password-rotated')
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
