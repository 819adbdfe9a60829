"""Sagas over Apache Pulsar: the names that services, workflows and systems are written with.

Nothing is imported before it is asked for, so that a module which only declares messages loads no more than that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulsaga import faults as faults
    from pulsaga import values as values
    from pulsaga.delivery.blame import verdict as verdict
    from pulsaga.delivery.database import open_database as open_database
    from pulsaga.delivery.dispatch.handlers import Handler as Handler
    from pulsaga.delivery.dispatch.reader import Received as Received
    from pulsaga.delivery.forgetting import forget_after as forget_after
    from pulsaga.delivery.loop import Due as Due
    from pulsaga.delivery.loop import Duty as Duty
    from pulsaga.delivery.messages import CommandRefused as CommandRefused
    from pulsaga.delivery.messages import Context as Context
    from pulsaga.delivery.messages import Message as Message
    from pulsaga.delivery.messages import command as command
    from pulsaga.delivery.messages import contract_of as contract_of
    from pulsaga.delivery.messages import event as event
    from pulsaga.delivery.messages import new_id as new_id
    from pulsaga.delivery.messages import refused_by as refused_by
    from pulsaga.delivery.projection import Projection as Projection
    from pulsaga.delivery.tables import Id as Id
    from pulsaga.delivery.tables import index_where as index_where
    from pulsaga.delivery.tables import pack_context as pack_context
    from pulsaga.delivery.tables import partial_index as partial_index
    from pulsaga.delivery.tables import unpack_context as unpack_context
    from pulsaga.delivery.transaction.claims import claim as claim
    from pulsaga.delivery.transaction.claims import report_apart as report_apart
    from pulsaga.delivery.transaction.claims import report_held as report_held
    from pulsaga.delivery.transaction.rows import Row as Row
    from pulsaga.delivery.transaction.rows import Rows as Rows
    from pulsaga.delivery.transaction.rows import one_of as one_of
    from pulsaga.delivery.transaction.unit_of_work import UnitOfWork as UnitOfWork
    from pulsaga.delivery.transaction.unit_of_work import about as about
    from pulsaga.delivery.transaction.unit_of_work import rfc3339 as rfc3339
    from pulsaga.delivery.waiting import Waiting as Waiting
    from pulsaga.errors import DefinitionError as DefinitionError
    from pulsaga.errors import DomainError as DomainError
    from pulsaga.errors import ProtoolsError as ProtoolsError
    from pulsaga.errors import SettingError as SettingError
    from pulsaga.errors import Stale as Stale
    from pulsaga.errors import Unavailable as Unavailable
    from pulsaga.operate.erasing import Erasure as Erasure
    from pulsaga.operate.erasing import Person as Person
    from pulsaga.operate.listing import Listing as Listing
    from pulsaga.operate.listing import lists as lists
    from pulsaga.operate.verify import Check as Check
    from pulsaga.operate.verify import Checks as Checks
    from pulsaga.operate.verify import FactTable as FactTable
    from pulsaga.operate.verify import Floor as Floor
    from pulsaga.running.process import Process as Process
    from pulsaga.running.runtime import Runtime as Runtime
    from pulsaga.saga.calendar import Schedule as Schedule
    from pulsaga.saga.definition import Access as Access
    from pulsaga.saga.definition import Saga as Saga
    from pulsaga.saga.steps import BEARER as BEARER
    from pulsaga.saga.steps import OWNER as OWNER
    from pulsaga.saga.steps import Await as Await
    from pulsaga.saga.steps import Child as Child
    from pulsaga.saga.steps import Each as Each
    from pulsaga.saga.steps import Every as Every
    from pulsaga.saga.steps import ForEach as ForEach
    from pulsaga.saga.steps import Limit as Limit
    from pulsaga.saga.steps import Parallel as Parallel
    from pulsaga.saga.steps import Sleep as Sleep
    from pulsaga.saga.steps import Step as Step
    from pulsaga.saga.steps import When as When
    from pulsaga.saga.steps import hours as hours
    from pulsaga.saga.steps import minutes as minutes
    from pulsaga.sealing import seal as seal
    from pulsaga.sealing import seal_text as seal_text
    from pulsaga.sealing import unseal as unseal
    from pulsaga.sealing import unseal_by_any as unseal_by_any
    from pulsaga.sealing import unseal_text as unseal_text
    from pulsaga.service import Service as Service
    from pulsaga.settings import Settings as Settings
    from pulsaga.settings import old_file as old_file
    from pulsaga.settings import setting as setting
    from pulsaga.system import System as System
    from pulsaga.telemetry.logs import Level as Level
    from pulsaga.telemetry.traces import record_call as record_call
    from pulsaga.text import DETAIL_CHARACTERS as DETAIL_CHARACTERS
    from pulsaga.text import printable as printable

PLACES = {
    "Access": "pulsaga.saga.definition",
    "Await": "pulsaga.saga.steps",
    "Check": "pulsaga.operate.verify",
    "Checks": "pulsaga.operate.verify",
    "Child": "pulsaga.saga.steps",
    "CommandRefused": "pulsaga.delivery.messages",
    "Context": "pulsaga.delivery.messages",
    "DETAIL_CHARACTERS": "pulsaga.text",
    "DefinitionError": "pulsaga.errors",
    "DomainError": "pulsaga.errors",
    "Due": "pulsaga.delivery.loop",
    "Duty": "pulsaga.delivery.loop",
    "Waiting": "pulsaga.delivery.waiting",
    "Each": "pulsaga.saga.steps",
    "Erasure": "pulsaga.operate.erasing",
    "Every": "pulsaga.saga.steps",
    "FactTable": "pulsaga.operate.verify",
    "Floor": "pulsaga.operate.verify",
    "ForEach": "pulsaga.saga.steps",
    "Handler": "pulsaga.delivery.dispatch.handlers",
    "Id": "pulsaga.delivery.tables",
    "Level": "pulsaga.telemetry.logs",
    "Limit": "pulsaga.saga.steps",
    "Listing": "pulsaga.operate.listing",
    "Message": "pulsaga.delivery.messages",
    "BEARER": "pulsaga.saga.steps",
    "OWNER": "pulsaga.saga.steps",
    "Parallel": "pulsaga.saga.steps",
    "Process": "pulsaga.running.process",
    "Person": "pulsaga.operate.erasing",
    "Projection": "pulsaga.delivery.projection",
    "ProtoolsError": "pulsaga.errors",
    "Received": "pulsaga.delivery.dispatch.reader",
    "Row": "pulsaga.delivery.transaction.rows",
    "Rows": "pulsaga.delivery.transaction.rows",
    "Runtime": "pulsaga.running.runtime",
    "Saga": "pulsaga.saga.definition",
    "Schedule": "pulsaga.saga.calendar",
    "Service": "pulsaga.service",
    "SettingError": "pulsaga.errors",
    "Settings": "pulsaga.settings",
    "Sleep": "pulsaga.saga.steps",
    "Stale": "pulsaga.errors",
    "Step": "pulsaga.saga.steps",
    "System": "pulsaga.system",
    "Unavailable": "pulsaga.errors",
    "UnitOfWork": "pulsaga.delivery.transaction.unit_of_work",
    "When": "pulsaga.saga.steps",
    "about": "pulsaga.delivery.transaction.unit_of_work",
    "claim": "pulsaga.delivery.transaction.claims",
    "command": "pulsaga.delivery.messages",
    "contract_of": "pulsaga.delivery.messages",
    "event": "pulsaga.delivery.messages",
    "faults": "pulsaga.faults",
    "forget_after": "pulsaga.delivery.forgetting",
    "hours": "pulsaga.saga.steps",
    "index_where": "pulsaga.delivery.tables",
    "lists": "pulsaga.operate.listing",
    "minutes": "pulsaga.saga.steps",
    "new_id": "pulsaga.delivery.messages",
    "old_file": "pulsaga.settings",
    "one_of": "pulsaga.delivery.transaction.rows",
    "open_database": "pulsaga.delivery.database",
    "pack_context": "pulsaga.delivery.tables",
    "partial_index": "pulsaga.delivery.tables",
    "printable": "pulsaga.text",
    "record_call": "pulsaga.telemetry.traces",
    "refused_by": "pulsaga.delivery.messages",
    "report_apart": "pulsaga.delivery.transaction.claims",
    "report_held": "pulsaga.delivery.transaction.claims",
    "rfc3339": "pulsaga.delivery.transaction.unit_of_work",
    "seal": "pulsaga.sealing",
    "seal_text": "pulsaga.sealing",
    "setting": "pulsaga.settings",
    "unpack_context": "pulsaga.delivery.tables",
    "unseal": "pulsaga.sealing",
    "unseal_by_any": "pulsaga.sealing",
    "unseal_text": "pulsaga.sealing",
    "values": "pulsaga.values",
    "verdict": "pulsaga.delivery.blame",
}
"""Where each public name is defined; a module stands for itself."""


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"pulsaga offers no {name}")
    module = import_module(PLACES[name])
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted(PLACES)
