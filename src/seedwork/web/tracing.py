"""Record a span of each request, under what its caller says (W3C Trace Context); what it causes is a child of it."""

from __future__ import annotations

from collections.abc import Collection

from flask import Flask, Response, g, request

from pulsaga.telemetry import traces
from pulsaga.telemetry.traces import TRACEPARENT

OURS = 500
"""From this status on it is the server that failed."""


def trace_requests(app: Flask, but: Collection[str]) -> None:
    """Have an app's requests traced where this process is; but for these paths, which machines ask for all the time."""
    if traces.recorder is None:
        return

    @app.before_request
    def begin() -> None:
        if request.path not in but:
            route = f" {request.url_rule.rule}" if request.url_rule else ""
            g.edge = traces.enter(f"{request.method}{route}", "server", given(), _about(route.strip()))

    @app.after_request
    def end(response: Response) -> Response:
        edge: traces.Edge | None = g.pop("edge", None)
        if edge and edge.span:
            status = response.status_code
            edge.span.end(f"{status}" if status >= OURS else "", {"http.response.status_code": status})
        return response


def _about(route: str) -> traces.Attributes:
    named = {"http.request.method": request.method, "url.scheme": request.scheme}
    return named | {"http.route": route} if route else named


def given() -> str | None:
    """Return the caller's `traceparent`; None when it is absent or not valid."""
    said = request.headers.get("traceparent", "")
    return said if TRACEPARENT.fullmatch(said) else None


def traceparent() -> str | None:
    """Return what the request in hand hands on: under its own span where there is one, else under its caller's."""
    edge: traces.Edge | None = g.get("edge")
    return edge.traceparent if edge else given()
