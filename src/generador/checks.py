"""Say what `protools verify` should know of the vault: no password is lost, doubled, kept too long or left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from generador.settings import GeneradorSettings
from generador.tables import password, password_view, rotation
from pulsaga import Check, Checks, FactTable, Settings

FACTS = [
    FactTable(
        "password",
        lambda floor: select(
            *(
                password.c[name]
                for name in ("username", "version", "command_id", "saga_id", "status", "changed_at", "mailed_at")
            )
        ).where(password.c.changed_at >= floor.at),
        index=["username"],
    ),
    FactTable(
        "rotation",
        lambda floor: select(rotation.c.username, rotation.c.saga_id, rotation.c.status).where(
            rotation.c.changed_at >= floor.at
        ),
    ),
    FactTable(
        "view_password",
        lambda floor: select(
            *(password_view.c[name] for name in ("username", "version", "status", "changed_at"))
        ).where(password_view.c.changed_at >= floor.at),
        side="read",
        index=["username"],
    ),
]

DERIVED = """
CREATE VIEW newest_password AS
SELECT aggregate, MAX(version) AS version, type, answers
FROM event WHERE service = 'generador' AND type LIKE 'generador.password-%' GROUP BY aggregate;
"""
"""The newest event of each username: SQLite takes the other columns from the row that holds the maximum."""


def _parameters(settings: Settings) -> Mapping[str, Any]:
    return {"ttl": settings.of(GeneradorSettings).reveal_ttl}


CHECKS = Checks(
    facts=FACTS,
    derived=DERIVED,
    parameters=_parameters,
    checks=[
        Check(
            "lost",
            "password",
            "a password was generated, and the vault does not hold it",
            """
            SELECT COALESCE(n.answers, n.aggregate), n.type || ' of ' || n.aggregate FROM newest_password n
            WHERE NOT EXISTS (SELECT 1 FROM password WHERE username = n.aggregate)
            """,
        ),
        Check(
            "doubled",
            "password",
            "two passwords were generated for one command",
            """
            SELECT answers, COUNT(*) || ' for ' || MIN(aggregate) FROM event
            WHERE type = 'generador.password-generated' AND answers IS NOT NULL GROUP BY answers HAVING COUNT(*) > 1
            """,
            narrows="doubled/reply",
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
            "stuck",
            "unexpired",
            "a password that nobody revealed in time was not destroyed",
            """
            SELECT p.username, 'overdue by ' || CAST(c.now - p.since - :ttl AS INTEGER) || ' s'
            FROM (SELECT username, COALESCE(mailed_at, (SELECT MAX(e.at) FROM issued i JOIN event e ON e.answers = i.id
                    WHERE i.saga_id = password.saga_id AND e.type = 'correo.password-mail-sent')) AS since
                FROM password WHERE status = 'issued') p
            JOIN clock c ON c.service = 'generador' AND c.side = 'write'
            WHERE p.since + :ttl + :bound < c.now
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
            "view",
            "a read model shows a password that the write side does not hold",
            """
            SELECT username, 'generador, password' FROM view_password v
            WHERE NOT EXISTS (SELECT 1 FROM password WHERE username = v.username)
              AND NOT EXISTS (SELECT 1 FROM newest_password WHERE aggregate = v.username)
            """,
        ),
        Check(
            "diverged",
            "password",
            "a password's row is not what its newest event says",
            """
            SELECT p.username, 'row: ' || p.status || ', version ' || p.version || '; event: '
                || COALESCE(n.type || ', version ' || n.version, 'none')
            FROM password p LEFT JOIN newest_password n ON n.aggregate = p.username
            WHERE n.version IS NOT p.version
               OR p.status <> CASE WHEN n.type IN ('generador.password-generated', 'generador.password-rotated')
                    THEN 'issued' ELSE substr(n.type, length('generador.password-') + 1) END
            """,
        ),
        Check(
            "diverged",
            "password-view",
            "the read model does not show a password as it is",
            """
            SELECT p.username, 'generador: ' || COALESCE(v.status || ', version ' || v.version, 'nothing')
                || '; row: ' || p.status || ', version ' || p.version
            FROM password p LEFT JOIN view_password v ON v.username = p.username
            WHERE p.changed_at < :cutoff AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = p.saga_id)
              AND (v.version IS NOT p.version OR v.status <> p.status OR v.changed_at <> p.changed_at)
            """,
        ),
    ],
)
