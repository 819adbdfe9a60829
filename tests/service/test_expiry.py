"""Let time pass over passwords that nobody reveals: their secrets are destroyed, once, and everybody hears of it.

Time counts from when the user can use the link: from the mail, however long that took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, Desk, deliver, exchange, make_desk
from tests.service.stage import BOTH, Gate, pass_time, settings_on
from tests.service.test_smtp import MailServer, free_port, running

from correo.handlers import send_mails
from correo.messages import PasswordMailSent
from correo.tables import mail
from generador import domain as generador_domain
from generador import expiry as generador_expiry
from generador.expiry import expire_passwords
from generador.messages import (
    GeneratePassword,
    GenerateSuccessor,
    PasswordExpired,
    PasswordGenerated,
    RetirePassword,
    RevokePassword,
)
from generador.reveal import reveal
from generador.tables import password
from protools_saga.messages import IssuePassword, RotatePassword
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.tables import failure
from pulsaga.errors import DomainError, Unavailable
from pulsaga.sealing import unseal_text
from pulsaga.settings import Settings
from pulsaga_program.databases import migrate
from system import SYSTEM

DAY_S = 86400.0


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Both databases: one locks rows, the other the whole file."""
    return settings_on(request, tmp_path)


@pytest.fixture
def unmailed(settings: Settings) -> Iterator[Desk]:
    """The vault, with a password of ada whose mail has not gone."""
    desk = make_desk(settings, "generador")
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    yield desk
    desk.runtime.write.dispose()


@pytest.fixture
def generador(unmailed: Desk) -> Desk:
    """The vault, with a password of ada whose mail has gone."""
    unmailed.worker.settle([mail_sent(unmailed)])
    return unmailed


def clock(desk: Desk) -> float:
    """Read the time as this desk sees it."""
    return time.time() + desk.runtime.transactions.outbox.speaker.clock_offset


def mail_sent(generador: Desk, sent_at: float | None = None, saga_id: str = "") -> Delivery:
    """Tell the vault that ada's mail went just now."""
    (row,) = generador.rows(password)
    at = clock(generador) if sent_at is None else sent_at
    body = PasswordMailSent(new_id(), "ada", "ada@example.test", "sent", 1, at, at)
    return deliver(body, saga_id=saga_id or row["saga_id"], version=1)


def token_of(generador: Desk) -> str:
    """Open the newest token as correo does."""
    wire: Wire = generador.said(contract_of(PasswordGenerated).name)[-1]
    body = CODEC.decode(PasswordGenerated, wire.body, CommittedSchemas()[contract_of(PasswordGenerated).dataschema])
    return unseal_text(body.sealed_token, generador.runtime.settings.keys("LINK_KEY"), body.username)


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
    assert len(generador.said(contract_of(PasswordExpired).name)) == 1
    assert refused(generador, token) == "expired"
    expire(generador)
    assert len(generador.said(contract_of(PasswordExpired).name)) == 1


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


# --- from the mail on


def test_a_password_does_not_age_before_its_mail(unmailed: Desk) -> None:
    """Nobody could use the link: what the mail server cost must not be taken from the user's time."""
    token = token_of(unmailed)
    pass_time(unmailed, 3 * DAY_S)
    expire(unmailed)
    unmailed.worker.settle([mail_sent(unmailed)])
    pass_time(unmailed, DAY_S - 60)
    expire(unmailed)
    assert [row["status"] for row in unmailed.rows(password)] == ["issued"]
    pass_time(unmailed, 120)
    assert refused(unmailed, token) == "expired"
    expire(unmailed)
    assert [row["status"] for row in unmailed.rows(password)] == ["expired"]


def test_a_link_works_before_the_vault_has_heard_of_its_mail(unmailed: Desk) -> None:
    """A fast reader is faster than a slow topic; hearing of it then brings nothing back."""
    assert reveal(unmailed.runtime, token_of(unmailed))[0] == "ada"
    (shown,) = unmailed.rows(password)
    unmailed.worker.settle([mail_sent(unmailed)])
    assert unmailed.rows(password) == [shown]


