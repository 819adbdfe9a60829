"""Who issues tokens beside the issuer that the settings name: a service of the system, or another installation's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pulsaga.errors import DefinitionError
from pulsaga.web.access.callers import APART, ROLES, Caller, Role, caller_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from pulsaga.running.runtime import Runtime
    from pulsaga.web.access.tokens import Verifier


@dataclass(frozen=True)
class Standing:
    """What is known of a subject by now, whatever its tokens say."""

    role: Role = "caller"
    good_from: float = 0.0
    """Unix seconds; tokens that were issued before are refused. Infinity: all are."""


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """An issuer of tokens with keys, `iss` and `aud` of its own. Its subject `s` is the caller `<name>~s` here."""

    name: str
    """Its `iss`."""
    audience: str
    keys_at: Callable[[Runtime], str]
    """The URL of its JWK Set."""
    highest: Role = "caller"
    """What a token may say of its bearer's role at most; scopes in it do not count."""
    standing: Callable[[Engine, str], Standing] | None = None
    """Looks a subject up in the read database; its role counts where it is more than the token's."""

    def __post_init__(self) -> None:
        if not self.name or APART in self.name:
            raise DefinitionError(f"issuer {self.name!r}: a name is needed, without {APART}")

    def verifier(self, runtime: Runtime, read: Engine) -> Verifier:
        """Return what verifies its tokens in a process."""
        from pulsaga.web.access import jwks
        from pulsaga.web.access.tokens import Verifier

        keys = jwks.KeySet(jwks.from_url(self.keys_at(runtime)))
        return Verifier(self.name, self.audience, keys.find, partial(self._caller, read))

    def _caller(self, read: Engine, claims: dict[str, Any]) -> Caller:
        from pulsaga.web.access.tokens import Refused

        subject = claims["sub"]
        standing = self.standing(read, subject) if self.standing else Standing()
        if claims.get("iat", 0.0) < standing.good_from:
            raise Refused("ended")
        said = claims.get("role", "caller")
        claimed = min(said, self.highest, key=ROLES.index) if said in ROLES else "caller"
        return caller_of(f"{self.name}{APART}{subject}", max(claimed, standing.role, key=ROLES.index))
