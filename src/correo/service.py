"""Declare correo: it sends one mail per command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from correo.checks import CHECKS
from correo.handlers import send_mails, send_password_mail
from correo.messages import PasswordMailSent, SendPasswordMail
from correo.projections import project_mail
from correo.settings import CorreoSettings
from correo.smtp import open_postman
from correo.tables import READ, WRITE, mail
from pulsaga import Handler, Projection, Service

if TYPE_CHECKING:
    from flask import Blueprint


def routes() -> list[Blueprint]:
    """Return the routes of its web process."""
    from correo.routes import api

    return [api]


CORREO = Service(
    "correo",
    tables=WRITE,
    views=READ,
    handlers=[Handler(SendPasswordMail, send_password_mail, reads=lambda m: [(mail, m.id)])],
    projections=[Projection(PasswordMailSent, project_mail)],
    duties=[send_mails],
    routes=routes,
    settings=CorreoSettings,
    keys=["LINK_KEY"],
    seams={
        "claimed": "a sender has claimed mails, the mail server has not seen them",
        "sent": "the mail server took the mails, nothing is recorded",
    },
    preflight=open_postman,
    checks=CHECKS,
)
