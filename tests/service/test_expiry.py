"""Let time pass over passwords that nobody reveals: their secrets are destroyed, once, and everybody hears of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Desk, deliver, make_desk
from tests.service.stage import BOTH, Gate, pass_time, settings_on

from correo.handlers import unseal_token
from generador.expiry import expire_passwords
from generador.messages import GeneratePassword, PasswordExpired, PasswordGenerated
from generador.reveal import reveal
from generador.tables import password
from seedwork.avro import CommittedSchemas
from seedwork.broker import Wire
from seedwork.errors import DomainError
from seedwork.settings import Settings

DAY_S = 86400.0


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Both databases: one locks rows, the other the whole file."""
    return settings_on(request, tmp_path)


@pytest.fixture
def generador(settings: Settings) -> Iterator[Desk]:
    """The vault, with a password of ada."""
    desk = make_desk(settings, "generador")
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    yield desk
    desk.runtime.write.dispose()


def token_of(generador: Desk) -> str:
    """Open the newest token as correo does."""
    wire: Wire = generador.said(PasswordGenerated.contract.name)[-1]
    body = CODEC.decode(PasswordGenerated, wire.body, CommittedSchemas()[PasswordGenerated.contract.dataschema])
    return unseal_token(body.sealed_token, generador.runtime.settings.keys("LINK_KEY"), body.username)


def expire(generador: Desk) -> None:
    """Let the duty look once."""
    expire_passwords(generador.runtime).work()


def refused(generador: Desk, token: str) -> str:
    """Try a link; return the code of the refusal."""
    with pytest.raises(DomainError) as no:
        reveal(generador.runtime, token)
    return no.value.code


def test_a_password_that_nobody_revealed_in_time_is_destroyed(generador: Desk) -> None:
    """A link in a forgotten mailbox must not stay good for ever; without the key the sealed bytes tell nothing."""
    token = token_of(generador)
    pass_time(generador, DAY_S - 60)
    expire(generador)
    assert [row["status"] for row in generador.rows(password)] == ["issued"]
    pass_time(generador, 120)
    expire(generador)
    (row,) = generador.rows(password)
    assert (row["status"], row["version"], row["sealed_key"], bytes(row["sealed_secret"])) == ("expired", 2, None, b"")
    assert len(generador.said(PasswordExpired.contract.name)) == 1
    assert refused(generador, token) == "expired"
    expire(generador)
    assert len(generador.said(PasswordExpired.contract.name)) == 1


def test_a_link_is_no_longer_good_from_the_moment_on_whenever_the_duty_looks(generador: Desk) -> None:
    """The promise is about time, not about a loop that may be down."""
    token = token_of(generador)
    pass_time(generador, DAY_S + 1)
    assert refused(generador, token) == "expired"
    assert [row["status"] for row in generador.rows(password)] == ["issued"]


def test_a_revealed_password_does_not_expire(generador: Desk) -> None:
    """Its user has it; only what nobody ever saw is taken back."""
    reveal(generador.runtime, token_of(generador))
    pass_time(generador, 2 * DAY_S)
    expire(generador)
    assert [row["status"] for row in generador.rows(password)] == ["revealed"]


def test_who_let_a_password_expire_may_have_a_next_one(generador: Desk) -> None:
    """Nobody ever saw the expired one, so nothing is taken over; and nobody needs an operator."""
    pass_time(generador, DAY_S + 1)
    expire(generador)
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    assert [(row["status"], row["version"]) for row in generador.rows(password)] == [("issued", 3)]


@pytest.mark.parametrize("settings", [BOTH[1]], indirect=True)
@pytest.mark.parametrize("first", ["reveal", "expiry"])
def test_a_reveal_and_the_expiry_at_the_same_moment_have_one_outcome(
    generador: Desk, settings: Settings, first: str
) -> None:
    """The row's lock decides: nobody is shown a secret that was told to be destroyed, or loses one being shown."""
    token, rival = token_of(generador), make_desk(settings, "generador")
    pass_time(generador if first == "expiry" else rival, DAY_S + 1)
    gate, outcomes = Gate(generador), list[str]()

    def show(desk: Desk) -> None:
        try:
            outcomes.append(reveal(desk.runtime, token)[0])
        except DomainError as no:
            outcomes.append(no.code)

    ahead, behind = (show, expire) if first == "reveal" else (expire, show)
    winner, loser = threading.Thread(target=ahead, args=(generador,)), threading.Thread(target=behind, args=(rival,))
    winner.start()
    assert gate.reached.wait(PATIENCE_S)
    loser.start()
    gate.open.set()
    for thread in (winner, loser):
        thread.join(PATIENCE_S)
    (row,) = generador.rows(password)
    assert (row["status"], outcomes) == (("revealed", ["ada"]) if first == "reveal" else ("expired", ["expired"]))
    rival.runtime.write.dispose()
