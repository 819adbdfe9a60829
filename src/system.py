"""Accepts commands, shows where they stand, reveals a password once.

The system: its services and its workflows.
"""

from __future__ import annotations

from bff.service import BFF
from correo.service import CORREO
from generador.service import GENERADOR
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.rotate_password import ROTATE_PASSWORD
from pulsaga import System

SYSTEM = System(
    "protools_saga",
    services=[GENERADOR, CORREO],
    workflows=[ISSUE_PASSWORD, ROTATE_PASSWORD],
    front_door=BFF,
    title="Protools",
)
