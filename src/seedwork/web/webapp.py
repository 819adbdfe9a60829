"""Build the app of a web process, on Flask: errors become problems, health and metrics are shown.

What its routes use stands in `http`; how it is served in `server`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import structlog
from flask import Blueprint, Flask, Response, current_app, g, request
from marshmallow import fields
from marshmallow.validate import OneOf
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest
from sqlalchemy import Engine
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from pulsaga.delivery.blame import verdict
from pulsaga.delivery.database import is_answering, takes_writes
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.running.gauges import web_gauges
from pulsaga.running.runtime import Runtime
from pulsaga.telemetry.traces import trace_id
from pulsaga.telemetry.vitals import OURS
from pulsaga.web import conventions, formats, http
from pulsaga.web.access.gatekeeper import FindKey, Gatekeeper
from pulsaga.web.access.rights import OVERSEEING, PUBLIC, allow
from pulsaga.web.contract import Answer, Shape, operation
from pulsaga.web.formats import Problem
from pulsaga.web.http import BODY_LIMIT_BYTES
from pulsaga.web.tracing import trace_requests

log = structlog.get_logger()

HEALTH = ("/livez", "/readyz", "/health", "/metrics")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NOTHING = "default-src 'none'; frame-ancestors 'none'"
NO_FEATURES = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
HSTS = "max-age=31536000"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Buckets that the conventions advise."""
Check = Callable[[], bool]


class Whole(BaseConverter):
    """Match the rest of a path whole, slashes included: a name may hold any."""

    part_isolating = False
    regex = ".+"


def create(
    runtime: Runtime,
    read: Engine,
    *blueprints: Blueprint,
    static: bool = False,
    find_key: FindKey | None = None,
) -> Flask:
    """Return the app of a service's web process; templates and static files lie beside where the service is declared.

    `find_key` makes it take the keys of machines, too. Raise SettingError unless it is clear who may come in.
    """
    formats.check(runtime.system.formats)
    module = runtime.system[runtime.service].module
    app = Flask(module, static_folder="static" if static else None)
    app.name = runtime.service
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT_BYTES
    app.url_map.merge_slashes = False
    app.url_map.converters["whole"] = Whole
    app.extensions |= {"runtime": runtime, "read": read, "started": time.time(), "stopping": [], "duties": []}
    trace_requests(app, but=HEALTH)
    _count_requests(app)
    app.extensions["registry"].register(web_gauges(runtime, read))
    conventions.keep(app, runtime.settings.cors_origins)
    _harden(app, runtime.public_url)
    if runtime.settings.auth == "none":
        _keep_to_this_machine(app, runtime)
    issuers = runtime.system[runtime.service].issuers
    others = [issuer.verifier(runtime, read) for issuer in issuers()] if issuers else []
    Gatekeeper(runtime.service, runtime.settings, find_key, others).guard(app)
    _answer_errors(app)
    for blueprint in (*blueprints, health_blueprint()):
        app.register_blueprint(blueprint)
    if static:
        allow(PUBLIC)(app.view_functions["static"])
    return app


def on_stopping(app: Flask, action: Callable[[], None]) -> None:
    """Have `server.serve` call `action` as soon as the process is asked to stop: let go of who waits."""
    app.extensions["stopping"].append(action)


# --- security headers


def _harden(app: Flask, public_url: str) -> None:
    """Tell browsers what they may do with an answer; whoever wrote a page has said more."""
    always = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    page = {"Content-Security-Policy": NOTHING, "Referrer-Policy": "no-referrer", "Permissions-Policy": NO_FEATURES}
    if public_url.startswith("https://"):
        always |= {"Strict-Transport-Security": HSTS}

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in (always | page if response.mimetype == "text/html" else always).items():
            response.headers.setdefault(name, value)
        return response


def _keep_to_this_machine(app: Flask, runtime: Runtime) -> None:
    """Answer to this machine's names only: nobody is asked who they are, and a browser here opens strangers' pages.

    The name of such a page may lead to 127.0.0.1 (DNS rebinding); then the page's own name stands in Host.
    """
    ours = {"localhost", runtime.settings.bind, urlsplit(runtime.public_url).hostname}

    @app.before_request
    def refuse_others() -> None:
        if not _names_one_of(ours, request.headers.get("Host", "localhost")):
            raise formats.problem_of_status(421, "with AUTH=none this answers to localhost and its addresses only")


def _names_one_of(hosts: Collection[str | None], given: str) -> bool:
    try:
        host, _ = http.authority(given)
        return host in hosts or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# --- errors


