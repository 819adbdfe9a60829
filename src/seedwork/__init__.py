"""Sagas over Apache Pulsar: the names that services, workflows and systems are written with.

Nothing is imported before it is asked for, so that a module which only declares messages loads no more than that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulsaga.delivery.inbox import Handler as Handler
    from pulsaga.delivery.loop import Due as Due
    from pulsaga.delivery.loop import Duty as Duty
    from pulsaga.delivery.messages import Context as Context
    from pulsaga.delivery.messages import Message as Message
    from pulsaga.delivery.messages import command as command
    from pulsaga.delivery.messages import contract_of as contract_of
    from pulsaga.delivery.messages import event as event
    from pulsaga.delivery.messages import new_id as new_id
    from pulsaga.delivery.projection import Projection as Projection
    from pulsaga.delivery.rows import Row as Row
    from pulsaga.delivery.rows import Rows as Rows
    from pulsaga.delivery.rows import one_of as one_of
    from pulsaga.delivery.tables import Id as Id
    from pulsaga.delivery.tables import index_where as index_where
    from pulsaga.delivery.tables import partial_index as partial_index
    from pulsaga.delivery.unit_of_work import UnitOfWork as UnitOfWork
    from pulsaga.errors import DefinitionError as DefinitionError
    from pulsaga.errors import DomainError as DomainError
    from pulsaga.errors import ProtoolsError as ProtoolsError
    from pulsaga.errors import SettingError as SettingError
    from pulsaga.errors import Unavailable as Unavailable
    from pulsaga.saga.definition import Every as Every
    from pulsaga.saga.definition import Saga as Saga
    from pulsaga.saga.definition import Step as Step
    from pulsaga.saga.definition import hours as hours
    from pulsaga.saga.definition import minutes as minutes
    from pulsaga.settings import Settings as Settings
    from pulsaga.settings import setting as setting
    from pulsaga.system import Runtime as Runtime
    from pulsaga.system import Service as Service
    from pulsaga.system import System as System

PLACES = {
    "Context": "pulsaga.delivery.messages",
    "DefinitionError": "pulsaga.errors",
    "DomainError": "pulsaga.errors",
    "Due": "pulsaga.delivery.loop",
    "Duty": "pulsaga.delivery.loop",
    "Every": "pulsaga.saga.definition",
    "Handler": "pulsaga.delivery.inbox",
    "Id": "pulsaga.delivery.tables",
    "Message": "pulsaga.delivery.messages",
    "Projection": "pulsaga.delivery.projection",
    "ProtoolsError": "pulsaga.errors",
    "Row": "pulsaga.delivery.rows",
    "Rows": "pulsaga.delivery.rows",
    "Runtime": "pulsaga.system",
    "Saga": "pulsaga.saga.definition",
    "Service": "pulsaga.system",
    "SettingError": "pulsaga.errors",
    "Settings": "pulsaga.settings",
    "Step": "pulsaga.saga.definition",
    "System": "pulsaga.system",
    "Unavailable": "pulsaga.errors",
    "UnitOfWork": "pulsaga.delivery.unit_of_work",
    "command": "pulsaga.delivery.messages",
    "contract_of": "pulsaga.delivery.messages",
    "event": "pulsaga.delivery.messages",
    "hours": "pulsaga.saga.definition",
    "index_where": "pulsaga.delivery.tables",
    "minutes": "pulsaga.saga.definition",
    "new_id": "pulsaga.delivery.messages",
    "one_of": "pulsaga.delivery.rows",
    "partial_index": "pulsaga.delivery.tables",
    "setting": "pulsaga.settings",
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"pulsaga offers no {name}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(PLACES)
