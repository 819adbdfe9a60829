"""Derive the OpenAPI 3.1 document of an app from its routes and what they declare (`pulsaga.web.contract`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from pulsaga.errors import DefinitionError
from pulsaga.system import System
from pulsaga.web import formats, problems
from pulsaga.web.access.rights import PUBLIC, right_to
from pulsaga.web.contract import (
    REQUEST_ID,
    SAME_REQUEST_ID,
    Answer,
    Callback,
    Header,
    Operation,
    Parameter,
    Shape,
    conditional,
)
from pulsaga.web.formats import Format, invalid, problem_of_status
from pulsaga.web.http import Api

DIALECT = "3.1.1"
FORMATS = """\
Every request, answer and error is spoken in JSON and in XML, with the same names in the same order: send either by
`Content-Type`, get either by `Accept`. Times are in UTC."""
SECURITY = {
    "bearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token, for people."},
    "apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "ptk_…", "description": "A key, for machines."},
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
Part = dict[str, Any]


def derive(app: Flask, *, is_open: bool = False) -> str:
    """Return the document as text: JSON, two spaces, newline at the end."""
    return orjson.dumps(document(app, is_open=is_open), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def document(app: Flask, *, is_open: bool = False) -> Part:
    """Return the document of all routes of an app that are described; with `is_open` nobody is asked who they are."""
    system, schemes = app.extensions["runtime"].system, {} if is_open else SECURITY
    spec = APISpec(system.title, system.version, DIALECT, [_Plugin()], **_about(system, schemes))
    for name, scheme in schemes.items():
        spec.components.security_scheme(name, scheme)
    for status, reason in sorted(problems.USUAL.items()):
        spec.components.response(_phrase(status), _problem(status, reason), lazy=True)
    for rule in described(app):
        spec.path(path=template(rule), operations=_operations(app, rule))
    groups = {_group(app, name): blueprint for name, blueprint in reversed(app.blueprints.items())}
    for group, blueprint in reversed(groups.items()):
        about = doc_of(blueprint.import_name).partition("\n")[0]
        spec.tag({"name": group, "description": about})
    whole: Part = {"openapi": DIALECT} | spec.to_dict()
    for added in system.formats:
        _add_format(whole, added)
    return whole


def _add_format(part: Any, added: Format) -> None:
    """Say of whatever may be had in XML that it may be had in a further format, too."""
    if isinstance(part, dict):
        if "application/xml" in part:
            part[added.media_type] = {"schema": part["application/xml"]["schema"]}
        if "application/problem+xml" in part:
            problem = added.problem_type or added.media_type
            part[problem] = {"schema": part["application/problem+xml"]["schema"]}
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _add_format(inner, added)


def _group(app: Flask, blueprint: str) -> str:
    """Return the name under which the operations of a blueprint are shown."""
    return app.name if isinstance(app.blueprints[blueprint], Api) else blueprint


def routes(app: Flask) -> list[Rule]:
    """Return what callers may call, everything but static files: by blueprint as registered, then by path.

    Where two rules are the same, the first is called.
    """
    order = ["", *app.blueprints]
    rules = (rule for rule in app.url_map.iter_rules() if rule.endpoint.rpartition(".")[2] != "static")
    called: dict[Any, Rule] = {}
    for rule in sorted(rules, key=lambda rule: (order.index(rule.endpoint.rpartition(".")[0]), rule.rule)):
        called.setdefault((rule.rule, frozenset(rule.methods or ())), rule)
    return list(called.values())


def described(app: Flask) -> list[Rule]:
    """Return the routes that declare what they take and answer."""
    return [rule for rule in routes(app) if _declared(app, rule)]


def check(app: Flask) -> None:
    """Raise DefinitionError for a route that is in no document."""
    for rule in routes(app):
        if not _declared(app, rule):
            name = app.view_functions[rule.endpoint].__name__
            raise DefinitionError(f"{rule.rule} is not described: decorate {name} with pulsaga.web.operation")


def template(rule: Rule) -> str:
    """Write a Flask rule as OpenAPI does: `/items/<whole:name>` as `/items/{name}`."""
    return re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule)


def _about(system: System, schemes: Mapping[str, Part]) -> Part:
    said = doc_of(system.module).partition("\n\n")[0]
    return {
        "info": {"description": f"{said}\n\n{FORMATS}" if said else FORMATS},
        "servers": [{"url": "/"}],
        **({"security": [{name: []} for name in schemes]} if schemes else {}),
    }


def doc_of(module: str) -> str:
    """Return the docstring of a module; none for what was not imported by this name."""
    return cleandoc(getattr(sys.modules.get(module), "__doc__", None) or "")


def operation_of(app: Flask, rule: Rule) -> Operation:
    """Return what a route that is described declares."""
    declared = _declared(app, rule)
    assert declared is not None
    return declared


def _declared(app: Flask, rule: Rule) -> Operation | None:
    declared = getattr(app.view_functions[rule.endpoint], "operation", None)
    return declared if isinstance(declared, Operation) else None


def _operations(app: Flask, rule: Rule) -> Part:
    view, declared = app.view_functions[rule.endpoint], operation_of(app, rule)
    methods = [method for method in METHODS if method in (rule.methods or ())]
    described = conditional(declared) if "GET" in methods else declared
    about = {
        "operationId": view.__name__.strip("_"),
        "tags": [_group(app, rule.endpoint.partition(".")[0])],
        **_said(view),
    }
    public = {method: right_to(view, method) == PUBLIC for method in methods}
    return {method.lower(): about | _operation(described, is_public=public[method]) for method in methods}


def _said(view: Any) -> Part:
    summary, _, more = cleandoc(view.__doc__ or "").partition("\n\n")
    return {"summary": " ".join(summary.split()), **({"description": more} if more else {})}


def _operation(declared: Operation, *, is_public: bool) -> Part:
    reasons = problems.problems_of(declared, is_public=is_public)
    refusals = {str(status): _refusal(status, reason) for status, reason in reasons.items()}
    answers = {str(status): _answer(answer) for status, answer in declared.answers.items()}
    return {
        **({"security": []} if is_public else {}),
        "parameters": [_parameter(each) for each in (*declared.parameters, REQUEST_ID)],
        **({"requestBody": _body(type(declared.takes))} if declared.takes else {}),
        "responses": dict(sorted((refusals | answers).items())),
        **({"callbacks": _callback(declared.callback)} if declared.callback else {}),
    }


def _callback(callback: Callback) -> Part:
    content = _content(callback.shape, example_of(callback.shape))
    called = {
        "operationId": callback.name,
        "summary": callback.description,
        "security": [],
        "parameters": [_parameter(each) | {"required": True} for each in callback.headers],
        "requestBody": {"required": True, "content": {"application/json": content["application/json"]}},
        "responses": {status: {"description": taken} for status, taken in callback.answers.items()},
    }
    return {callback.name: {f"{{{callback.url}}}": {"post": called}}}


def _parameter(described: Parameter) -> Part:
    return {
        "name": described.name,
        "in": described.place,
        "description": described.description,
        "required": described.place == "path",
        "schema": dict(described.schema),
        "example": described.example,
    }


def _body(shape: type[Shape]) -> Part:
    return {"required": True, "content": _content(shape, example_of(shape))}


def _answer(answer: Answer) -> Part:
    kind = "object" if (answer.media_type or "").endswith("json") else "string"
    content = {answer.media_type: {"schema": answer.schema or {"type": kind}}} if answer.media_type else {}
    if answer.shape:
        example = {**example_of(answer.shape), **answer.example}
        content = _content(answer.shape, {name: value for name, value in example.items() if value is not None})
    links = {name: {"operationId": name, "parameters": dict(each)} for name, each in answer.links.items()}
    return {
        "description": answer.description,
        "headers": _headers(*answer.headers),
        **({"content": content} if content else {}),
        **({"links": links} if links else {}),
    }


def _headers(*described: Header) -> Part:
    return {each.name: _header(each) for each in (*described, SAME_REQUEST_ID)}


def _header(header: Header) -> Part:
    return {
        "description": header.description,
        "required": header.always,
        "schema": {"type": "string"},
        "example": header.example,
    }


def _content(shape: type[Shape], example: Mapping[str, Any]) -> Part:
    return {
        "application/json": {"schema": shape, "example": example},
        "application/xml": {"schema": shape, "example": formats.write_xml(shape.root, example).decode()},
    }


def example_of(shape: type[Schema]) -> Part:
    """Return a body with the first example of each field that has one."""
    examples = ((name, _example(field)) for name, field in shape().fields.items())
    keys = {name: field.data_key or name for name, field in shape().fields.items()}
    return {keys[name]: example for name, example in examples if example is not None}


def _example(field: Any) -> Any:
    if isinstance(field, fields.Nested):
        return example_of(type(field.schema))
    if isinstance(field, fields.List):
        return [_example(field.inner)]
    return next(iter(field.metadata.get("examples", ())), None)


# --- problems


def _phrase(status: int) -> str:
    return "".join(HTTPStatus(status).phrase.title().split())


def _refusal(status: int, reason: str) -> Any:
    return _phrase(status) if problems.USUAL.get(status) == reason else _problem(status, reason)


def _problem(status: int, reason: str) -> Part:
    example = invalid({"/name": "must have 1 to 254 characters"}) if status == 422 else problem_of_status(status)
    written = formats.write_problem_xml(example.document).decode()
    return {
        "description": reason,
        "headers": _headers(*problems.HEADERS.get(status, ())),
        "content": {
            "application/problem+json": {"schema": problems.Problem, "example": example.document},
            "application/problem+xml": {"schema": problems.Problem, "example": written},
        },
    }


# --- XML


class _Plugin(MarshmallowPlugin):
    """Say of each schema what it is and how it is called in XML, and of each list how its items are."""

    def init_spec(self, spec: APISpec) -> None:
        super().init_spec(spec)
        if self.converter:
            self.converter.add_attribute_function(_list_in_xml)  # type: ignore[no-untyped-call]

    def schema_helper(self, name: Any, _: Any, schema: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        described: Part = super().schema_helper(name, _, schema, **kwargs)  # type: ignore[no-untyped-call]
        namespace = {"namespace": formats.PROBLEM_NAMESPACE} if schema is problems.Problem else {}
        about = {"description": cleandoc(schema.__doc__ or ""), "xml": {"name": schema.root, **namespace}}
        return about | described


def _list_in_xml(_converter: Any, field: Any, **_kwargs: Any) -> Part:
    if not isinstance(field, fields.List):
        return {}
    return {"xml": {"wrapped": field.name != getattr(field.parent, "root", None)}}
