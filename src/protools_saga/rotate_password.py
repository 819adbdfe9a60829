"""The workflow `rotate-password`: make a next password beside the valid one, mail its link, retire the old.

The old password stays valid until the mail is out; a rotation that is given up leaves it exactly as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from correo.messages import SendPasswordMail
from generador.messages import DropSuccessor, GenerateSuccessor, RetirePassword, SuccessorGenerated
from protools_saga.issue_password import ACCESS
from protools_saga.messages import RotatePassword
from pulsaga import Saga, Step, hours, minutes


@dataclass(frozen=True)
class Rotation(RotatePassword):
    """What the workflow knows."""

    sealed_token: str = ""
    """Of the mail's link."""
    successor: str = ""
    """Command id of what made the next password."""


def note_successor(rotation: Rotation, reply: SuccessorGenerated) -> Rotation:
    """Learn the sealed token of the link, and which successor becomes valid in the end."""
    return replace(rotation, sealed_token=reply.sealed_token, successor=reply.successor)


ROTATE_PASSWORD = Saga[Rotation](
    name="rotate-password",
    starts=RotatePassword,
    data=Rotation,
    subject=lambda rotation: rotation.username,
    access=ACCESS,
    steps=[
        Step(
            lambda rotation: GenerateSuccessor(rotation.username),
            undo=lambda rotation, undoes: DropSuccessor(rotation.username, undoes),
            learn=note_successor,
            deadline=minutes(15),
        ),
        Step(
            lambda rotation: SendPasswordMail(rotation.username, rotation.email, rotation.sealed_token),
            pivot=True,
            deadline=hours(1),
            late="ignore",
        ),
        Step(lambda rotation: RetirePassword(rotation.username, rotation.successor), deadline=hours(24)),
    ],
)
