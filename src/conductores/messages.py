"""Say what conductores understands and tells: who drives, and for which order."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import command, event


@dataclass(frozen=True)
class DriverState:
    """The full state of a driver."""

    id_driver: str
    nombre: str
    id_orden: str | None
    """The order that the driver brings, if any."""


@event("conductores.driver-registered")
@dataclass(frozen=True)
class DriverRegistered(DriverState):
    """A driver may be given orders; the reply to RegisterDriver."""


@event("conductores.driver-assigned")
@dataclass(frozen=True)
class DriverAssigned(DriverState):
    """A driver has an order; the reply to AssignDriver."""


@event("conductores.driver-freed")
@dataclass(frozen=True)
class DriverFreed(DriverState):
    """A driver may be given the next order; the reply to FreeDriver."""


@event("conductores.assignment-undone")
@dataclass(frozen=True)
class AssignmentUndone(DriverState):
    """A driver does not bring the order after all; the reply to UndoAssignment."""


@command("conductores.register-driver", replies=(DriverRegistered,))
@dataclass(frozen=True)
class RegisterDriver:
    """Ask for a new driver, whose id is that of the saga."""

    nombre: str


@command("conductores.assign-driver", replies=(DriverAssigned,))
@dataclass(frozen=True)
class AssignDriver:
    """Ask for a free driver for an order: the one of this saga."""

    direccion_entrega: str


@command("conductores.undo-assignment", replies=(AssignmentUndone,))
@dataclass(frozen=True)
class UndoAssignment:
    """Ask for one assignment to be undone."""

    undoes: str


@command("conductores.free-driver", replies=(DriverFreed,))
@dataclass(frozen=True)
class FreeDriver:
    """Tell that a driver has delivered an order."""

    id_driver: str
    id_orden: str
