"""Say what `protools verify` should know of stock: what is set aside of a product is what its orders hold."""

from __future__ import annotations

from sqlalchemy import select

from productos.tables import producto, reserva
from pulsaga import Check, Checks, FactTable

COUNTED = ("id_producto", "version", "stock", "reservado", "entregado", "estado", "changed_at")
HELD = ("id", "id_orden", "id_producto", "command_id", "cantidad", "estado")

CHECKS = Checks(
    facts=[
        FactTable("producto", lambda _floor: select(*(producto.c[name] for name in COUNTED)), index=["id_producto"]),
        FactTable(
            "reserva", lambda _floor: select(*(reserva.c[name] for name in HELD)), index=["id_producto", "id_orden"]
        ),
    ],
    checks=[
        Check(
            "diverged",
            "stock",
            "what is set aside or delivered of a product is not what its orders hold or have had",
            """
            SELECT p.id_producto, 'reservado ' || p.reservado || ', entregado ' || p.entregado FROM producto p
            WHERE p.stock < 0
               OR p.reservado <> (SELECT COALESCE(SUM(cantidad), 0) FROM reserva r
                    WHERE r.id_producto = p.id_producto AND r.estado = 'reservada')
               OR p.entregado <> (SELECT COALESCE(SUM(cantidad), 0) FROM reserva r
                    WHERE r.id_producto = p.id_producto AND r.estado = 'entregada')
            """,
        ),
        Check(
            "orphaned",
            "reservation",
            "stock is set aside for an order that was given up",
            """
            SELECT r.id, r.cantidad || ' of ' || r.id_producto FROM reserva r JOIN log l ON l.id = r.id_orden
            JOIN judged j ON j.id = l.id WHERE l.status = 'COMPENSATED' AND r.estado = 'reservada'
            """,
        ),
    ],
)
