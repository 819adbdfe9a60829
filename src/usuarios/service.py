"""Declare usuarios: it keeps people, lets them in, changes their addresses, and opens sessions for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from correo.messages import PasswordMailSent
from pulsaga import Handler, Process, Projection, Runtime, Service, forget_after
from pulsaga.web import Guesses
from usuarios.checks import CHECKS
from usuarios.domain import email_key
from usuarios.erasing import ERASURE
from usuarios.handlers import adopt_email, drop_proposal, note_mail, propose_email
from usuarios.messages import AdoptEmail, DropProposal, ProposeEmail, ResetIssued, UserChanged
from usuarios.projections import project_user
from usuarios.sessions.settings import SECRET, SessionSettings, check_tls
from usuarios.sessions.tables import SESSIONS_KEPT_S, sesion
from usuarios.settings import UsuariosSettings
from usuarios.tables import READ, RESETS_KEPT_S, WRITE, guess_budget, issued, proposal, reset, usuario

if TYPE_CHECKING:
    from flask import Blueprint


def routes() -> list[Blueprint]:
    """Return the routes of its web process."""
    from usuarios.routes import api

    return [api]


def add_sessions(process: Process, runtime: Runtime) -> Sequence[Callable[[], object]]:
    """Add the loops of the process that answers over gRPC, which no other process loads."""
    from usuarios.sessions.process import add

    return add(process, runtime)


USUARIOS = Service(
    "usuarios",
    tables=WRITE,
    views=READ,
    handlers=[
        Handler(
            ProposeEmail,
            propose_email,
            reads=lambda m: [
                (usuario, m.body.user_id),
                (usuario.c.email_key, email_key(m.body.email)),
                (proposal, m.saga_id),
            ],
        ),
        Handler(DropProposal, drop_proposal, reads=lambda m: [(usuario, m.body.user_id)]),
        Handler(
            AdoptEmail,
            adopt_email,
            reads=lambda m: [(usuario, m.body.user_id), (usuario.c.email_key, email_key(m.body.email))],
        ),
        Handler(PasswordMailSent, note_mail, reads=lambda m: [(issued, m.body.username)]),
    ],
    projections=[Projection(UserChanged, project_user)],
    events=[UserChanged, ResetIssued],
    duties=[
        forget_after("resets", reset.c.created_at, RESETS_KEPT_S),
        forget_after("sessions", sesion.c.expires_at, SESSIONS_KEPT_S),
        Guesses(guess_budget).forget,
    ],
    routes=routes,
    processes={"sessions": add_sessions},
    ports={"sessions": 3123},
    settings=[UsuariosSettings, SessionSettings],
    secrets=[SECRET],
    preflight=check_tls,
    keys=["SIGNING_KEY", "RESET_KEY"],
    checks=CHECKS,
    erasure=ERASURE,
)
