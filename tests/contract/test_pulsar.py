"""Keep what is particular to Pulsar: topics that the broker itself closes to producers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable

import pytest
from tests.contract.brokers import Stage, texts, wire

from pulsaga.broker import Broker
from pulsaga.broker.pulsar_admin import TENANT
from pulsaga.errors import NotConfirmed

OPEN, CLOSED = "room.open", "room.closed"


ON_PULSAR = pytest.mark.parametrize("stage", [pytest.param("pulsar", marks=pytest.mark.pulsar)], indirect=True)


def ask(stage: Stage, method: str, path: str, body: object = None) -> None:
    url = f"{stage.server.admin_url}/admin/v2/{path}"
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    urllib.request.urlopen(request, timeout=30).close()


def terminate(stage: Stage) -> None:
    """End a topic for good, as an operator may."""
    ask(stage, "POST", f"persistent/{TENANT}/{stage.namespace}/{CLOSED}/terminate")


def forget_schema(stage: Stage) -> None:
    """Delete a topic's schema, which nobody may register but bootstrap; who is connected stays so."""
    ask(stage, "DELETE", f"schemas/{TENANT}/{stage.namespace}/{CLOSED}/schema?force=true")


@ON_PULSAR
@pytest.mark.parametrize(("close", "anew"), [(terminate, False), (terminate, True), (forget_schema, True)])
def test_a_topic_that_the_broker_closes_holds_up_no_other(
    stage: Stage, close: Callable[[Stage], None], anew: bool
) -> None:
    """Seven of 160 sagas that never needed it were done after a minute."""
    for topic in (OPEN, CLOSED):
        stage.topic(topic)
    broker: Broker = stage.connect()
    broker.publish([wire(topic, text="before") for topic in (OPEN, CLOSED)])
    close(stage)
    if anew:
        broker = stage.connect()
    for turn in range(3):
        with pytest.raises(NotConfirmed) as caught:
            broker.publish([wire(topic, text=f"{turn}") for topic in (CLOSED, OPEN)])
        assert caught.value.topics == {CLOSED}
    assert broker.is_connected()
    assert texts(broker.subscribe("reader", [OPEN]), 4) == ["before", "0", "1", "2"]
