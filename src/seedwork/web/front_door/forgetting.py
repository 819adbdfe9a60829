"""Forget idempotency keys that are old enough, never one whose command may still move."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sqlalchemy import Engine, select, update

from pulsaga.delivery.loop import Duty
from pulsaga.delivery.messages import first_id
from pulsaga.running.runtime import Runtime
from pulsaga.web.front_door.commands.queries import ENDED
from pulsaga.web.front_door.tables import acceptance, command

EVERY_S = 60.0
PAGE = 500


def forgetting(runtime: Runtime, read: Engine) -> Duty:
    """Forget the keys that are older than IDEMPOTENCY_TTL, once a minute."""
    kept_s = runtime.settings.idempotency_ttl
    return Duty("forgetting", lambda: forget_keys(runtime.write, read, kept_s), every_s=EVERY_S)


def forget_keys(write: Engine, read: Engine, kept_s: float) -> int:
    """Forget the keys of commands that ended and were accepted more than `kept_s` seconds ago; return how many.

    Only the key goes. The acceptance stays: it is what answers for the command, here and in `protools verify`.
    """
    old = _pages(write, first_id(time.time() - kept_s))
    return sum(_forget(write, ended) for page in old if (ended := _ended(read, page)))


def _pages(write: Engine, before: str) -> Iterator[Sequence[str]]:
    last = first_id(0)
    keyed = select(acceptance.c.id).where(acceptance.c.idempotency_key.is_not(None)).order_by(acceptance.c.id)
    while True:
        with write.connect() as connection:
            between = keyed.where(acceptance.c.id > last, acceptance.c.id < before).limit(PAGE)
            page = connection.execute(between).scalars().all()
        if not page:
            return
        yield page
        last = page[-1]


def _ended(read: Engine, identifiers: Sequence[str]) -> Sequence[str]:
    ended = select(command.c.id).where(command.c.id.in_(identifiers), command.c.status.in_(ENDED))
    with read.connect() as connection:
        return connection.execute(ended).scalars().all()


def _forget(write: Engine, identifiers: Sequence[str]) -> int:
    with write.begin() as tx:
        forgotten = update(acceptance).where(acceptance.c.id.in_(identifiers)).values(idempotency_key=None)
        return tx.execute(forgotten).rowcount
