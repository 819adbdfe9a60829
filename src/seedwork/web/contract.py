"""Declare what a route takes and answers, beside the route: bodies load by it, the OpenAPI document is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, ClassVar, Literal, TypeVar, cast

from flask.typing import ResponseReturnValue
from marshmallow import RAISE, Schema, ValidationError

from pulsaga.web import http
from pulsaga.web.formats import invalid
from pulsaga.web.xml_bodies import as_json

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])
Place = Literal["path", "query", "header"]
TEXT: Mapping[str, Any] = {"type": "string"}


class Shape(Schema):
    """A body: its fields in their order, each with an example; unknown ones are refused."""

    root: ClassVar[str]
    """XML root element of what we write; of what we read any root is taken."""

    class Meta:
        """Refuse unknown fields."""

        unknown = RAISE


def named(made: type[Schema], root: str, about: str) -> type[Shape]:
    """Give a shape that was derived (`Shape.from_dict`) what a class that is written has: a root, and what it is."""
    shape = cast(type[Shape], made)
    shape.root, shape.__doc__ = root, about
    return shape


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a caller may put into the path, the query or a header; `schema` is JSON Schema."""

    name: str
    place: Place
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: TEXT)
    example: Any


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header of an answer."""

    name: str
    description: str
    example: str
    always: bool = True


LIMIT = Parameter(
    name="limit",
    place="query",
    description="How many rows a page has at most.",
    schema={"type": "integer", "minimum": 1, "maximum": http.PAGE_LIMIT, "default": http.PAGE_DEFAULT},
    example=http.PAGE_DEFAULT,
)
"""The parameter by which callers choose the length of a page."""
_REQUEST_ID = "Names this request in the logs of caller and front door."
REQUEST_ID = Parameter(name="X-Request-Id", place="header", description=_REQUEST_ID, example="checkout-7f3a")
SAME_REQUEST_ID = Header(name="X-Request-Id", description=_REQUEST_ID, example="checkout-7f3a")
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    place="header",
    description="The ETag that the caller has: `304` while nothing has changed.",
    example='W/"2"',
)
ETAG = Header(name="ETag", description="Names what is shown.", example='W/"3"')
NEXT = Header(
    name="Link",
    description="The next page (RFC 8288), unless this is the last.",
    example='</items?limit=50&after=tea>; rel="next"',
    always=False,
)
"""The header that leads to the next page."""
UNCHANGED = "It is what the caller has."
RETRY_AFTER = Header(name="Retry-After", description="Seconds to wait before asking again.", example="1")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A good answer of a route, a resource in JSON and XML unless `media_type` names another one."""

    description: str
    shape: type[Shape] | None = None
    media_type: str | None = None
    schema: Mapping[str, Any] | None = None
    """JSON Schema of what is no resource; of a stream, of each event."""
    example: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the examples of the shape's fields; None for what is absent."""
    headers: tuple[Header, ...] = ()
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By the function that the link leads to: its parameters as runtime expressions (OpenAPI 3.1 §4.8.20.4)."""


@dataclass(frozen=True, kw_only=True)
class Callback:
    """Describe a call that we make in answer, in JSON, to the URL that stands at `url` (a runtime expression)."""

    name: str
    url: str
    description: str
    shape: type[Shape]
    headers: tuple[Parameter, ...]
    answers: Mapping[str, str]
    """By status, what we take the receiver's answer for."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Hold what a route declares; see `operation`."""

    answers: Mapping[int, Answer]
    takes: Shape | None
    parameters: tuple[Parameter, ...]
    problems: Mapping[int, str]
    callback: Callback | None


def conditional(declared: Operation) -> Operation:
    """Add to what shows a resource that it has a tag, and is not sent to who has it (`pulsaga.web.conventions`)."""
    shown = declared.answers.get(200)
    if shown is None or shown.shape is None or ETAG in shown.headers:
        return declared
    tagged, same = replace(shown, headers=(*shown.headers, ETAG)), Answer(description=UNCHANGED, headers=(ETAG,))
    parameters = (*declared.parameters, IF_NONE_MATCH)
    return replace(declared, answers={**declared.answers, 200: tagged, 304: same}, parameters=parameters)


def operation(
    *,
    answers: Mapping[int, Answer],
    takes: Shape | None = None,
    parameters: tuple[Parameter, ...] = (),
    problems: Mapping[int, str] | None = None,
    callback: Callback | None = None,
) -> Callable[[View], View]:
    """Declare a route: with `takes` its view gets the loaded body as first argument.

    `problems` says why this route refuses, by status; what refuses every route is known already.
    """
    refusals = problems or {}
    declared = Operation(answers=answers, takes=takes, parameters=parameters, problems=refusals, callback=callback)

    def declare(view: View) -> View:
        described: Any = _loading(takes, view) if takes else _same(view)
        described.operation = declared
        return cast(View, described)

    return declare


def _loading(takes: Shape, view: View) -> Callable[..., ResponseReturnValue]:
    @wraps(view)
    def loaded(**parts: Any) -> ResponseReturnValue:
        said = http.body()
        return view(load(takes, as_json(takes, said) if http.speaks_xml() else said), **parts)

    return loaded


def _same(view: View) -> Callable[..., ResponseReturnValue]:
    """Return a view that does the same: several apps may declare one view, each in its own way."""

    @wraps(view)
    def same(**parts: Any) -> ResponseReturnValue:
        return view(**parts)

    return same


def load(schema: Schema, data: Any) -> dict[str, Any]:
    """Load a body; raise the Problem 422 with a pointer to each wrong field."""
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise invalid(dict(_pointers(error.messages, ""))) from None
    return loaded


def _pointers(messages: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(messages, dict):
        for name, inner in messages.items():
            step = "" if name == "_schema" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from _pointers(inner, pointer + step)
    else:
        yield pointer, " ".join(messages)
