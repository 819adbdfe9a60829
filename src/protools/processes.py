"""Assemble the processes that services run as: `worker` takes messages and projects, `web` answers HTTP."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from pulsaga import faults
from pulsaga.broker import Subscription
from pulsaga.delivery.database import is_answering, open_database, takes_writes
from pulsaga.delivery.dispatch.dispatcher import Dispatcher
from pulsaga.delivery.dispatch.failures import LONGEST_RETRY_S
from pulsaga.delivery.dispatch.pausing import PAUSED, PausableSubscription, paused_topics, topics_of
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.dispatch.worker import Worker
from pulsaga.delivery.forgetting import forget
from pulsaga.delivery.loop import Due, Duty, Hear, Lookout, keep_trying
from pulsaga.delivery.projection import LONGEST_DELAY_S, Projector
from pulsaga.delivery.tables import failure
from pulsaga.errors import ProtoolsError, SettingError
from pulsaga.running.gauges import database_gauges, process_gauges, watch_gauges
from pulsaga.running.heartbeat import Heartbeat
from pulsaga.running.loops import add_background, add_duties, housekeeping, report
from pulsaga.running.operators_port import SETTINGS, SURVEY, Listener, OperatorsPort
from pulsaga.running.process import Process, collect_seldom
from pulsaga.running.runtime import Runtime, open_runtime
from pulsaga.running.telemetry import start_telemetry, stop_telemetry
from pulsaga.running.telling import tell_incidents
from pulsaga.running.watch import Watch
from pulsaga.service import AddLoops, Service
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.telemetry.metrics import REFUSED_LOOKS, REGISTRY
from pulsaga_program.preflight import check_values

if TYPE_CHECKING:
    from pulsaga.web.access.tokens import Tokens

log = structlog.get_logger()
FORGET_EVERY_S = 3600.0
UNPROJECTED_LOOK_S = 5.0
SWITCH_S = 0.0005
"""Seconds after which a thread lets the others run: a message must not wait for a projection's turn (default 5 ms)."""


def run(system: System, name: str, kind: str, settings: Settings, *, alone: bool = False) -> None:
    """Run one process in the foreground until SIGTERM, `alone` or for a supervisor; exit 1 when a loop of it broke."""
    if (name, kind) not in system.processes:
        known = ", ".join(f"{service} {kind}" for service, kind in system.processes)
        raise SettingError(f"{name} {kind}", f"no such process; there are: {known}")
    check_values(system, settings)
    start_telemetry(system, settings, name, kind)
    allow_faults(name, settings)
    sys.setswitchinterval(SWITCH_S)
    collect_seldom()
    listener = Listener(settings)
    runtime = open_runtime(system, settings, name)
    process = Process(alone=alone)
    add_operators_port(process, runtime, kind, listener, add_heartbeat(process, runtime, kind, listener.address))
    process.begin()  # whoever waits below can be seen to
    try:
        keep_trying(threading.Event(), lambda: runtime.write.connect().close())  # refuses what cannot keep our promises
        if check := system[name].check:
            keep_trying(threading.Event(), lambda: check(runtime))
        adds: Mapping[str, AddLoops] = {"worker": add_worker, "web": add_web, **system[name].processes}
        closing = adds[kind](process, runtime)
        add_gauges(process, runtime)
    except BaseException:
        process.leave()
        raise
    intact = process.run()
    for close in [*closing, runtime.broker.close, stop_telemetry]:
        close()
    sys.exit(0 if intact else 1)


Views = dict[str, Callable[[], bytes]]
"""What operators may see of a process, as JSON by path."""


def add_operators_port(process: Process, runtime: Runtime, kind: str, listener: Listener, views: Views) -> None:
    """Let a process answer operators, before it has all that it needs."""
    process.engines["write"] = runtime.write
    known = CollectorRegistry()
    known.register(process_gauges(runtime, kind, process.engines))
    process.registries += [REGISTRY, known]
    app = OperatorsPort(process.needs, process.registries, may_look(runtime), {**own_views(runtime), **views})
    process.add("operators", *listener.serve(app))


