"""Say what `protools verify` should know of drivers: nobody brings an order that was given up."""

from __future__ import annotations

from sqlalchemy import select

from conductores.tables import conductor
from pulsaga import Check, Checks, FactTable

CHECKS = Checks(
    facts=[
        FactTable(
            "conductor",
            lambda _floor: select(*(conductor.c[name] for name in ("id_driver", "version", "id_orden", "changed_at"))),
            index=["id_driver"],
        )
    ],
    checks=[
        Check(
            "orphaned",
            "assignment",
            "a driver is kept from other orders by one that was given up",
            """
            SELECT c.id_driver, 'order ' || c.id_orden FROM conductor c JOIN log l ON l.id = c.id_orden
            JOIN judged j ON j.id = l.id WHERE l.status = 'COMPENSATED'
            """,
        )
    ],
)
