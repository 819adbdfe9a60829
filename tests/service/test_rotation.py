"""Rotate passwords through the real workers of coordinator, vault and mail: the old is good until the new one is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.desk import Desk, deliver, exchange, make_desk
from tests.service.stage import BOTH, kinds_of, settings_on

from correo.handlers import send_mails
from correo.tables import mail
from generador.messages import (
    DropSuccessor,
    GeneratePassword,
    GenerateSuccessor,
    PasswordRotated,
    RetirePassword,
    SuccessorGenerated,
)
from generador.reveal import reveal
from generador.service import GENERADOR
from generador.tables import password, rotation
from generador.verification import verify
from protools_saga.messages import IssuePassword, RotatePassword
from pulsaga.broker import Delivery
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.tables import event
from pulsaga.errors import DomainError
from pulsaga.saga.tables import saga
from pulsaga.sealing import unseal_text
from pulsaga.settings import Settings


class Company:
    """The services that rotate a password, each at its desk."""

    def __init__(self, settings: Settings) -> None:
        self.desks = [make_desk(settings, name) for name in ("protools_saga", "generador", "correo")]
        self.coordinator, self.generador, self.correo = self.desks
        self.link_keys = settings.keys("LINK_KEY")

    def ask(self, wish: Any) -> str:
        """Begin a saga and let it go on until its mail waits; return its id."""
        command = deliver(wish)
        self.coordinator.worker.settle([command])
        exchange(self.desks)
        return command.wire.key

    def finish(self) -> None:
        """Send what waits, and let everybody hear of it."""
        send_mails(self.correo.runtime).work()
        exchange(self.desks)

    def tokens(self) -> list[str]:
        """Open the links of all mails, oldest first."""
        mails = sorted(self.correo.rows(mail), key=lambda row: row["id"])
        return [unseal_text(row["sealed_token"], self.link_keys, row["username"]) for row in mails]

    def show(self, token: str) -> str:
        """Use a link: return the password, or why it is not shown."""
        try:
            return reveal(self.generador.runtime, token)[1]
        except DomainError as no:
            return no.code

    def knows(self, plain: str) -> bool:
        """Tell whether this is ada's valid password."""
        return verify(self.generador.runtime, "ada", plain, "127.0.0.1", "shop") is not None

    def vault(self) -> tuple[Any, Any]:
        """Return ada's password, and the secret beside it."""
        return self.generador.rows(password)[0], next(iter(self.generador.rows(rotation)), None)

    def end(self, saga_id: str) -> str:
        """Return a saga's status."""
        return next(row["status"] for row in self.coordinator.rows(saga) if row["id"] == saga_id)


@pytest.fixture(params=BOTH)
def company(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Company]:
    """A company in which ada has a password, her mail sent."""
    company = Company(settings_on(request, tmp_path))
    company.ask(IssuePassword("ada", "ada@example.test"))
    company.finish()
    yield company
    for desk in company.desks:
        desk.runtime.write.dispose()


WISH = RotatePassword("ada", "ada@example.test")


def test_the_old_password_is_good_until_the_mail_with_the_new_one_is_out(company: Company) -> None:
    """A rotation must not lock its user out, nor leave two passwords; each link shows its own."""
    before, _ = company.vault()
    rotating = company.ask(WISH)
    assert company.vault()[0] == before
    old, new = company.tokens()
    assert company.show(new) == "not-yet-valid"
    company.finish()
    assert company.end(rotating) == "COMPLETED"
    valid, beside = company.vault()
    assert (valid["status"], valid["version"], valid["saga_id"]) == ("issued", before["version"] + 1, rotating)
    assert (beside["status"], beside["sealed_key"], beside["verifier"]) == ("superseded", None, None)
    assert company.show(old) == "superseded"
    assert len(company.show(new)) == 25
    assert company.show(new) == "already-revealed"


def test_the_old_link_shows_the_old_password_while_the_new_one_is_under_way(company: Company) -> None:
    """Who opens the first mail in that moment is not to be punished for it."""
    company.ask(WISH)
    shown = company.show(company.tokens()[0])
    company.finish()
    assert len(shown) == 25
    assert shown != company.show(company.tokens()[1])


def test_a_lost_reveal_is_answered_by_a_rotation(company: Company) -> None:
    """Who closed the page too early cannot be shown it again: a next one is the way, without an operator."""
    lost = company.show(company.tokens()[0])
    rotating = company.ask(WISH)
    assert company.knows(lost)
    company.finish()
    assert company.end(rotating) == "COMPLETED"
    found = company.show(company.tokens()[1])
    assert (company.knows(lost), company.knows(found)) == (False, True)


def test_a_refused_mailbox_leaves_the_old_password_exactly_as_it_was(company: Company) -> None:
    """A compensation that changed anything of the valid password would be a second fault."""
    before, told = company.vault()[0], len(of_ada(company))
    rotating = company.ask(RotatePassword("ada", "ada@refused.test"))
    company.finish()
    valid, beside = company.vault()
    assert company.end(rotating) == "COMPENSATED"
    assert valid == before
    assert (beside["status"], beside["sealed_key"], bytes(beside["sealed_secret"])) == ("revoked", None, b"")
    assert len(of_ada(company)) == told
    old, dropped = company.tokens()
    assert company.show(dropped) == "revoked"
    assert len(company.show(old)) == 25


