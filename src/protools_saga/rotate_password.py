"""Define the workflow `rotate-password`: make a next password beside the valid one, mail its link, retire the old.

The old password stays valid until the mail is out; a rotation that is given up leaves it exactly as it was.
"""

from __future__ import annotations

from generador.messages import DropSuccessor, GenerateSuccessor, RetirePassword, SuccessorGenerated
from protools_saga.issue_password import send_mail
from pulsaga.saga.definition import Data, Every, Saga, Step, hours, minutes


def generate_successor(data: Data) -> GenerateSuccessor:
    """Ask generador for a next password."""
    return GenerateSuccessor(username=data["username"])


def successor_generated(reply: SuccessorGenerated) -> Data:
    """Learn the sealed token of the link, and which successor is to be valid in the end."""
    return {"sealed_token": reply.sealed_token, "successor": reply.successor}


def drop_successor(data: Data, undoes: str) -> DropSuccessor:
    """Ask generador to destroy what the command `undoes` made."""
    return DropSuccessor(username=data["username"], undoes=undoes)


def retire_password(data: Data) -> RetirePassword:
    """Ask generador to put the successor in the place of the old password."""
    return RetirePassword(username=data["username"], successor=data["successor"])


ROTATE_PASSWORD = Saga(
    name="rotate-password",
    steps=[
        Step(
            command=generate_successor,
            learn=successor_generated,
            compensation=drop_successor,
            retry=Every(seconds=5),
            deadline=minutes(15),
        ),
        Step(command=send_mail, pivot=True, retry=Every(seconds=5), deadline=hours(1), late="ignore"),
        Step(command=retire_password, retry=Every(seconds=5), deadline=hours(24)),
    ],
)
