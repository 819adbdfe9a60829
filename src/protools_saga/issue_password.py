"""Define the workflow `issue-password`: generate a password, then mail its link."""

from __future__ import annotations

from correo.messages import SendPasswordMail
from generador.messages import GeneratePassword, PasswordGenerated, RevokePassword
from pulsaga.saga.definition import Data, Every, Saga, Step, hours, minutes


def generate_password(data: Data) -> GeneratePassword:
    """Ask generador for a password."""
    return GeneratePassword(username=data["username"])


def password_generated(reply: PasswordGenerated) -> Data:
    """Learn the sealed token of the link."""
    return {"sealed_token": reply.sealed_token}


def revoke_password(data: Data, undoes: str) -> RevokePassword:
    """Ask generador to destroy what the command `undoes` made."""
    return RevokePassword(username=data["username"], undoes=undoes)


def send_mail(data: Data) -> SendPasswordMail:
    """Ask correo to mail the link."""
    return SendPasswordMail(username=data["username"], email=data["email"], sealed_token=data["sealed_token"])


ISSUE_PASSWORD = Saga(
    name="issue-password",
    steps=[
        Step(
            command=generate_password,
            learn=password_generated,
            compensation=revoke_password,
            retry=Every(seconds=5),
            deadline=minutes(15),
        ),
        Step(command=send_mail, pivot=True, retry=Every(seconds=5), deadline=hours(1), late="ignore"),
    ],
)
