"""Accepts commands, shows where they stand: passwords are revealed once, orders are brought by drivers.

The system: its services and its workflows.
"""

from __future__ import annotations

from bff.service import BFF
from conductores.service import CONDUCTORES
from correo.service import CORREO
from generador.service import GENERADOR
from ordenes.service import ORDENES
from productos.service import PRODUCTOS
from protools_saga.deliver_order import DELIVER_ORDER
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.place_order import PLACE_ORDER
from protools_saga.register_driver import REGISTER_DRIVER
from protools_saga.register_product import REGISTER_PRODUCT
from protools_saga.remove_product import REMOVE_PRODUCT
from protools_saga.restock_product import RESTOCK_PRODUCT
from protools_saga.rotate_password import ROTATE_PASSWORD
from pulsaga import System
from usuarios.service import USUARIOS

SYSTEM = System(
    "protools_saga",
    services=[GENERADOR, CORREO, ORDENES, PRODUCTOS, CONDUCTORES, USUARIOS],
    workflows=[
        ISSUE_PASSWORD,
        ROTATE_PASSWORD,
        PLACE_ORDER,
        DELIVER_ORDER,
        REGISTER_PRODUCT,
        RESTOCK_PRODUCT,
        REMOVE_PRODUCT,
        REGISTER_DRIVER,
    ],
    front_door=BFF,
    title="Protools",
    version="2.0.0",
)
