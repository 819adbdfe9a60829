"""Serve what callers may rely on, as it is committed in `contract/` (`make contract` writes it)."""

from __future__ import annotations

from functools import cache
from importlib import resources

from flask import Blueprint, Response

from seedwork.contract import Answer, operation

documents = Blueprint("documents", __name__)
OPENAPI = "application/vnd.oai.openapi+json"
ASYNCAPI = "application/vnd.aai.asyncapi+json"


@documents.get("/openapi.json")
@operation(answers={200: Answer(description="OpenAPI 3.1.", media_type=OPENAPI)}, public=True)
def openapi() -> Response:
    """Describe these routes."""
    return _shown("openapi.json", OPENAPI)


@documents.get("/asyncapi.json")
@operation(answers={200: Answer(description="AsyncAPI 3.1.", media_type=ASYNCAPI)}, public=True)
def asyncapi() -> Response:
    """Describe the messages that the services exchange."""
    return _shown("asyncapi.json", ASYNCAPI)


def _shown(name: str, media_type: str) -> Response:
    return Response(_committed(name), content_type=media_type, headers={"Cache-Control": "no-cache"})


@cache
def _committed(name: str) -> bytes:
    return (resources.files("bff") / "contract" / name).read_bytes()
