"""Talk with the workflows of this system as they are declared."""

from __future__ import annotations

import pytest

from correo.messages import PasswordMailSent, SendPasswordMail
from generador.messages import (
    DropSuccessor,
    GeneratePassword,
    GenerateSuccessor,
    NothingToRevoke,
    PasswordGenerated,
    PasswordRotated,
    RetirePassword,
    RevokePassword,
    SuccessorDropped,
    SuccessorGenerated,
)
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.messages import IssuePassword, RotatePassword
from protools_saga.rotate_password import ROTATE_PASSWORD
from pulsaga import DomainError, minutes
from pulsaga.testing import given

ADA = ("ada", "ada@example.test")
GENERATED = PasswordGenerated("ada", "issued", 0.0, 0.0, "sealed")
SENT = PasswordMailSent("m-1", *ADA, "sent", 1, 0.0, 0.0)


def test_a_password_is_generated_and_its_link_mailed() -> None:
    """The way it usually goes."""
    saga = given(ISSUE_PASSWORD, IssuePassword(*ADA))
    saga.sends(GeneratePassword("ada")).replies(GENERATED)
    saga.sends(SendPasswordMail(*ADA, "sealed")).replies(SENT)
    saga.ends("COMPLETED")


def test_a_refused_mail_takes_the_password_back() -> None:
    """Nobody could ever see it."""
    saga = given(ISSUE_PASSWORD, IssuePassword(*ADA))
    generated = saga.sends(GeneratePassword("ada")).replies(GENERATED)
    saga.sends(SendPasswordMail(*ADA, "sealed")).refuses("domain-refused")
    saga.sends(RevokePassword("ada", generated.command_id)).replies(NothingToRevoke("ada", generated.command_id))
    saga.ends("COMPENSATED", reason="domain-refused")


def test_silence_before_the_pivot_is_undone_and_at_the_pivot_waits_for_an_operator() -> None:
    """A mail that may have gone out cannot be called back."""
    silent = given(ISSUE_PASSWORD, IssuePassword(*ADA))
    asked = silent.sends(GeneratePassword("ada"))
    silent.passes(minutes(15)).sends(RevokePassword("ada", asked.command_id))
    mailing = given(ISSUE_PASSWORD, IssuePassword(*ADA))
    mailing.sends(GeneratePassword("ada")).replies(GENERATED)
    mailing.sends(SendPasswordMail(*ADA, "sealed"))
    mailing.passes(minutes(60)).ends("SUSPENDED", reason="timed-out")


def test_the_old_password_goes_only_once_the_next_ones_mail_is_out() -> None:
    """Until then it stays exactly as it was."""
    saga = given(ROTATE_PASSWORD, RotatePassword(*ADA))
    made = saga.sends(GenerateSuccessor("ada"))
    made.replies(SuccessorGenerated("ada", made.command_id, "sealed"))
    saga.sends(SendPasswordMail(*ADA, "sealed")).replies(SENT)
    saga.sends(RetirePassword("ada", made.command_id)).replies(PasswordRotated("ada", "issued", 0.0, 0.0))
    saga.ends("COMPLETED")


def test_a_rotation_is_cancelled_before_its_mail_and_not_after() -> None:
    """The pivot is where it cannot be called back any more."""
    saga = given(ROTATE_PASSWORD, RotatePassword(*ADA))
    made = saga.sends(GenerateSuccessor("ada"))
    saga.cancel("ada").sends(DropSuccessor("ada", made.command_id)).replies(SuccessorDropped("ada", made.command_id))
    saga.ends("COMPENSATED", reason="cancelled")
    late = given(ROTATE_PASSWORD, RotatePassword(*ADA))
    made = late.sends(GenerateSuccessor("ada"))
    made.replies(SuccessorGenerated("ada", made.command_id, "sealed"))
    with pytest.raises(DomainError, match="past-pivot"):
        late.cancel("ada")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda saga: saga.sends(GeneratePassword("bob")), "expected"),
        (lambda saga: saga.ends("COMPLETED"), "COMPLETED"),
        (lambda saga: saga.stands("RUNNING").ends("RUNNING"), "also sent"),
    ],
)
def test_an_expectation_that_is_not_met_says_both(wrong: object, named: str) -> None:
    """A conversation that cannot fail would promise nothing."""
    with pytest.raises(AssertionError, match=named):
        wrong(given(ISSUE_PASSWORD, IssuePassword(*ADA)))  # type: ignore[operator]
