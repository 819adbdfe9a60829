"""Declare correo: it sends one mail per command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from correo.checks import CHECKS
from correo.erasing import ERASURE
from correo.handlers import send_mail, send_mails, send_password_mail, send_reset
from correo.messages import MailSent, PasswordMailSent, SendMail, SendPasswordMail
from correo.projections import project_address, project_mail
from correo.settings import CorreoSettings
from correo.smtp import open_postman
from correo.tables import READ, WRITE, mail
from pulsaga import Handler, Projection, Service, Waiting
from usuarios.messages import ResetIssued, UserChanged

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
    handlers=[
        Handler(SendPasswordMail, send_password_mail, reads=lambda m: [(mail, m.id)]),
        Handler(SendMail, send_mail, reads=lambda m: [(mail, m.id)]),
        Handler(ResetIssued, send_reset, reads=lambda m: [(mail, m.id)]),
    ],
    projections=[
        Projection(PasswordMailSent, project_mail),
        Projection(MailSent, project_mail),
        Projection(UserChanged, project_address),
    ],
    duties=[send_mails],
    waiting=[Waiting("mails", mail, mail.c.created_at, mail.c.error)],
    routes=routes,
    settings=CorreoSettings,
    keys=["LINK_KEY", "RESET_KEY", "TOKEN_KEY"],
    command_line={"mails": "correo.commands:mails"},
    seams={
        "claimed": "a sender has claimed mails, the mail server has not seen them",
        "sent": "the mail server took the mails, nothing is recorded",
    },
    preflight=open_postman,
    checks=CHECKS,
    erasure=ERASURE,
)