def add_gauges(process: Process, runtime: Runtime) -> None:
    """Let a process show what its databases know."""
    asked = CollectorRegistry()
    asked.register(database_gauges(runtime, process.engines))
    process.registries.append(asked)


def own_views(runtime: Runtime) -> Views:
    """Return what every process shows operators of its own service."""

    def survey() -> bytes:
        from pulsaga.operate.status.remote import own_part

        return own_part(runtime.system, runtime.settings, runtime.service)

    return {SURVEY: survey, SETTINGS: lambda: json.dumps(runtime.system.shown(runtime.settings)).encode()}


def may_look(runtime: Runtime) -> Callable[[str, str], bool]:
    """Return what tells by path and bearer whether somebody may look; nobody may where no tokens can be verified.

    The coordinator may, for operators who ask it: by a token for just this service and path.
    """
    settings = runtime.settings

    @cache
    def tokens() -> Tokens:
        from pulsaga.web.access.tokens import authentication

        return authentication(settings)

    def look(path: str, bearer: str) -> bool:
        from pulsaga.web.access.rights import OVERSEEING
        from pulsaga.web.access.tokens import Refused, check_service_token

        if settings.auth == "none":
            return True
        with suppress(Refused, SettingError):
            check_service_token(settings.key("INTERNAL_TOKEN"), bearer, f"{runtime.service} GET {path}")
            return True
        try:
            return tokens().verify(bearer).caller.has(OVERSEEING)
        except ProtoolsError as error:
            log.debug("a look was refused", path=path, error=str(error))
            REFUSED_LOOKS.inc()
            return False

    return look


def add_heartbeat(process: Process, runtime: Runtime, kind: str, address: str) -> Views:
    """Let a process tell that it lives, and the coordinator's watch over all; return what operators may see of that."""
    heartbeat = Heartbeat(runtime, kind, address)
    process.add("heartbeat", heartbeat.broadcast, heartbeat.stop)
    process.add("heartbeat-row", heartbeat.write, heartbeat.stop)
    if runtime.service != runtime.system.name:
        return {}
    watch = Watch(runtime, kind, heartbeat.id)
    heartbeat.hears = watch.hears
    process.add("hearing", watch.listen, watch.stop)
    process.add("watch", watch.look, watch.stop)
    heard = CollectorRegistry()
    heard.register(watch_gauges(watch))
    process.registries.append(heard)
    return watch_views(runtime, watch)


def watch_views(runtime: Runtime, watch: Watch) -> Views:
    """Return what a coordinator shows operators of the whole system."""

    def relayed(path: str) -> bytes:
        from pulsaga.operate.status.remote import relay

        return relay(runtime, json.loads(watch.shown()), path)

    return {
        "/operate/processes": watch.shown,
        "/operate/system": lambda: relayed(SURVEY),
        "/operate/system/settings": lambda: relayed(SETTINGS),
    }


def allow_faults(service: str, settings: Settings) -> None:
    """Let rules of faults happen in this process when PROTOOLS_FAULTS says so."""
    if settings.faults is None:
        return
    faults.RuleBook(settings.fault_file).ensure(settings.faults)
    faults.install(service, settings.fault_file)


