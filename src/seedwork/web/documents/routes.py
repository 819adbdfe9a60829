"""Serve what callers may rely on, derived from what runs, and the way there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, current_app, send_from_directory
from jinja2 import Environment, PackageLoader

from pulsaga.web import http
from pulsaga.web.access.rights import PUBLIC, allow
from pulsaga.web.contract import Answer, operation
from pulsaga.web.documents import asyncapi, openapi, xsd

documents = Blueprint("documents", __name__)
OPENAPI = "application/vnd.oai.openapi+json"
ASYNCAPI = "application/vnd.aai.asyncapi+json"
XSD = "application/xml"
PAGE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
Document = Mapping[str, Any]


@documents.get("/")
@allow(PUBLIC)
@operation(answers={200: Answer(description="A page for people.", media_type="text/html")})
def index() -> Response:
    """Show what is here."""
    return _page("index.html", "openapi.json")


@documents.get("/docs")
@allow(PUBLIC)
@operation(answers={200: Answer(description="A page for people.", media_type="text/html")})
def docs() -> Response:
    """Show what can be asked here."""
    return _page("docs.html", "openapi.json")


@documents.get("/docs/messages")
@allow(PUBLIC)
@operation(answers={200: Answer(description="A page for people.", media_type="text/html")})
def docs_of_messages() -> Response:
    """Show the messages that the services exchange."""
    return _page("messages.html", "asyncapi.json")


@documents.get("/static/docs.css", endpoint="static")
@allow(PUBLIC)
def style() -> Response:
    """Serve the style sheet of the pages."""
    return send_from_directory(Path(__file__).parent / "static", "docs.css")


@documents.get("/openapi.json", endpoint="openapi")
@allow(PUBLIC)
@operation(answers={200: Answer(description="OpenAPI 3.1.", media_type=OPENAPI)})
def _openapi() -> Response:
    """Describe these routes."""
    return _shown("openapi.json", OPENAPI)


@documents.get("/asyncapi.json", endpoint="asyncapi")
@allow(PUBLIC)
@operation(answers={200: Answer(description="AsyncAPI 3.1.", media_type=ASYNCAPI)})
def _asyncapi() -> Response:
    """Describe the messages that the services exchange."""
    return _shown("asyncapi.json", ASYNCAPI)


@documents.get("/schema.xsd")
@allow(PUBLIC)
@operation(answers={200: Answer(description="XML Schema of what is sent and shown.", media_type=XSD)})
def xml_schema() -> Response:
    """Describe requests and resources in XML."""
    return _shown("schema.xsd", XSD)


@documents.get("/problem.xsd")
@allow(PUBLIC)
@operation(answers={200: Answer(description="XML Schema of problems.", media_type=XSD)})
def problem_schema() -> Response:
    """Describe problems in XML."""
    return _shown("problem.xsd", XSD)


def documents_of(app: Flask, *, is_open: bool) -> Mapping[str, Callable[[], str]]:
    """Return what derives each document of a front door, by its file name.

    With `is_open`, OpenAPI comes without what nobody is asked for (AUTH=none).
    """
    runtime = app.extensions["runtime"]
    return {
        "openapi.json": partial(openapi.derive, app, is_open=is_open),
        "asyncapi.json": partial(asyncapi.derive, runtime.system, runtime.codec),
        "schema.xsd": partial(xsd.derive, app),
        "problem.xsd": xsd.derive_problem,
    }


def _shown(name: str, media_type: str) -> Response:
    return Response(_document(name), content_type=media_type, headers={"Cache-Control": "no-cache"})


def _page(template: str, name: str) -> Response:
    page = _kept(template, partial(_rendered, template, name))
    return Response(page, content_type="text/html; charset=utf-8", headers=PAGE)


def _document(name: str) -> str:
    return _kept(name, documents_of(current_app, is_open=_is_open())[name])


def _kept(name: str, make: Callable[[], str]) -> str:
    """Return a text of this app that stays as it is: it is made for the first who asks."""
    texts: dict[str, str] = current_app.extensions.setdefault("documents", {})
    if name not in texts:
        texts[name] = make()
    return texts[name]


def _rendered(template: str, name: str) -> str:
    """Render a document; the page needs no script and nothing from elsewhere."""
    document = orjson.loads(_document(name))
    follow, address = partial(_follow, document), http.runtime().public_url.rstrip("/")
    known = {"follow": follow, "least": partial(_least, follow), "pretty": _pretty, "address": address}
    return _templates().get_template(template).render(document=document, is_open=_is_open(), **known)


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader("pulsaga.web.documents"), autoescape=True)


def _is_open() -> bool:
    return http.runtime().settings.auth == "none"


def _follow(document: Document, node: Document) -> Document:
    """Return what a reference leads to; anything else as it is."""
    if "$ref" not in node:
        return node
    found = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _least(follow: Callable[[Document], Document], body: Document) -> str:
    """Return the example of a body as a shell takes it, without what may be absent."""
    needed = follow(body["schema"]).get("required", ())
    least = {name: value for name, value in body["example"].items() if name in needed}
    return shlex.quote(json.dumps(least, ensure_ascii=False))


def _pretty(example: Any) -> str:
    return orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
