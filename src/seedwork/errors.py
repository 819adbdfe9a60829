"""Name every way in which Protools can say no.

ProtoolsError
├── SettingError          a wrong value in the environment; the program stops at start
├── DefinitionError       a system that cannot work as it is declared; nothing starts
├── DomainError           a business no: it is an answer, never retried
├── Unavailable           something else is down: wait, uncounted
│   └── NotConfirmed      some topics took their messages, others did not
├── MessageRejected       this message can never be sent or read
│   ├── MessageTooLarge   over the broker's limit; refused at the sender
│   └── Undecodable       not an envelope and body of ours
├── SchemaIncompatible    a schema would break a reader or a writer; the field is named
└── Stale                 a row changed since it was read; the batch runs again
"""

from __future__ import annotations

from collections.abc import Mapping


class ProtoolsError(Exception):
    """Root of all errors that Protools raises on purpose."""


class SettingError(ProtoolsError):
    """An environment variable whose value cannot be used; the message names it."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")
        self.variable = variable


class DefinitionError(ProtoolsError):
    """A declaration of a system, service or workflow that cannot work; the message names it."""


class DomainError(ProtoolsError):
    """A business no, with a stable code and a detail for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Unavailable(ProtoolsError):
    """Something that this work depends on is down for now."""


class NotConfirmed(Unavailable):
    """Say which topics did not take their messages, and why; those of all others are stored."""

    def __init__(self, refused: Mapping[str, ProtoolsError]) -> None:
        super().__init__("; ".join(f"{topic}: {error}" for topic, error in refused.items()))
        self.topics = frozenset(refused)


class MessageRejected(ProtoolsError):
    """Say that this message can never be sent or read."""


class MessageTooLarge(MessageRejected):
    """Say by how much a message is over the broker's limit."""


class Undecodable(MessageRejected):
    """Say which part of the received bytes is not ours."""


class SchemaIncompatible(ProtoolsError):
    """Say which topic and field would break, and change nothing."""


class Stale(ProtoolsError):
    """A row that a rival changed since this transaction read it."""
