"""The part of the system that issues passwords: what most services' tests tell their stories about."""

from __future__ import annotations

from dataclasses import replace

import system
from bff.door import ENTRANCES
from bff.projections import PROJECTIONS
from correo.service import CORREO
from generador.service import GENERADOR
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.rotate_password import ROTATE_PASSWORD
from pulsaga import contract_of

FOUND = {"PROTOOLS_SYSTEM": "tests.service.passwords:SYSTEM"}
"""By which a program finds this part."""
OF_USERS = "usuarios"
MAILS = replace(
    CORREO,
    handlers=[handler for handler in CORREO.handlers if contract_of(handler.message).owner != OF_USERS],
    projections=[projection for projection in CORREO.projections if contract_of(projection.event).owner != OF_USERS],
)
SYSTEM = replace(
    system.SYSTEM,
    services=[GENERADOR, MAILS],
    workflows=[ISSUE_PASSWORD, ROTATE_PASSWORD],
    front_door=replace(system.BFF, entrances=lambda: ENTRANCES, projections=PROJECTIONS, issuers=None),
)
