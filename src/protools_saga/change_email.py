"""The workflow `change-email`: mail a link to the new address, wait until it is used, then change and say so.

Without a confirmation in a day, or with a refusal, the old address stays what it has been all the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from correo.messages import SendMail
from protools_saga import messages
from pulsaga import BEARER, Access, Await, Saga, Step, hours, minutes
from usuarios.messages import AdoptEmail, DropProposal, EmailProposed, ProposeEmail


@dataclass(frozen=True)
class Change(messages.ChangeEmail):
    """What the workflow knows."""

    username: str = ""
    old_email: str = ""


def note_user(change: Change, reply: EmailProposed) -> Change:
    """Learn whose address it is, and where the user's mail went until now."""
    return replace(change, username=reply.username, old_email=reply.old_email)


CHANGE_EMAIL = Saga[Change](
    name="change-email",
    starts=messages.ChangeEmail,
    data=Change,
    subject=lambda change: change.user_id,
    access=Access(start=("caller", "admin"), owner=lambda command: f"usuarios~{command.user_id}", subject="user_id"),
    steps=[
        Step(
            lambda change: ProposeEmail(change.user_id, change.email),
            undo=lambda change, undoes: DropProposal(change.user_id, undoes),
            learn=note_user,
            deadline=minutes(15),
        ),
        Step(
            lambda change: SendMail("confirm-email", change.username, change.email),
            token_for=messages.ConfirmEmail,
            deadline=hours(1),
            late="ignore",
        ),
        Await(messages.ConfirmEmail, by=BEARER, deadline=hours(24), early=True, late="ignore"),
        Step(lambda change: AdoptEmail(change.user_id, change.email), pivot=True, deadline=hours(1), late="ignore"),
        Step(lambda change: SendMail("email-changed", change.username, change.old_email), deadline=hours(24)),
    ],
)
