"""The declaration of a front door: which paths callers start workflows by, and how their commands are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from pulsaga.delivery.messages import contract_of
from pulsaga.saga.definition import Access, Saga
from pulsaga.saga.messages import CancelSaga
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.web.contract import Parameter, Shape

Said = Mapping[str, Any]
"""A loaded body."""
Begin = Callable[[Said, Settings], Any]
"""Loaded body and settings → the command that starts a workflow; raises the Problem 422 for what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link from a command to what it is about."""

    name: str
    path: Callable[[str], str]
    """The command's subject, or its id → a path."""
    description: str
    example: str
    view: str
    """Name of the view that it leads to."""
    parameter: str
    """Of that view: what takes the subject, or the id."""
    by_id: bool = False
    """Whether what the command makes bears the command's id."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What an entrance answers instead of its command, which the caller is not to know of."""

    shape: type[Shape]
    document: Callable[[str], Mapping[str, Any]]
    """The command's id → the document."""
    description: str
    status: int = 201
    wait_s: int = 5
    """Seconds for which it stays for the command's end, at most WAIT_LIMIT; `Prefer: wait` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Entrance:
    """A path by which callers start workflows, with a body of its own.

    What stands in the path between `<` and `>` is said with the body, under that name.
    """

    path: str
    name: str
    """By which clients call it: the operationId."""
    about: str
    """Its first paragraph is the summary, the rest the description."""
    takes: Shape | None
    """The body; None where what is in the path says it all."""
    begin: Begin
    workflows: tuple[str, ...]
    """The workflows that it starts; their own paths below `/workflows` are shut."""
    links: tuple[Link, ...] = ()
    """Of the commands of these workflows."""
    method: Literal["POST", "PUT", "DELETE"] = "POST"
    parameters: tuple[Parameter, ...] = ()
    """Of the path."""
    cancelled_at: str = ""
    """A path with `<identifier>`, the command's id: DELETE cancels there what was begun here."""
    problems: Mapping[int, str] = field(default_factory=dict)
    """Statuses by which its `begin` refuses beside 422, and why."""
    scope: str = ""
    """What keeps an idempotency key apart from the same key and body at another path."""
    shown: Shown | None = None
    by_request_id: bool = False
    """Whether any X-Request-Id is an idempotency key here; elsewhere only one that is a GUID."""


@dataclass(frozen=True)
class CommandView:
    """How the commands of one workflow are shown."""

    type: str
    subject: str = Access.subject
    links: tuple[Link, ...] = ()


Views = Mapping[str, CommandView]
"""By the name of a workflow, and by that of its starting command, which is all that is known before a saga exists."""


def view_of(views: Views, name: str) -> CommandView:
    """Return how a command is shown; of a workflow that is no more, as most are."""
    return views.get(name) or CommandView(name)


@dataclass(frozen=True)
class FrontDoor:
    """What the front door of a system is made of: its workflows, and the entrances that the application declares."""

    system: System
    entrances: Sequence[Entrance] = ()

    @property
    def cancel(self) -> type[CancelSaga]:
        """The command that cancels a saga."""
        return self.system.sagas.cancel

    @property
    def by_command(self) -> Mapping[type, Saga[Any]]:
        """The workflow that each command starts."""
        return self.system.sagas.starting

    @cached_property
    def by_name(self) -> Mapping[str, Saga[Any]]:
        """The newest version of each workflow."""
        return {saga.name: saga for saga in sorted(self.system.workflows, key=lambda saga: saga.version)}

    @cached_property
    def views(self) -> Views:
        """How the commands of each workflow are shown."""
        views = {name: self._view(saga) for name, saga in self.by_name.items()}
        words = {contract_of(command).name.partition(".")[2]: saga.name for command, saga in self.by_command.items()}
        return {word: views[name] for word, name in words.items()} | views

    def _view(self, saga: Saga[Any]) -> CommandView:
        links = (entrance.links for entrance in self.entrances if saga.name in entrance.workflows)
        subject = saga.access.subject if saga.access else Access.subject
        return CommandView(saga.name, subject, tuple(chain.from_iterable(links)))
