"""The workflow `issue-password`: generate a password, then mail its link."""

from __future__ import annotations

from dataclasses import dataclass, replace

from correo.messages import SendPasswordMail
from generador.messages import GeneratePassword, PasswordGenerated, RevokePassword
from protools_saga.messages import IssuePassword
from pulsaga import Access, Saga, Step, hours, minutes

ACCESS = Access(start=("caller", "operator", "admin"), subject="username")


@dataclass(frozen=True)
class Issue(IssuePassword):
    """What the workflow knows."""

    sealed_token: str = ""
    """Of the mail's link."""


def note_token(issue: Issue, reply: PasswordGenerated) -> Issue:
    """Learn the sealed token of the link."""
    return replace(issue, sealed_token=reply.sealed_token)


ISSUE_PASSWORD = Saga[Issue](
    name="issue-password",
    starts=IssuePassword,
    data=Issue,
    subject=lambda issue: issue.username,
    access=ACCESS,
    steps=[
        Step(
            lambda issue: GeneratePassword(issue.username),
            undo=lambda issue, undoes: RevokePassword(issue.username, undoes),
            learn=note_token,
            deadline=minutes(15),
        ),
        Step(
            lambda issue: SendPasswordMail(issue.username, issue.email, issue.sealed_token),
            pivot=True,
            deadline=hours(1),
            late="ignore",
        ),
    ],
)
