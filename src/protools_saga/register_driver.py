"""The workflow `register-driver`: one step, which is done."""

from __future__ import annotations

from conductores.messages import RegisterDriver
from protools_saga import messages
from pulsaga import Access, Saga, Step, minutes

REGISTER_DRIVER = Saga[messages.RegisterDriver](
    name="register-driver",
    starts=messages.RegisterDriver,
    data=messages.RegisterDriver,
    subject=lambda driver: driver.nombre,
    access=Access(start=("operator", "admin", "conductores:write"), subject="nombre"),
    steps=[
        Step(lambda driver: RegisterDriver(driver.nombre), pivot=True, deadline=minutes(15)),
    ],
)
