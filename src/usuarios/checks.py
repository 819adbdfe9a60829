"""Say what `protools verify` should know of users: each is shown as they are, no proposal outlives its saga."""

from __future__ import annotations

from sqlalchemy import select

from pulsaga import Check, Checks, FactTable
from usuarios.tables import usuario, usuario_view

STATE = ("version", "username", "email", "admin", "active", "changed_at")

CHECKS = Checks(
    facts=[
        FactTable(
            "user",
            lambda floor: select(
                usuario.c.id, usuario.c.proposed_email, usuario.c.proposed_by, *(usuario.c[name] for name in STATE)
            ).where(usuario.c.changed_at >= floor.at),
            index=["id"],
        ),
        FactTable(
            "user_view",
            lambda floor: select(usuario_view.c.user_id, *(usuario_view.c[name] for name in STATE)).where(
                usuario_view.c.changed_at >= floor.at
            ),
            side="read",
            index=["user_id"],
        ),
    ],
    checks=[
        Check(
            "diverged",
            "user-view",
            "the read model does not show a user as they are",
            """
            SELECT u.id, 'row: version ' || u.version || '; shown: ' || COALESCE(v.version, 'nothing')
            FROM user u LEFT JOIN user_view v ON v.user_id = u.id
            WHERE u.changed_at < :cutoff
              AND (v.version IS NOT u.version OR v.email <> u.email OR v.active <> u.active OR v.admin <> u.admin)
            """,
        ),
        Check(
            "stuck",
            "proposal",
            "an address waits to be confirmed, and the saga that proposed it has ended",
            """
            SELECT u.id, 'saga ' || l.id || ' is ' || l.status FROM user u
            JOIN log l ON l.id = u.proposed_by JOIN judged j ON j.id = l.id
            WHERE u.proposed_email IS NOT NULL AND l.status IN ('COMPLETED', 'COMPENSATED')
            """,
        ),
    ],
)
