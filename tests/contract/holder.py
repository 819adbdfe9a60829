"""Be a consumer that acknowledges nothing and waits to be killed: `holder.py URL NAMESPACE TOPIC COUNT`."""

from __future__ import annotations

import signal
import sys

from pulsaga.broker import connect


def main() -> None:
    """Say `holding` once everything is held."""
    url, namespace, topic, count = sys.argv[1:]
    broker = connect(url, {}, namespace)
    subscription = broker.subscribe("reader", [topic])
    held = 0
    while held < int(count):
        held += len(subscription.receive(int(count), 1))
    sys.stdout.write("holding\n")
    sys.stdout.flush()
    signal.pause()


main()
