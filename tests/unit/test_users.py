"""Talk with the workflows of users, and look at what usuarios keeps of a password."""

from __future__ import annotations

import pytest

from correo.messages import MailSent, SendMail
from pedidos.messages import CreateOrder, OrderCreated, OrderProcessing, ProcessOrder
from protools_saga.change_email import CHANGE_EMAIL
from protools_saga.messages import ChangeEmail, ConfirmEmail, TakeOrder
from protools_saga.take_order import TAKE_ORDER
from pulsaga.testing import Conversation, given
from usuarios.domain import is_address
from usuarios.messages import (
    AdoptEmail,
    DropProposal,
    EmailAdopted,
    EmailProposed,
    ProposalDropped,
    ProposeEmail,
)
from usuarios.passwords import hash_of, is_password

OLD, NEW, DAY_S = "ada@example.test", "ada@new.test", 86400.0
SENT = MailSent("m", "confirm-email", "ada", NEW, 1, 0.0, 0.0)


def proposed() -> tuple[Conversation, str]:
    """Bring a change of address to where it waits; return the id of the proposal, too."""
    saga = given(CHANGE_EMAIL, ChangeEmail("u-1", NEW))
    asked = saga.sends(ProposeEmail("u-1", NEW)).replies(EmailProposed("u-1", "ada", NEW, OLD))
    saga.sends(SendMail("confirm-email", "ada", NEW)).replies(SENT)
    return saga, asked.command_id


def test_an_address_that_is_confirmed_is_adopted_and_the_old_one_told() -> None:
    """Nothing changes before the link is used."""
    saga, _ = proposed()
    saga.signals(ConfirmEmail())
    saga.sends(AdoptEmail("u-1", NEW)).replies(EmailAdopted("u-1", NEW))
    saga.sends(SendMail("email-changed", "ada", OLD)).replies(SENT)
    saga.ends("COMPLETED")


def test_a_link_that_is_used_before_its_mail_is_known_to_be_sent_counts() -> None:
    """The answer of correo may be the slower of the two."""
    saga = given(CHANGE_EMAIL, ChangeEmail("u-1", NEW))
    saga.sends(ProposeEmail("u-1", NEW)).replies(EmailProposed("u-1", "ada", NEW, OLD))
    mail = saga.sends(SendMail("confirm-email", "ada", NEW))
    saga.signals(ConfirmEmail())
    mail.replies(SENT)
    saga.sends(AdoptEmail("u-1", NEW))


def test_an_address_that_nobody_confirms_in_a_day_is_forgotten() -> None:
    """Its user keeps the old one, and may ask for another."""
    saga, proposal = proposed()
    saga.passes(DAY_S + 1)
    saga.sends(DropProposal("u-1", proposal)).replies(ProposalDropped("u-1"))
    saga.ends("COMPENSATED", reason="timed-out")


@pytest.mark.parametrize("code", ["no-user", "invalid-email", "same-email", "email-taken", "superseded"])
def test_a_refused_proposal_mails_nobody(code: str) -> None:
    """Strangers' mailboxes are not ours to fill."""
    saga = given(CHANGE_EMAIL, ChangeEmail("u-1", NEW))
    saga.sends(ProposeEmail("u-1", NEW)).refuses(code)
    saga.ends("COMPENSATED", reason=code)


def test_an_address_that_somebody_else_has_taken_meanwhile_is_not_adopted() -> None:
    """It was free when it was proposed."""
    saga, proposal = proposed()
    saga.signals(ConfirmEmail())
    saga.sends(AdoptEmail("u-1", NEW)).refuses("email-taken")
    saga.sends(DropProposal("u-1", proposal)).replies(ProposalDropped("u-1"))
    saga.ends("COMPENSATED", reason="email-taken")


def test_an_order_by_request_id_is_made_then_worked_on() -> None:
    """Once it is there it is no longer given up."""
    saga = given(TAKE_ORDER, TakeOrder("ada", 400))
    state = ("saga", "ada", 400)
    saga.sends(CreateOrder("ada", 400)).replies(OrderCreated(*state, "new", 0.0))
    saga.sends(ProcessOrder()).replies(OrderProcessing(*state, "processing", 0.0))
    saga.ends("COMPLETED")


# --- passwords and addresses


def test_a_password_is_kept_as_argon2id_and_known_again() -> None:
    """RFC 9106; whatever keyboard wrote it, and two of the same are kept unlike."""
    kept = hash_of("caf\u00e9 au lait")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,")
    assert is_password("cafe\u0301 au lait", kept)
    assert not is_password("cafe au lait", kept)
    assert hash_of("caf\u00e9 au lait") != kept


@pytest.mark.parametrize("kept", [None, "", "$argon2id$nonsense"])
def test_without_a_kept_password_none_is_right(kept: str | None) -> None:
    """Not even the one that is verified in its place."""
    assert not is_password("nobody's", kept)


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("ada@example.test", True),
        ("a.b+c@ex-ample.test", True),
        ("ada@localhost", False),
        ("ada", False),
        ("a b@example.test", False),
        ('"a"@example.test', False),
        ("ada@example.test\n", False),
        ("\u00e9@example.test", False),
        ("a" * 65 + "@example.test", False),
        ("a@" + "b" * 250 + ".test", False),
    ],
)
def test_an_address_has_the_form_of_one(address: str, good: bool) -> None:
    """The owner of addresses looks at what the front door has let through, too."""
    assert is_address(address) is good
