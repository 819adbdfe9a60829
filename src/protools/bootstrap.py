"""Prepare broker and databases for every service. Idempotent; a schema that would break anybody stops it first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import structlog
from sqlalchemy import delete, insert, select

from pulsaga.broker import Action, BrokerAdmin, connect_admin
from pulsaga.delivery import database
from pulsaga.delivery.avro import versions_of
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import Contract, contract_of
from pulsaga.saga.tables import expected
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.databases import prepare_databases

log = structlog.get_logger()


Counts = Mapping[tuple[str, str], int]
"""How many processes of a service and a kind are to run."""


def bootstrap(
    system: System, settings: Settings, names: Sequence[str] = (), counts: Counts = MappingProxyType({})
) -> None:
    """Create what is missing: namespace, topics, schemas, subscriptions, databases, roles, tables.

    Write down how many processes are to run: `counts`, else what was said before, else one of each.
    Raise SchemaIncompatible, naming topic and field, before anything is changed; Unavailable when something is down.
    """
    services = [system[name] for name in names or system.names]
    admin = connect_admin(
        settings.broker_url,
        settings.broker_admin_url,
        settings.namespace,
        settings.broker_access,
        partitions=settings.partitions,
    )
    try:
        prepare_broker(admin, services)
        if settings.broker_role_prefix is not None:
            grant_rights(admin, system, services, settings.broker_role_prefix)
    finally:
        admin.close()
    for service in services:
        prepare_databases(system, settings, service)
    if system.coordinator in services:
        expect(system, settings, counts)
    log.info("bootstrapped", services=",".join(service.name for service in services))


def expect(system: System, settings: Settings, counts: Counts) -> None:
    """Write down how many processes are to run, for the coordinator to watch over."""
    engine = open_database(settings, system.name, "write", "owner")
    try:
        with engine.begin() as tx:
            now = database.now(tx, settings.clock_offset)
            kept = {(row.service, row.kind): row.count for row in tx.execute(select(expected))}
            wanted = {process: counts.get(process, kept.get(process, 1)) for process in system.processes}
            tx.execute(delete(expected))
            rows = [{"service": name, "kind": kind, "count": n, "at": now} for (name, kind), n in wanted.items()]
            tx.execute(insert(expected), rows)
    finally:
        engine.dispose()


def prepare_broker(
    admin: BrokerAdmin, services: Sequence[Service], committed: Callable[[Contract], list[str]] = versions_of
) -> None:
    """Check every committed schema, then create namespace, topics with their schemas, and subscriptions.

    A part of a system hears of services that are not in it: their topics are made, too.
    """
    said_and_heard = dict.fromkeys(cls for s in services for cls in (*s.messages, *s.handling, *s.projecting))
    schemas = [(contract_of(cls).name, text) for cls in said_and_heard for text in committed(contract_of(cls))]
    for topic, text in schemas:
        admin.check_schema(topic, text)
    admin.prepare_namespace()
    for topic, text in schemas:
        admin.create_topic(topic)
        admin.register_schema(topic, text)
    for service in services:
        for topic, name in service.subscriptions:
            admin.create_subscription(topic, name)


def grant_rights(admin: BrokerAdmin, system: System, services: Sequence[Service], prefix: str) -> None:
    """Let each service say what is its own to say, send the commands it sends, and hear what it consumes; no more."""
    for (service, topic), actions in rights_of(system, services).items():
        admin.grant(prefix + service, topic, sorted(actions))
    for speaker in services:  # every process broadcasts its heartbeat there
        admin.grant_live(prefix + speaker.name, ["consume", "produce"])


def rights_of(system: System, services: Sequence[Service]) -> dict[tuple[str, str], set[Action]]:
    """Return what each service needs on each topic: the coordinator sends commands to all, the front door to it."""
    rights: dict[tuple[str, str], set[Action]] = defaultdict(set)
    for service in services:
        for contract in (contract_of(cls) for cls in service.messages):
            rights[_speaker_of(system, contract), contract.name].add("produce")
        for topic in (*service.consumes, *service.projects):
            rights[service.name, topic].add("consume")
    return rights


def _speaker_of(system: System, contract: Contract) -> str:
    if contract.kind == "event":
        return contract.owner
    door = system.door or system.coordinator
    return door.name if contract.owner == system.name else system.name
