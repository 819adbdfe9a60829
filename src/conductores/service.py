"""Declare conductores: drivers, and the orders that they bring."""

from __future__ import annotations

from conductores.checks import CHECKS
from conductores.handlers import FREE, assign_driver, free_driver, register_driver, undo_assignment
from conductores.messages import AssignDriver, FreeDriver, RegisterDriver, UndoAssignment
from conductores.tables import WRITE, conductor
from pulsaga import Handler, Service

CONDUCTORES = Service(
    "conductores",
    tables=WRITE,
    handlers=[
        Handler(RegisterDriver, register_driver, reads=lambda m: [(conductor, m.saga_id)]),
        Handler(AssignDriver, assign_driver, reads=lambda _m: [FREE]),
        Handler(UndoAssignment, undo_assignment, reads=lambda m: [(conductor.c.command_id, m.body.undoes)]),
        Handler(FreeDriver, free_driver, reads=lambda m: [(conductor, m.body.id_driver)]),
    ],
    checks=CHECKS,
)
