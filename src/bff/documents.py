"""Serve what callers may rely on, as it is committed in `contract/` (`make contract` writes it), and the way there."""

from __future__ import annotations

from functools import cache, partial
from importlib import resources
from typing import Any

import orjson
from flask import Blueprint, Response, render_template

from pulsaga.web import PUBLIC, Answer, allow, http, operation

documents = Blueprint("documents", __name__)
OPENAPI = "application/vnd.oai.openapi+json"
ASYNCAPI = "application/vnd.aai.asyncapi+json"
XSD = "application/xml"
PAGE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


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


@documents.get("/openapi.json")
@allow(PUBLIC)
@operation(answers={200: Answer(description="OpenAPI 3.1.", media_type=OPENAPI)})
def openapi() -> Response:
    """Describe these routes."""
    return _shown("openapi.json", OPENAPI)


@documents.get("/asyncapi.json")
@allow(PUBLIC)
@operation(answers={200: Answer(description="AsyncAPI 3.1.", media_type=ASYNCAPI)})
def asyncapi() -> Response:
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


def _shown(name: str, media_type: str) -> Response:
    return Response(_text(name, is_open=_is_open()), content_type=media_type, headers={"Cache-Control": "no-cache"})


def _page(template: str, name: str) -> Response:
    address = http.runtime().public_url.rstrip("/")
    page = _rendered(template, name, address, is_open=_is_open())
    return Response(page, content_type="text/html; charset=utf-8", headers=PAGE)


@cache
def _rendered(template: str, name: str, address: str, *, is_open: bool) -> str:
    """Render a document, which stays as it is; the page needs no script and nothing from elsewhere."""
    document = orjson.loads(_text(name, is_open=is_open))
    known = {"follow": partial(_follow, document), "pretty": _pretty, "address": address, "is_open": is_open}
    return render_template(template, document=document, **known)


def _is_open() -> bool:
    return http.runtime().settings.auth == "none"


@cache
def _text(name: str, *, is_open: bool) -> bytes:
    """Return a document as it is committed; of OpenAPI without what nobody is asked for here (AUTH=none)."""
    committed = (resources.files("bff") / "contract" / name).read_bytes()
    if name != "openapi.json" or not is_open:
        return committed
    document = orjson.loads(committed)
    del document["security"], document["components"]["securitySchemes"]
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _follow(document: Any, node: Any) -> Any:
    """Return what a reference leads to; anything else as it is."""
    if "$ref" not in node:
        return node
    found = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _pretty(example: Any) -> str:
    return orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
