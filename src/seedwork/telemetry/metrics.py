"""What every process counts and measures, for Prometheus.

Series are bounded: labels are names that are declared (services, topics, workflows, kinds), and codes of refusals up to
a number. What the databases know is asked when somebody looks (`running.gauges`).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
"""Of this process; a web process has another for its app beside."""
CODES = 50
"""Codes of refusals of one message type that are told apart; the rest are `(other)`."""
FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)

HANDLED = Counter(
    "protools_messages",
    "Messages handled, by what came of it: done, refused, repeated, failed, waiting or dead.",
    ("topic", "outcome"),
    registry=REGISTRY,
)
REFUSED = Counter("protools_refusals", "Commands refused, by code.", ("topic", "code"), registry=REGISTRY)
BATCH = Histogram("protools_batch_messages", "Messages of one batch.", ("loop",), buckets=SIZES, registry=REGISTRY)
TRANSACTION = Histogram("protools_transaction_seconds", "Time of a transaction.", buckets=FAST, registry=REGISTRY)
PUBLISH = Histogram("protools_publish_seconds", "Time to publish a batch.", buckets=FAST, registry=REGISTRY)
PUBLISHED = Counter("protools_published_messages", "Messages that the broker confirmed.", registry=REGISTRY)
UNCONFIRMED = Counter(
    "protools_unconfirmed_messages", "Messages that the broker did not confirm at once.", registry=REGISTRY
)
LAG = Gauge("protools_projection_lag_seconds", "Age of the last event when it was projected.", registry=REGISTRY)
ANSWERED = Histogram(
    "protools_answer_seconds",
    "From the first sending of a command to its answer, by who answers.",
    ("target",),
    buckets=SLOW,
    registry=REGISTRY,
)
SAGAS_REACHED = Counter(
    "protools_sagas_reached", "Sagas that ended or were suspended.", ("workflow", "status"), registry=REGISTRY
)
REFUSED_LOOKS = Counter("protools_refused_looks", "Requests of operators refused for their token.", registry=REGISTRY)
_codes: dict[str, set[str]] = {}


def bounded_code(topic: str, code: str) -> str:
    """Return the code, or `(other)` where that message type has been refused with too many others."""
    known = _codes.setdefault(topic, set())
    if code in known or len(known) < CODES:
        known.add(code)
        return code
    return "(other)"
