"""Prepare a real broker and real databases again and again; be stopped by a schema that would break somebody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect
from tests.contract.brokers import EmbeddedServer

from generador.messages import GeneratePassword
from pulsaga.broker import BrokerAdmin, connect_admin
from pulsaga.delivery.avro import versions_of
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import Contract, contract_of, new_id
from pulsaga.delivery.tables import DELIVERY
from pulsaga.errors import SchemaIncompatible
from pulsaga.settings import Settings
from pulsaga_program.bootstrap import bootstrap, prepare_broker
from system import SYSTEM

KEYS = dict.fromkeys(
    ("VAULT_KEY", "LINK_KEY", "TOKEN_KEY", "RESET_KEY", "SIGNING_KEY", "INTERNAL_TOKEN", "WEBHOOK_SECRET"),
    "aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk=",
)


@pytest.fixture(params=["embedded", "pulsar"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A broker and databases that nothing was prepared on yet."""
    name = f"b{new_id()[-10:]}"
    common = {"PROTOOLS_HOME": str(tmp_path), "BROKER_NAMESPACE": name, **KEYS}
    if request.param == "embedded":
        server = EmbeddedServer(tmp_path)
        server.start()
        yield Settings.read({**common, "BROKER_URL": server.url})
        server.stop()
        return
    pulsar, postgres = request.getfixturevalue("pulsar"), request.getfixturevalue("postgres")
    names = {"DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    yield Settings.read({**common, **pulsar.environment(), **postgres.environment(), **names})


def admin_of(settings: Settings) -> BrokerAdmin:
    return connect_admin(settings.broker_url, settings.broker_admin_url, settings.namespace)


def tables_of(settings: Settings) -> dict[str, list[str]]:
    """Every table of every database, by service and side."""
    found = {}
    for service in SYSTEM.names:
        for side in ("write", "read"):
            engine = open_database(settings, service, side, "owner")
            found[f"{service} {side}"] = sorted(inspect(engine).get_table_names())
            engine.dispose()
    return found


def what_there_is(settings: Settings) -> dict[str, Any]:
    """Topics with their subscriptions, and tables."""
    admin = admin_of(settings)
    topics = {topic: admin.subscriptions(topic) for topic in admin.topics()}
    admin.close()
    return {"topics": topics, "tables": tables_of(settings)}


def test_bootstrap_prepares_everything_and_a_second_time_changes_nothing(settings: Settings) -> None:
    """`protools up` runs it at every start."""
    bootstrap(SYSTEM, settings)
    first = what_there_is(settings)
    for name in SYSTEM.names:
        service = SYSTEM[name]
        assert {contract_of(cls).name for cls in service.messages} <= first["topics"].keys()
        assert all(name in first["topics"][topic] for topic in service.consumes)
        assert all(service.projector in first["topics"][topic] for topic in service.projects)
        assert set(DELIVERY.tables) <= set(first["tables"][f"{name} write"])
    bootstrap(SYSTEM, settings)
    assert what_there_is(settings) == first


def test_a_schema_that_would_break_somebody_stops_bootstrap_by_its_field_and_changes_nothing(
    settings: Settings,
) -> None:
    """A deployment that would make messages unreadable must not begin."""
    bootstrap(SYSTEM, settings, ["generador", "correo"])
    before = admin_of(settings).topics()
    broken = SYSTEM["protools_saga"], SYSTEM["generador"]
    breaking = json.dumps(
        {
            "type": "record",
            "name": "GeneratePassword",
            "namespace": "protools.generador",
            "fields": [{"name": "username", "type": "string"}, {"name": "tenant", "type": "string"}],
        }
    )

    def committed(contract: Contract) -> list[str]:
        return [breaking] if contract == contract_of(GeneratePassword) else versions_of(contract)

    with pytest.raises(SchemaIncompatible, match=r"generador\.generate-password.*tenant"):
        prepare_broker(admin_of(settings), broken, committed)
    assert admin_of(settings).topics() == before