def of_ada(company: Company) -> list[Any]:
    """What was ever told of ada's password."""
    return [row for row in company.generador.rows(event) if row["aggregate"] == "ada"]


def test_after_a_rotation_that_was_given_up_another_may_be_had(company: Company) -> None:
    """A mistyped address must not spoil it for ever."""
    company.ask(RotatePassword("ada", "ada@refused.test"))
    company.finish()
    rotating = company.ask(WISH)
    company.finish()
    assert company.end(rotating) == "COMPLETED"


def test_a_second_rotation_of_a_name_is_refused_while_one_runs(company: Company) -> None:
    """Two would leave it to chance which of two mails tells the truth."""
    first, second = company.ask(WISH), company.ask(WISH)
    assert reason(company, second) == "rotation-running"
    company.finish()
    assert company.end(first) == "COMPLETED"


def test_nobody_rotates_a_password_that_is_not_there(company: Company) -> None:
    """A mistyped name must not become a user with a password."""
    wrong = company.ask(RotatePassword("adda", "ada@example.test"))
    assert reason(company, wrong) == "no-password"


def test_nobody_rotates_a_password_that_another_asked_for(company: Company) -> None:
    """With a mail to itself it would take the account over."""
    wish = deliver(WISH)
    properties = {**wish.wire.properties, "ce_actor": "mallory"}
    company.coordinator.worker.settle([wish._replace(wire=wish.wire._replace(properties=properties))])
    exchange(company.desks)
    assert reason(company, wish.wire.key) == "no-password"
    assert company.vault()[1] is None


def reason(company: Company, saga_id: str) -> str:
    """Return why a saga was compensated at its first step."""
    assert kinds_of(company.coordinator, saga_id)[-3:] == ["refused", "compensating", "ended"]
    (row,) = [row for row in company.coordinator.rows(saga) if row["id"] == saga_id]
    return str(row["progress"]).partition('"reason":["')[2].partition('"')[0]


# --- the vault alone


@pytest.fixture
def generador(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """The vault, with a password of ada."""
    request.param = "sqlite"
    desk = make_desk(settings_on(request, tmp_path), "generador")
    desk.worker.settle([deliver(GeneratePassword("ada"))])
    yield desk
    desk.runtime.write.dispose()


def refusals(generador: Desk) -> list[Any]:
    """What the vault refused."""
    return generador.said(contract_of(GENERADOR.refused).name)


def test_every_command_of_a_rotation_may_come_twice(generador: Desk) -> None:
    """The broker repeats; the vault must hold one successor, and the same answers go out again."""
    beside, retire = _rotate()
    for command in (beside, beside, retire, retire, beside):
        generador.worker.settle([command])
    assert [row["version"] for row in generador.rows(password)] == [2]
    assert answers(generador, SuccessorGenerated) == (3, 1)
    assert answers(generador, PasswordRotated) == (2, 1)
    assert refusals(generador) == []


def answers(generador: Desk, cls: Any) -> tuple[int, int]:
    """Count the answers of a kind that went out, and how many of them differ."""
    ids = [wire.properties["ce_id"] for wire in generador.said(contract_of(cls).name)]
    return len(ids), len(set(ids))


def _rotate() -> tuple[Delivery, Delivery]:
    identifier = new_id()
    return deliver(GenerateSuccessor("ada"), identifier=identifier), deliver(RetirePassword("ada", identifier))


def test_a_whole_rotation_may_come_in_one_batch(generador: Desk) -> None:
    """What earlier messages of a batch decided is what later ones see."""
    generador.worker.settle([*_rotate()])
    assert [row["status"] for row in generador.rows(rotation)] == ["superseded"]
    assert [row["version"] for row in generador.rows(password)] == [2]


def test_an_undo_that_overtakes_its_do_keeps_it_from_being_done(generador: Desk) -> None:
    """Topics keep no order among each other; a successor that came after all would wait for ever."""
    beside, _ = _rotate()
    drop = deliver(DropSuccessor("ada", beside.wire.properties["ce_id"]))
    generador.worker.settle([drop])
    generador.worker.settle([beside])
    assert generador.rows(rotation) == []
    assert len(refusals(generador)) == 1


def test_an_undo_touches_what_its_own_command_made_and_nothing_else(generador: Desk) -> None:
    """A late compensation of one rotation must not spoil the next."""
    beside, retire = _rotate()
    generador.worker.settle([beside, deliver(DropSuccessor("ada", new_id())), retire])
    assert refusals(generador) == []
    generador.worker.settle([deliver(DropSuccessor("ada", beside.wire.properties["ce_id"]))])
    assert [row["status"] for row in generador.rows(password)] == ["issued"]


def test_what_no_successor_waits_for_is_not_retired(generador: Desk) -> None:
    """The valid password must not go before there is another."""
    generador.worker.settle([deliver(RetirePassword("ada", new_id()))])
    assert [row["status"] for row in generador.rows(password)] == ["issued"]
    assert len(refusals(generador)) == 1
