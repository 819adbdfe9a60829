"""Say what `protools verify` should know of orders: each is as far as the saga that drives it."""

from __future__ import annotations

from sqlalchemy import select

from ordenes.tables import orden
from pulsaga import Check, Checks, FactTable

CHECKS = Checks(
    facts=[
        FactTable(
            "orden",
            lambda floor: select(*(orden.c[name] for name in ("id_orden", "version", "estado", "changed_at"))).where(
                orden.c.id_orden >= floor.id
            ),
            index=["id_orden"],
        )
    ],
    checks=[
        Check(
            "orphaned",
            "order",
            "an order exists that no saga asked for",
            """
            SELECT id_orden, estado FROM orden
            WHERE id_orden >= :since AND NOT EXISTS (SELECT 1 FROM issued WHERE saga_id = id_orden)
            """,
        ),
        Check(
            "diverged",
            "order",
            "an order's row is not what its saga has come to",
            """
            SELECT o.id_orden, 'row: ' || o.estado || '; saga: ' || l.status FROM orden o
            JOIN log l ON l.id = o.id_orden JOIN judged j ON j.id = l.id
            WHERE l.status = 'COMPLETED' AND o.estado NOT IN ('iniciada', 'entregada')
               OR l.status = 'COMPENSATED' AND o.estado <> 'fallida'
            """,
        ),
    ],
)