@pytest.mark.parametrize("ending", ["revoked", "expired", "of another saga"])
def test_a_mail_that_is_about_no_password_any_more_changes_nothing(generador: Desk, ending: str) -> None:
    """It may come late, twice, or after its password was replaced: a next one must not age by another's mail."""
    saga_id, (row,) = new_id(), generador.rows(password)
    if ending == "revoked":
        generador.worker.settle([deliver(RevokePassword("ada", row["command_id"]), saga_id=row["saga_id"])])
    if ending == "expired":
        pass_time(generador, DAY_S + 1)
        expire(generador)
    before = generador.rows(password)
    heard = mail_sent(generador, saga_id=saga_id if ending == "of another saga" else "")
    generador.worker.settle([heard])
    generador.worker.settle([heard])
    assert generador.rows(password) == before
    assert generador.count(failure) == 0


@pytest.mark.parametrize("wrong_s", [-30 * DAY_S, 30 * DAY_S])
def test_a_clock_that_is_wrong_neither_takes_nor_adds_time(unmailed: Desk, wrong_s: float) -> None:
    """Correo's database has a clock of its own: the link is good for REVEAL_TTL all the same."""
    unmailed.worker.settle([mail_sent(unmailed, clock(unmailed) + wrong_s)])
    pass_time(unmailed, DAY_S - 60)
    expire(unmailed)
    assert [row["status"] for row in unmailed.rows(password)] == ["issued"]
    pass_time(unmailed, 120)
    expire(unmailed)
    assert [row["status"] for row in unmailed.rows(password)] == ["expired"]


def test_a_clock_that_was_ahead_when_the_password_was_drawn_adds_no_time(unmailed: Desk) -> None:
    """It was put right before the mail: the link is good for REVEAL_TTL from then on, and not for a month more."""
    with unmailed.runtime.write.begin() as tx:
        tx.execute(update(password).values(issued_at=clock(unmailed) + 30 * DAY_S))
    unmailed.worker.settle([mail_sent(unmailed)])
    pass_time(unmailed, DAY_S + 60)
    expire(unmailed)
    assert [row["status"] for row in unmailed.rows(password)] == ["expired"]


class Company:
    """The services that issue a password, whose mail server may be away."""

    def __init__(self, settings: Settings) -> None:
        self.desks = [make_desk(settings, name) for name in ("protools_saga", "generador", "correo")]
        self.coordinator, self.generador, self.correo = self.desks

    def ask(self, wish: Any) -> None:
        """Begin a saga and let it go on until its mail waits."""
        self.coordinator.worker.settle([deliver(wish)])
        exchange(self.desks)

    def send(self, server: MailServer) -> None:
        """Send what waits by this server, and let everybody hear of it."""
        runtime = self.correo.runtime
        by = replace(
            runtime,
            settings=replace(
                runtime.settings,
                environment={**runtime.settings.environment, "SMTP_URL": f"smtp://127.0.0.1:{server.port}"},
            ),
        )
        try:
            send_mails(by).work()
        finally:
            exchange(self.desks)

    def pass_time(self, seconds: float) -> None:
        """Let time pass for all, and the expiry look."""
        for desk in self.desks:
            pass_time(desk, seconds)
        expire(self.generador)

    def newest_link(self) -> str:
        """Open the link of the newest mail."""
        row = max(self.correo.rows(mail), key=lambda row: row["id"])
        return unseal_text(row["sealed_token"], self.correo.runtime.settings.keys("LINK_KEY"), "ada")


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("within", [True, False])
def test_a_mail_server_that_was_down_for_days_costs_no_user_a_second(
    settings: Settings, within: bool, rotated: bool
) -> None:
    """The mail that goes out after all must not bring a dead link while its command says `completed`."""
    company, server = Company(settings), MailServer(port=free_port())
    if rotated:
        with running(server):
            company.ask(IssuePassword("ada", "ada@example.test"))
            company.send(server)
        reveal(company.generador.runtime, company.newest_link())
    company.ask((RotatePassword if rotated else IssuePassword)("ada", "ada@example.test"))
    with pytest.raises(Unavailable):
        company.send(server)
    company.pass_time(3 * DAY_S)
    with running(server):
        company.send(server)
    company.pass_time(DAY_S - 60 if within else DAY_S + 60)
    if within:
        assert reveal(company.generador.runtime, company.newest_link())[0] == "ada"
    else:
        assert refused(company.generador, company.newest_link()) == "expired"


