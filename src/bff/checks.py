"""Say what `protools verify` should know of the passwords that the front door shows."""

from __future__ import annotations

from sqlalchemy import select

from bff.tables import password
from pulsaga import Check, Checks, FactTable

CHECKS = Checks(
    facts=[
        FactTable(
            "shown_password",
            lambda floor: select(*(password.c[name] for name in ("username", "version", "status", "changed_at"))).where(
                password.c.changed_at >= floor.at
            ),
            side="read",
            index=["username"],
        )
    ],
    checks=[
        Check(
            "orphaned",
            "view",
            "a read model shows a password that the write side does not hold",
            """
            SELECT username, 'bff, password' FROM shown_password v
            WHERE NOT EXISTS (SELECT 1 FROM password WHERE username = v.username)
              AND NOT EXISTS (SELECT 1 FROM newest_password WHERE aggregate = v.username)
            """,
        ),
        Check(
            "diverged",
            "password-view",
            "the front door does not show a password as it is",
            """
            SELECT p.username, 'bff: ' || COALESCE(v.status || ', version ' || v.version, 'nothing')
                || '; row: ' || p.status || ', version ' || p.version
            FROM password p LEFT JOIN shown_password v ON v.username = p.username
            WHERE p.changed_at < :cutoff AND NOT EXISTS (SELECT 1 FROM outbox WHERE saga_id = p.saga_id)
              AND (v.version IS NOT p.version OR v.status <> p.status OR v.changed_at <> p.changed_at)
            """,
        ),
    ],
)
