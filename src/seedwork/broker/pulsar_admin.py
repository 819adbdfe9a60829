"""Prepare a Pulsar cluster over its admin REST interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3

from pulsaga.broker import OPEN, Action, Advice, BrokerAccess, Owed
from pulsaga.broker.compatibility import check_compatible
from pulsaga.errors import SchemaIncompatible, Unavailable

TENANT = "protools"
WANTED = {
    "managedLedgerNewEntriesCheckDelayInMillis": ("0", "each message waits so many milliseconds at the tail"),
    "brokerDeleteInactiveTopicsEnabled": ("false", "topics that are idle go, with their schemas"),
    "acknowledgmentAtBatchIndexLevelEnabled": ("true", "an acknowledged message of a batch comes again with the rest"),
}
"""Settings of a broker on which speed and safety rest, and what another value costs."""
ASKED_AT_ONCE = 8
"""Topics whose state is asked for at the same time."""


class PulsarAdmin:
    """Prepare a Pulsar cluster through its admin REST interface (`/admin/v2`)."""

    def __init__(self, admin_url: str, namespace: str, access: BrokerAccess = OPEN, partitions: int = 1) -> None:
        headers = {"Authorization": f"Bearer {access.token}"} if access.token else None
        certs = str(access.trust_certs) if access.trust_certs else None
        timeout = urllib3.Timeout(connect=5, read=30)
        self._http = urllib3.PoolManager(
            maxsize=ASKED_AT_ONCE, timeout=timeout, retries=False, headers=headers, ca_certs=certs
        )
        self._base = f"{admin_url}/admin/v2"
        self._namespace = f"{TENANT}/{namespace}"
        self._partitions = partitions

    def prepare_namespace(self) -> None:
        """Create the tenant, the namespace with its policies, and the namespace of ephemeral topics."""
        clusters = json.loads(self._call("GET", "/clusters").data)
        self._call("PUT", f"/tenants/{TENANT}", {"adminRoles": [], "allowedClusters": clusters}, also=(409,))
        for namespace in (self._namespace, f"{self._namespace}-live"):
            self._call("PUT", f"/namespaces/{namespace}", also=(409,))
        for method, policy, value in POLICIES:
            self._call(method, f"/namespaces/{self._namespace}/{policy}", value)

    def topics(self) -> list[str]:
        names = json.loads(self._call("GET", f"/persistent/{self._namespace}").data)
        return sorted({name.rpartition("/")[2].partition("-partition-")[0] for name in names})

    def create_topic(self, topic: str) -> None:
        path = f"/persistent/{self._namespace}/{topic}"
        if self._partitions == 1:
            self._call("PUT", path, also=(409,))
        else:
            self._call("PUT", f"{path}/partitions", self._partitions, also=(409,))

    def check_schema(self, topic: str, avsc: str) -> None:
        check_compatible(topic, avsc, self.schemas(topic))

    def register_schema(self, topic: str, avsc: str) -> None:
        self.check_schema(topic, avsc)
        answer = self._call("POST", f"/schemas/{self._namespace}/{topic}/schema", _schema(avsc), also=(409,))
        if answer.status == 409:
            raise SchemaIncompatible(f"{topic}: {_reason(answer)}")

    def create_subscription(self, topic: str, name: str) -> None:
        self._call("PUT", f"/persistent/{self._namespace}/{topic}/subscription/{name}", "earliest", also=(409,))

    def subscriptions(self, topic: str) -> list[str]:
        return sorted(json.loads(self._call("GET", f"/persistent/{self._namespace}/{topic}/subscriptions").data))

    def owed(self) -> list[Owed]:
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            return [one for found in pool.map(self._owed, self.topics()) for one in found]

    def _owed(self, topic: str) -> list[Owed]:
        path, query = f"/persistent/{self._namespace}/{topic}", "getPreciseBacklog=true&subscriptionBacklogSize=false"
        answer = self._call("GET", f"{path}/stats?{query}", also=(404,))
        if answer.status == 404:  # it has partitions
            answer = self._call("GET", f"{path}/partitioned-stats?perPartition=false&{query}")
        found = sorted(json.loads(answer.data)["subscriptions"].items())
        return [Owed(topic, name, s["msgBacklog"], len(s.get("consumers", ()))) for name, s in found]

    def examine(self) -> tuple[str, list[Advice]]:
        version = self._call("GET", "/brokers/version").data.decode(errors="replace").strip()
        found = json.loads(self._call("GET", "/brokers/configuration/runtime").data)
        wrong = [
            Advice(f"{key} is {found[key]}", f"set it to {value} in broker.conf: {why}")
            for key, (value, why) in WANTED.items()
            if key in found and str(found[key]).lower() != value
        ]
        return f"Pulsar {version}", wrong + self._policies()

    def _policies(self) -> list[Advice]:
        found = json.loads(self._call("GET", f"/namespaces/{self._namespace}").data)
        ttl = found.get("message_ttl_in_seconds") or 0
        advice = [Advice(f"message TTL is {ttl} s", "remove it: it drops commands silently")] if ttl else []
        if found.get("is_allow_auto_update_schema", True) or not found.get("schema_validation_enforced", False):
            advice.append(Advice("producers may change schemas", "run `protools bootstrap`"))
        return advice

    def grant(self, role: str, topic: str, actions: Sequence[Action]) -> None:
        self._call("POST", f"/persistent/{self._namespace}/{topic}/permissions/{role}", list(actions))

    def grant_live(self, role: str, actions: Sequence[Action]) -> None:
        self._call("POST", f"/namespaces/{self._namespace}-live/permissions/{role}", list(actions))

    def close(self) -> None:
        self._http.clear()

    def schemas(self, topic: str) -> list[str]:
        answer = self._call("GET", f"/schemas/{self._namespace}/{topic}/schemas", also=(404,))
        found = [] if answer.status == 404 else json.loads(answer.data)["getSchemaResponses"]
        return [schema["data"] for schema in found]

    def _call(self, method: str, path: str, body: Any = None, also: tuple[int, ...] = ()) -> urllib3.BaseHTTPResponse:
        try:
            answer = self._http.request(method, self._base + path, json=body if body is not None else {})
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"{self._base} does not answer: {error}") from error
        if answer.status in (401, 403):
            raise Unavailable(f"the broker does not let this BROKER_TOKEN {method} {path}: {answer.status}")
        if answer.status >= 300 and answer.status not in also:
            raise Unavailable(f"{method} {path}: {answer.status} {_reason(answer)}")
        return answer


KEPT_WHILE_IDLE = {
    "inactiveTopicDeleteMode": "delete_when_no_subscriptions",
    "maxInactiveDurationSeconds": 86400,
    "deleteWhileInactive": False,
}
POLICIES: tuple[tuple[str, str, Any], ...] = (
    ("PUT", "schemaCompatibilityStrategy", "FULL_TRANSITIVE"),
    ("POST", "isAllowAutoUpdateSchema", False),
    ("POST", "schemaValidationEnforced", True),
    ("POST", "inactiveTopicPolicies", KEPT_WHILE_IDLE),
    ("POST", "backlogQuota", {"limitSize": 10 * 1024**3, "limitTime": -1, "policy": "producer_request_hold"}),
)
"""What every namespace of Protools relies on; TTL stays 0, for it would drop commands silently."""


def _schema(avsc: str) -> dict[str, Any]:
    return {"type": "AVRO", "schema": avsc, "properties": {}}


def _reason(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(json.loads(answer.data)["reason"])
    except (ValueError, KeyError, TypeError):
        return answer.data.decode(errors="replace")[:200]