def test_a_successor_ages_from_when_it_is_valid(unmailed: Desk) -> None:
    """Its mail goes before the old password is retired: for as long as that takes, the link says `not-yet-valid`."""
    generador, saga_id = unmailed, new_id()
    successor = deliver(GenerateSuccessor("ada"), saga_id=saga_id)
    generador.worker.settle([successor])
    retire = RetirePassword("ada", successor.wire.properties["ce_id"])
    generador.worker.settle([mail_sent(generador, saga_id=saga_id)])
    pass_time(generador, 2 * DAY_S)
    generador.worker.settle([deliver(retire, saga_id=saga_id)])
    pass_time(generador, DAY_S - 60)
    expire(generador)
    assert [row["status"] for row in generador.rows(password)] == ["issued"]
    pass_time(generador, 120)
    expire(generador)
    assert [row["status"] for row in generador.rows(password)] == ["expired"]


# --- what was there before


def test_a_password_issued_before_the_upgrade_keeps_its_time(generador: Desk) -> None:
    """Its mail went long ago, and nobody tells of it again; one whose mail is yet to go gets its time then."""
    settings, engine = generador.runtime.settings, generador.runtime.write
    pass_time(generador, DAY_S / 2)
    generador.worker.settle([deliver(GeneratePassword("bob"))])
    with engine.begin() as tx:
        tx.execute(text("DROP INDEX password_unrevealed"))
        tx.execute(text("ALTER TABLE password DROP COLUMN mailed_at"))
        tx.execute(text("CREATE INDEX password_unrevealed ON password (issued_at) WHERE sealed_key IS NOT NULL"))
        tx.execute(text("DROP TABLE guess_budget"))
        tx.execute(text("CREATE TABLE failed_attempt (key VARCHAR PRIMARY KEY)"))
        tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    migrate(SYSTEM, settings, generador.service, "write")
    pass_time(generador, DAY_S / 2 + 1)
    expire(generador)
    assert {row["username"]: row["status"] for row in generador.rows(password)} == {"ada": "expired", "bob": "issued"}


# --- neighbours


def test_a_password_that_cannot_be_expired_keeps_no_other(generador: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share a transaction, not a fate: the secrets of all others are destroyed in time."""

    def state_of(row: Any) -> dict[str, Any]:
        if row["username"] == "ada":
            raise ValueError("nothing can be told of her")
        return told(row)

    told = generador_domain.state_of
    monkeypatch.setattr(generador_expiry, "state_of", state_of)
    monkeypatch.setattr(generador_expiry, "PAGE", 2)
    generador.worker.settle([deliver(GeneratePassword(name)) for name in ("bob", "eve", "zoe")])
    with generador.runtime.write.begin() as tx:
        tx.execute(text("UPDATE password SET mailed_at = issued_at"))
    pass_time(generador, DAY_S + 1)
    expire(generador)
    states = {row["username"]: row["status"] for row in generador.rows(password)}
    assert states == {"ada": "issued", "bob": "expired", "eve": "expired", "zoe": "expired"}
    assert len(generador.said(contract_of(PasswordExpired).name)) == 3