def _answer_errors(app: Flask) -> None:
    app.register_error_handler(Problem, http.refuse)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _http_error(error: HTTPException) -> Any:
    if error.code is None or error.code < 400:
        return error
    detail = f"the body is over {BODY_LIMIT_BYTES} bytes" if error.code == 413 else error.description or ""
    problem = formats.problem_of_status(error.code, detail)
    problem.headers |= {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return http.refuse(problem)


def _trace() -> dict[str, str]:
    """Name the trace of the request in hand, for a line of the log."""
    known = trace_id(http.traceparent())
    return {"trace": known} if known else {}


def _down(error: Exception) -> Response:
    """Answer an error that is nobody's fault here: something is down, and the same request may succeed later."""
    log.warning("unavailable", path=request.path, error=str(error).partition("\n")[0], **_trace())
    return http.refuse(http.unavailable("something this needs is down for now; try again"))


def _unexpected(error: Exception) -> Response:
    if verdict(error) != "item":
        return _down(error)
    name = conventions.request_id(request.headers.get(conventions.REQUEST_ID, ""))
    about = {"method": request.method, "path": request.path, "request_id": name} | _trace()
    log.error("request failed", exc_info=error, **about)
    problem = formats.problem_of_status(500, "this is our fault; it was logged")
    problem.headers[conventions.REQUEST_ID] = name
    return http.refuse(problem)


# --- health and metrics


def health_blueprint() -> Blueprint:
    """Return `/livez`, `/readyz`, `/health` and `/metrics`."""
    blueprint = Blueprint("health", __name__)
    for route, view in zip(HEALTH, (_livez, _readyz, _health, _metrics), strict=True):
        blueprint.add_url_rule(route, view_func=view)
    return blueprint


def _check(name: str) -> fields.String:
    return fields.String(data_key=name, validate=OneOf(("ok", "failed")), metadata={"examples": ["ok"]})


class Checks(Shape):
    """Say of each thing that is needed whether it answers."""

    root = "checks"
    write_database = _check("write-database")
    read_database = _check("read-database")
    broker = _check("broker")


class Health(Shape):
    """Say how a process is; `checks` by name, `ok` or `failed`."""

    root = "health"
    status = fields.String(required=True, metadata={"examples": ["ok"]})
    service = fields.String(metadata={"examples": ["stock"]})
    startedAt = fields.AwareDateTime(metadata={"examples": ["2026-01-31T09:26:53.589Z"]})
    uptimeSeconds = fields.Integer(metadata={"examples": [86400]})
    checks = fields.Nested(Checks)


HEALTHY = Answer(description="It is well.", shape=Health)
UNWELL = Answer(description="It is not, and a check says why.", shape=Health, example={"status": "failing"})


@operation(answers={200: HEALTHY, 503: UNWELL})
@allow(PUBLIC)
def _livez() -> Response:
    """Tell that the process answers, and that none of its threads hangs."""
    hanging = OURS.hanging()
    return http.reply("health", {"status": "hangs"}, 503) if hanging else http.reply("health", {"status": "ok"})


@operation(answers={200: HEALTHY, 503: UNWELL})
@allow(PUBLIC)
def _readyz() -> Response:
    """Tell whether this process can do its work; for load balancers."""
    checks = _checked(_required())
    ready = "failed" not in checks.values()
    return http.reply("health", {"status": "ready" if ready else "not-ready", "checks": checks}, 200 if ready else 503)


@operation(answers={200: HEALTHY, 503: UNWELL})
@allow(PUBLIC)
def _health() -> Response:
    """Tell how everything is that this process needs; for people."""
    needed = _checked(_required())
    checks = needed | _checked({"broker": http.runtime().broker.is_connected})
    status = "failing" if "failed" in needed.values() else "degraded" if "failed" in checks.values() else "ok"
    started = current_app.extensions["started"]
    document = {
        "status": status,
        "service": current_app.name,
        "startedAt": rfc3339(started),
        "uptimeSeconds": int(time.time() - started),
        "checks": checks,
    }
    return http.reply("health", document, 503 if status == "failing" else 200)


def _required() -> dict[str, Check]:
    write, read = http.runtime().write, http.read_engine()
    return {"write-database": lambda: takes_writes(write), "read-database": lambda: is_answering(read)}


def _checked(checks: Mapping[str, Check]) -> dict[str, str]:
    return {name: "ok" if _passes(check) else "failed" for name, check in checks.items()}


def _passes(check: Check) -> bool:
    try:
        return check()
    except Exception as error:  # whatever it raises, the answer is no
        log.warning("check failed", error=str(error))
        return False


@operation(
    answers={200: Answer(description="Prometheus text format.", media_type="text/plain")},
)
@allow(OVERSEEING)
def _metrics() -> Response:
    """Tell what is counted and measured, for Prometheus."""
    return Response(generate_latest(current_app.extensions["registry"]), content_type=CONTENT_TYPE_LATEST)


def _count_requests(app: Flask) -> None:
    """Count and time requests, by the names of OpenTelemetry's semantic conventions for HTTP (1.23)."""
    registry = app.extensions["registry"] = CollectorRegistry()
    labels = ("http_route", "http_request_method", "http_response_status_code")
    seconds = Histogram(
        "http_server_request_duration_seconds", "Time to answer.", labels, buckets=SECONDS, registry=registry
    )
    active = Gauge("http_server_active_requests", "Requests in hand.", labels[1:2], registry=registry)

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()
        active.labels(_method()).inc()

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "(none)"
        seconds.labels(route, _method(), str(response.status_code)).observe(time.perf_counter() - g.began)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        active.labels(_method()).dec()


def _method() -> str:
    """Return the method of the request in hand: those that are not well known are one."""
    return request.method if request.method in METHODS else "_OTHER"
