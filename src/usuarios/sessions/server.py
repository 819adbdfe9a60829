"""Open and look up sessions over gRPC."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Engine, exists, insert, select

from pulsaga import Runtime, UnitOfWork, new_id
from pulsaga.web import Refused, check_service_token
from usuarios.sessions import sessions_pb2
from usuarios.sessions.answers import Bounded, Denied, answering, bound, check_time, left_s
from usuarios.sessions.sessions_pb2_grpc import SessionsServicer
from usuarios.sessions.tables import SessionRow, sesion
from usuarios.sessions.tokens import UUID, Session, read, sign
from usuarios.tables import usuario

log = structlog.get_logger()
ROUTE = "usuarios grpc /sessions.Sessions/Create"
"""What the token of a service is for that opens a session."""
ENDED = exists().where(
    usuario.c.id == sesion.c.user_id,
    ~usuario.c.active | (usuario.c.sessions_not_before > sesion.c.issued_at),
)
"""Whose user may not log in any more, or has chosen another password since; that there is such a user is not asked."""
BEARER = re.compile("bearer +([^ ]+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Signing:
    """How tokens are signed: under which secret, and for how many seconds they are good."""

    secret: bytes
    lifetime_s: float


class Sessions(SessionsServicer):
    """The sessions of users, as rows of the write database.

    `read` opens that database without rights to write.
    """

    def __init__(self, runtime: Runtime, read: Engine, signing: Signing, database: Bounded) -> None:
        self._runtime, self._read, self._signing, self._database = runtime, read, signing, database
        self._key = runtime.settings.key("INTERNAL_TOKEN")

    @answering
    def Create(self, request: sessions_pb2.CreateRequest, context: grpc.ServicerContext) -> sessions_pb2.Session:
        """Open a session of a user; return it with its token."""
        left_s(context)
        self._check_service(context)
        user_id = request.user_id.lower()
        if not UUID.fullmatch(user_id):
            raise Denied(grpc.StatusCode.INVALID_ARGUMENT, "user_id is no UUID")
        now = time.time()
        session = Session(new_id(), user_id, int(now), int(now + self._signing.lifetime_s))
        self._database.ask(context, lambda until: self._keep(session, now, until))
        return _answer(session, sign(session, self._signing.secret))

    @answering
    def Validate(self, request: sessions_pb2.ValidateRequest, context: grpc.ServicerContext) -> sessions_pb2.Session:
        """Return the session of a token that is good."""
        left_s(context)
        try:
            session = read(request.token, self._signing.secret)
            if not self._database.ask(context, lambda until: self._is_open(session, until)):
                raise Refused("no-such-session")
        except Refused as refused:
            log.info("token refused", reason=refused.reason, said=refused.said)
            raise Denied(grpc.StatusCode.UNAUTHENTICATED, "the token is not good") from None
        return _answer(session, request.token)

    def _check_service(self, context: grpc.ServicerContext) -> None:
        """Raise Denied unless a service asks: by a certificate that TLS has verified, or by a token for this route."""
        if "x509_pem_cert" in context.auth_context():
            return
        given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        bearer = BEARER.fullmatch(str(given[0])) if len(given) == 1 else None
        try:
            check_service_token(self._key, bearer[1] if bearer else "", ROUTE)
        except Refused as refused:
            log.info("service refused", reason=refused.reason, said=refused.said)
            raise Denied(grpc.StatusCode.UNAUTHENTICATED, "only services may open sessions") from None

    def _keep(self, session: Session, now: float, until: float) -> None:
        row: SessionRow = {
            "jti": session.jti,
            "revision": 1,
            "user_id": session.user_id,
            "issued_at": now,
            "expires_at": float(session.expires_at),
        }

        def work(uow: UnitOfWork) -> None:
            bound(uow.values, self._runtime.write.dialect.name, until)
            uow.values(insert(sesion).values(row).returning(sesion.c.jti))  # now: what follows is after all waiting
            check_time(until)

        self._runtime.transactions.run(work)

    def _is_open(self, session: Session, until: float) -> bool:
        """Tell whether a session is kept, was not revoked, and its user has not ended it."""
        is_its = (sesion.c.jti == session.jti) & (sesion.c.user_id == session.user_id)
        found = select(sesion.c.jti).where(is_its, sesion.c.revoked_at.is_(None), ~ENDED)
        with self._read.begin() as tx:
            bound(tx.execute, self._read.dialect.name, until)
            return tx.execute(found).first() is not None


def _answer(session: Session, token: str) -> sessions_pb2.Session:
    return sessions_pb2.Session(
        valid=True,
        token=token,
        expired_at=Timestamp(seconds=session.expires_at),
        issued_at=Timestamp(seconds=session.issued_at),
    )
