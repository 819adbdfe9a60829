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
from pulsaga.delivery.inbox import Handler
from pulsaga.delivery.projection import Projection
from pulsaga.system import Runtime, Service

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine


def web(runtime: Runtime, read: Engine) -> Flask:
    """Return the app that shows mails, never what they say."""
    from correo import routes
    from pulsaga.web import webapp

    return webapp.create(runtime, read, routes.api)


CORREO = Service(
    "correo",
    tables=WRITE,
    views=READ,
    handlers=[Handler(SendPasswordMail, send_password_mail, reads=lambda m: [(mail, m.id)])],
    projections=[Projection(PasswordMailSent, project_mail)],
    duties=[send_mails],
    web=web,
    settings=CorreoSettings,
    keys=["LINK_KEY"],
    seams={
        "claimed": "a sender has claimed mails, the mail server has not seen them",
        "sent": "the mail server took the mails, nothing is recorded",
    },
    preflight=open_postman,
    checks=CHECKS,
)
