"""Declare generador: it generates passwords, keeps them as a vault, reveals each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from correo.messages import PasswordMailSent
from generador.checks import CHECKS
from generador.erasing import ERASURE
from generador.expiry import expire_passwords
from generador.handlers import (
    begin_to_expire,
    drop_successor,
    generate_password,
    generate_successor,
    retire_password,
    revoke_password,
)
from generador.keys import check_vault_key
from generador.messages import (
    DropSuccessor,
    GeneratePassword,
    GenerateSuccessor,
    PasswordExpired,
    PasswordGenerated,
    PasswordRevealed,
    PasswordRevoked,
    PasswordRotated,
    RetirePassword,
    RevokePassword,
)
from generador.projections import project_password
from generador.settings import GeneradorSettings
from generador.tables import READ, WRITE, password, rotation
from generador.verification import GUESSES
from pulsaga import Handler, Projection, Service

if TYPE_CHECKING:
    from flask import Blueprint


def routes() -> list[Blueprint]:
    """Return the routes of its web process."""
    from generador.routes import api

    return [api]


PROJECTED = (PasswordGenerated, PasswordRevoked, PasswordRevealed, PasswordExpired, PasswordRotated)
GENERADOR = Service(
    "generador",
    tables=WRITE,
    views=READ,
    handlers=[
        Handler(GeneratePassword, generate_password, reads=lambda m: [(password, m.body.username)]),
        Handler(RevokePassword, revoke_password, reads=lambda m: [(password, m.body.username)]),
        Handler(
            GenerateSuccessor,
            generate_successor,
            reads=lambda m: [(password, m.body.username), (rotation, m.body.username)],
        ),
        Handler(
            DropSuccessor, drop_successor, reads=lambda m: [(password, m.body.username), (rotation, m.body.username)]
        ),
        Handler(
            RetirePassword, retire_password, reads=lambda m: [(password, m.body.username), (rotation, m.body.username)]
        ),
        Handler(PasswordMailSent, begin_to_expire, reads=lambda m: [(password, m.body.username)]),
    ],
    projections=[Projection(event, project_password) for event in PROJECTED],
    events=[PasswordRevealed, PasswordExpired],
    duties=[expire_passwords, GUESSES.forget],
    routes=routes,
    settings=GeneradorSettings,
    keys=["VAULT_KEY", "LINK_KEY"],
    check=check_vault_key,
    command_line={"vault": "generador.commands:vault"},
    checks=CHECKS,
    erasure=ERASURE,
)