def add_worker(process: Process, runtime: Runtime) -> list[Callable[[], object]]:
    """Add the loops of a worker: messages, duties, projections. Return what must be closed after them."""
    service = runtime.system[runtime.service]
    process.needs |= {"write-database": partial(takes_writes, runtime.write), "broker": runtime.broker.is_connected}
    closing: list[Callable[[], object]] = []
    asked: dict[str, Hear] = {}
    duties = [*housekeeping(runtime), *(make(runtime) for make in service.duties)]
    if url := runtime.settings.incident_webhook:
        duties.append(tell_incidents(runtime, url))
    if service.handlers:
        subscription = _pausable(service, runtime)
        worker = _worker(service, runtime, subscription)
        closing.append(subscription.close)
        asked[PAUSED[runtime.write.dialect.name]] = lambda found: subscription.pause(topics_of(found))
        process.add("messages", worker.run, worker.stop)
        duties.append(Duty("failures", worker.retry_failures, due=[Due(failure.c.due_at, LONGEST_RETRY_S)]))
        duties.append(
            Duty("forgetting", partial(forget, runtime.write, runtime.settings.clock_offset), every_s=FORGET_EVERY_S)
        )
    reporting = partial(report, runtime)
    looking = partial(Lookout, runtime.write, runtime.settings.clock_offset, asked=asked)
    for thread in add_duties(process, looking, duties, reporting):
        if service.handlers:
            worker.handled.append(thread.handled)
    if service.projections:
        engine = open_database(runtime.settings, service.name, "read", "projector")
        process.needs["read-database"] = partial(is_answering, engine)
        process.engines["read"] = engine
        projector, close = _projector(service, runtime, engine)
        closing.append(close)
        process.add("projections", projector.run, projector.stop)
        retrying = Duty("unprojected", projector.retry_failures, due=[Due(failure.c.due_at, LONGEST_DELAY_S)])
        add_duties(process, partial(Lookout, engine, 0.0, every_s=UNPROJECTED_LOOK_S), [retrying], reporting)
    return closing


def add_web(process: Process, runtime: Runtime) -> list[Callable[[], object]]:
    """Add the loops of a web process: HTTP, and publishing what it commits."""
    from pulsaga.web.serving import server

    settings, stopping = runtime.settings, threading.Event()
    read = open_database(settings, runtime.service, "read", "reader")
    web, port = runtime.system[runtime.service].web, runtime.system.port_of(settings, runtime.service)
    assert web is not None
    app = web(runtime, read)
    process.needs |= {
        "write-database": partial(takes_writes, runtime.write),
        "read-database": partial(is_answering, read),
    }
    process.registries.append(app.extensions["registry"])
    process.engines["read"] = read
    listener = server.listen(app.name, settings.bind, port)
    process.add("http", lambda: server.run(app, listener, stopping), stopping.set)
    add_background(process, app, runtime)
    return []


def _worker(service: Service, runtime: Runtime, subscription: Subscription) -> Worker:
    settings = runtime.settings
    dispatcher = Dispatcher(
        service.handling,
        service.refused,
        service.failed,
        withdrawn=service.withdrawn,
        attempts=settings.failure_attempts,
        delay_s=settings.failure_delay,
    )
    reader = Reader(service.handling, runtime.codec, runtime.broker)
    return Worker(dispatcher, reader, runtime.transactions, subscription, settings.batch_limit)


def _pausable(service: Service, runtime: Runtime) -> PausableSubscription:
    """Subscribe to what the service handles, but for what is paused, as soon as database and broker are there."""

    def opened() -> PausableSubscription:
        subscribe = partial(runtime.broker.subscribe, service.name)
        return PausableSubscription(subscribe, service.consumes, paused_topics(runtime.write))

    subscription = keep_trying(threading.Event(), opened)
    assert subscription is not None
    return subscription


def _projector(service: Service, runtime: Runtime, engine: Engine) -> tuple[Projector, Callable[[], object]]:
    reader = Reader(service.projecting, runtime.codec, runtime.broker)
    subscription = _subscribe(runtime, service.projector, service.projects)
    changed = service.changed(runtime) if service.changed else None
    limit = runtime.settings.batch_limit
    return Projector(service.projecting, reader, engine, subscription, limit, changed), subscription.close


def _subscribe(runtime: Runtime, name: str, topics: Sequence[str]) -> Subscription:
    """Subscribe as soon as the broker is there: a process that starts before it must not end."""
    subscription = keep_trying(threading.Event(), lambda: runtime.broker.subscribe(name, topics))
    assert subscription is not None
    return subscription
