"""Prepare broker and databases for every service. Idempotent; a schema that would break anybody stops it first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from protools.databases import prepare_databases
from protools.services import SERVICES
from seedwork.avro import versions_of
from seedwork.broker import BrokerAdmin, connect_admin
from seedwork.messages import Contract
from seedwork.service import Service, load
from seedwork.settings import Settings

log = structlog.get_logger()


def bootstrap(settings: Settings, names: Sequence[str] = SERVICES) -> None:
    """Create what is missing: namespace, topics, schemas, subscriptions, databases, roles, tables.

    Raise SchemaIncompatible, naming topic and field, before anything is changed; Unavailable when something is down.
    """
    services = [load(name) for name in names]
    admin = connect_admin(settings.broker_url, settings.broker_admin_url, settings.namespace)
    try:
        prepare_broker(admin, services)
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
            admin.create_subscription(topic, projector_of(service.name))


def projector_of(service: str) -> str:
    """Name the subscription of a service's projector."""
    return f"{service}-projector"
