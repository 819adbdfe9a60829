"""Prepare broker and databases for every service. Idempotent; a schema that would break anybody stops it first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from pulsaga.broker import Action, BrokerAdmin, connect_admin
from pulsaga.delivery.avro import versions_of
from pulsaga.delivery.messages import Contract
from pulsaga.settings import Settings
from pulsaga.system import Service, load
from pulsaga_program.databases import prepare_databases
from pulsaga_program.services import SERVICES

log = structlog.get_logger()


def bootstrap(settings: Settings, names: Sequence[str] = SERVICES) -> None:
    """Create what is missing: namespace, topics, schemas, subscriptions, databases, roles, tables.

    Raise SchemaIncompatible, naming topic and field, before anything is changed; Unavailable when something is down.
    """
    services = [load(name) for name in names]
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
            grant_rights(admin, services, settings.broker_role_prefix)
    finally:
        admin.close()
    for service in services:
        prepare_databases(settings, service)
    log.info("bootstrapped", services=",".join(names))


def prepare_broker(
    admin: BrokerAdmin, services: Sequence[Service], committed: Callable[[Contract], list[str]] = versions_of
) -> None:
    """Check every committed schema, then create namespace, topics with their schemas, and subscriptions."""
    schemas = [(cls.contract.name, text) for s in services for cls in s.messages for text in committed(cls.contract)]  # type: ignore[attr-defined]
    for topic, text in schemas:
        admin.check_schema(topic, text)
    admin.prepare_namespace()
    for topic, text in schemas:
        admin.create_topic(topic)
        admin.register_schema(topic, text)
    for service in services:
        for topic in service.consumes:
            admin.create_subscription(topic, service.name)
        for topic in service.projects:
            admin.create_subscription(topic, service.projector)


def grant_rights(admin: BrokerAdmin, services: Sequence[Service], prefix: str) -> None:
    """Let each service say what is its own to say, send the commands it sends, and hear what it consumes; no more."""
    for (service, topic), actions in rights_of(services).items():
        admin.grant(prefix + service, topic, sorted(actions))
    for speaker in services:  # every service looks topics up there, to see whether the broker answers
        admin.grant_live(prefix + speaker.name, ["consume", "produce"] if speaker.changed else ["consume"])


def rights_of(services: Sequence[Service]) -> dict[tuple[str, str], set[Action]]:
    """Return what each service needs on each topic."""
    rights: dict[tuple[str, str], set[Action]] = defaultdict(set)
    for service in services:
        for contract in (cls.contract for cls in service.messages):  # type: ignore[attr-defined]
            speaker = _sender_to(service.name) if contract.kind == "command" else service.name
            rights[speaker, contract.name].add("produce")
        for topic in (*service.consumes, *service.projects):
            rights[service.name, topic].add("consume")
    return rights


def _sender_to(receiver: str) -> str:
    """Name who sends a service its commands: the front door to the coordinator, the coordinator to everybody else."""
    return "bff" if receiver == "protools_saga" else "protools_saga"
