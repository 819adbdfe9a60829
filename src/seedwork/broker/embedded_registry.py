"""Answer the embedded broker's calls that concern topics, schemas and durable subscriptions only.

Each is a function of the store and the caller's namespace, run inside the turn's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pulsaga.broker.compatibility import check_compatible, same_schema
from pulsaga.broker.embedded_store import Store
from pulsaga.errors import SchemaIncompatible, Unavailable


def known_topic(store: Store, namespace: str, topic: str) -> int:
    """Return the id of a topic that must be there; raise Unavailable when bootstrap has yet to create it."""
    found = store.topic(namespace, topic)
    if found is None:
        raise Unavailable(f"{topic}: there is no such topic in namespace {namespace}")
    return found


def writable_topic(store: Store, namespace: str, topic: str, version: int) -> int:
    """Return the id of a topic that takes messages under this schema version; raise SchemaIncompatible otherwise."""
    found = store.topic(namespace, topic)
    if found is None:
        raise SchemaIncompatible(f"{topic}: there is no such topic in namespace {namespace}, so no schema either")
    if not store.has_schema(found, version):
        raise SchemaIncompatible(f"{topic}: schema version {version} is not registered")
    return found


def _version(store: Store, namespace: str, topic: str, avsc: str) -> int:
    found = store.topic(namespace, topic)
    for version, text in enumerate(store.schemas(found), 1):
        if same_schema(text, avsc):
            return version
    raise SchemaIncompatible(f"{topic}: this schema is not registered in namespace {namespace}")


def _schema(store: Store, namespace: str, topic: str, version: int) -> str:
    texts = store.schemas(store.topic(namespace, topic))
    if not 0 < version <= len(texts):
        raise SchemaIncompatible(f"{topic}: schema version {version} is not registered")
    return texts[version - 1]


def _schemas(store: Store, namespace: str, topic: str) -> list[str]:
    return store.schemas(store.topic(namespace, topic))


def _check_schema(store: Store, namespace: str, topic: str, avsc: str) -> None:
    check_compatible(topic, avsc, store.schemas(store.topic(namespace, topic)))


def _register_schema(store: Store, namespace: str, topic: str, avsc: str) -> None:
    found = known_topic(store, namespace, topic)
    registered = store.schemas(found)
    if not any(same_schema(text, avsc) for text in registered):
        check_compatible(topic, avsc, registered)
        store.add_schema(found, avsc)


def _create_subscription(store: Store, namespace: str, topic: str, name: str) -> None:
    store.subscription(known_topic(store, namespace, topic), name)


def _subscriptions(store: Store, namespace: str, topic: str) -> list[str]:
    return store.subscriptions(known_topic(store, namespace, topic))


def _ping(_store: Store, _namespace: str) -> None:
    """Answer, which is all."""


METHODS: Mapping[str, Callable[..., Any]] = {
    "ping": _ping,
    "topics": Store.topics,
    "create_topic": Store.create_topic,
    "version": _version,
    "schema": _schema,
    "schemas": _schemas,
    "check_schema": _check_schema,
    "register_schema": _register_schema,
    "create_subscription": _create_subscription,
    "subscriptions": _subscriptions,
}
