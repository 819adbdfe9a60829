"""Speak JSON, XML and what a system adds: negotiate by Content-Type and Accept, read requests, write resources and
problems (RFC 9457).

All formats carry the same names in the same order; what one refuses becomes a `Problem`. Flask is not needed here.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from math import isfinite
from typing import Any

import orjson
from lxml import etree
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from pulsaga.errors import DefinitionError
from pulsaga.service import refuse_twins
from pulsaga.text import printable

Document = Mapping[str, Any]
PROBLEM_NAMESPACE = "urn:ietf:rfc:7807"
PROBLEM_TYPE = "urn:protools:problem:"
SCHEMA_INSTANCE = "{http://www.w3.org/2001/XMLSchema-instance}"
DEPTH = 32
"""Levels of nesting that a request may have, in either format."""
ENCODINGS = ("UTF-8", "UTF8", "US-ASCII", "ASCII", "UTF-16", "UTF-16LE", "UTF-16BE", "ISO-8859-1", "LATIN1")
"""What XML may be written in. Others exist to get past filters (UTF-7) or by mistake."""
BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "UTF-8"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
DECLARED_ENCODING = re.compile(rb"\W*<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)")
LONGEST_DECLARATION = 1024
"""Bytes within which an XML declaration that follows a byte order mark is looked for."""
ERRORS_NAMED, NAME_CHARACTERS, LONGEST_DETAIL = 20, 200, 2000
"""Errors that one problem names, characters of a name in it, and of its detail: no answer is much larger than what was
asked."""
SINGULAR = {"log": "entry"}
"""Names of an XML list's items, where they are not the list's name without its `s`."""


class Problem(Exception):
    """A refusal of a request; it becomes an RFC 9457 problem in the caller's format; `code` never changes."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail = status, code, printable(detail, LONGEST_DETAIL)
        self.headers = dict(headers or {})
        self._more = more | ({"errors": errors} if errors else {})

    @property
    def document(self) -> dict[str, Any]:
        """The members of the problem, in their order."""
        title = self.code.replace("-", " ").capitalize()
        known = {"type": PROBLEM_TYPE + self.code, "title": title, "status": self.status, "detail": self.detail}
        return known | {"code": self.code} | self._more


def problem_of_status(status: int, detail: str = "") -> Problem:
    """Make the problem of an HTTP status that has no code of its own; the code is its name in lower case."""
    phrase = {413: "Too Large", 500: "Internal Error"}.get(status) or HTTPStatus(status).phrase
    return Problem(status, re.sub(r"\W+", "-", phrase.lower()), detail or f"{phrase}.")


def invalid(errors: Mapping[str, str], place: str = "pointer") -> Problem:
    """Make the 422 that names each wrong field by its JSON Pointer (RFC 6901), or each query parameter."""
    named = list(errors.items())[:ERRORS_NAMED]
    rows = [
        {place: printable(name, NAME_CHARACTERS), "detail": printable(detail, NAME_CHARACTERS)}
        for name, detail in named
    ]
    said = [f"{row[place] or 'body'}: {row['detail']}" for row in rows]
    more = [f"{len(errors) - len(rows)} more errors"] if len(errors) > len(rows) else []
    return Problem(422, "invalid", "; ".join(said + more), errors=rows)


# --- writing


@dataclass(frozen=True, kw_only=True)
class Format:
    """A media type, in lower case, and how it is read and written. A system adds its own by `System(formats=…)`."""

    media_type: str
    read: Callable[[bytes, str], Any]
    """A body and its charset, in upper case, to what JSON would have said; may raise anything."""
    write: Callable[[str, Document], bytes]
    """A resource; its name is the root element that XML needs."""
    write_problem: Callable[[Document], bytes]
    problem_type: str = ""
    """Content-Type of a problem; by default the media type."""
    content_type: str = ""
    """Content-Type of a resource; by default the media type."""
    charsets: tuple[str, ...] = ("",)
    """What may be given as the charset of a body, in upper case; `""` for none."""


def write_json(_name: str, document: Document) -> bytes:
    """Write a resource as JSON."""
    return orjson.dumps(document)


def write_xml(name: str, document: Document) -> bytes:
    """Write a resource as XML: root `name`, lists as repeated children named in the singular, inside their own element.

    The list that is called like the root is the root itself: `{"passwords": [..]}` gives `<passwords><password/>…`.
    """
    return _serialized(_element(name, document, ""))


def write_problem_xml(document: Document) -> bytes:
    """Write a problem as XML (RFC 9457 appendix B): its namespace, list items named `i`."""
    return _serialized(_element("problem", document, PROBLEM_NAMESPACE))


def _serialized(root: Any) -> bytes:
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return written


def _element(name: str, value: Any, namespace: str) -> Any:
    element = _empty(name, namespace)
    if isinstance(value, Mapping):
        for key, item in value.items():
            is_root_list = key == name and isinstance(item, list)
            element.extend(_items(key, item, namespace) if is_root_list else [_element(key, item, namespace)])
    elif isinstance(value, list):
        element.extend(_items(name, value, namespace))
    else:
        element.text = _text(value)
    return element


def _empty(name: str, namespace: str) -> Any:
    nsmap: Any = {None: namespace}  # lxml-stubs know no default namespace
    return etree.Element(f"{{{namespace}}}{name}", nsmap=nsmap) if namespace else etree.Element(name)


def _items(name: str, values: list[Any], namespace: str) -> list[Any]:
    return [_element(item_name(name, namespace), value, namespace) for value in values]


def item_name(name: str, namespace: str = "") -> str:
    """Return what the items of a list are called in XML."""
    return "i" if namespace else SINGULAR.get(name) or name.removesuffix("s")


NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document can hold."""


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return NOT_XML.sub("\ufffd", str(value))


# --- reading JSON and XML


def _read_json(body: bytes, _charset: str) -> Any:
    try:
        text = body.decode()
        value = orjson.loads(text)
    except UnicodeDecodeError as error:
        raise _unreadable("JSON", "it is not UTF-8", *_place(body[: error.start].decode())) from None
    except orjson.JSONDecodeError as error:
        raise _unreadable("JSON", error.msg, error.lineno, error.colno) from None
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(text)
    return value


JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""A string, or a bracket outside of one, in JSON that is well-formed."""


def _check_depth(text: str) -> None:
    depth = 0
    for token in JSON_TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > DEPTH:
            raise _unreadable("JSON", f"nested deeper than {DEPTH} levels", *_place(text[: token.start()]))


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _read_xml(body: bytes, charset: str) -> Any:
    try:
        _stop_at_the_root(body, charset)
        root = etree.fromstring(body, _parser(charset))
    except etree.XMLSyntaxError as error:
        reason = (error.msg or "the body is empty").partition(", line ")[0].strip()
        raise _unreadable("XML", printable(reason), *(error.position or (1, 1))) from None
    _check_prolog(root.getroottree().docinfo, body)
    value = _value(root, 1)
    return value if isinstance(value, dict) else {"#text": value} if value.strip() else {}


class _DocumentType(Exception):
    """Raised inside the parser when a document type declaration begins."""


class _Root(Exception):
    """Raised inside the parser when the root element begins: the prolog was read and holds no document type."""


class _Prolog:
    """A target for the parser that stops at whichever of the two comes first."""

    def doctype(self, *_: object) -> None:
        raise _DocumentType

    def start(self, *_: object) -> None:
        raise _Root

    def close(self) -> None:
        """End what has no root; the parser raises its own error."""


def _stop_at_the_root(body: bytes, charset: str) -> None:
    """Read the prolog alone; raise the Problem for a document type before the parser declares or opens any of it.

    What a parser loads because of a document type depends on its options in ways that surprise (`collect_ids=False`
    loads an external DTD), so no document that has one reaches the parser that builds the tree.
    """
    try:
        etree.fromstring(body, _parser(charset, _Prolog()))
    except _DocumentType:
        place = _place(body.partition(b"<!DOCTYPE")[0].decode("latin-1"))
        raise _unreadable("XML", "a document type declaration (DTD, entities) is not allowed", *place) from None
    except _Root:
        return


def _check_prolog(said: Any, body: bytes) -> None:
    if said.encoding.upper() not in ENCODINGS:
        raise _unreadable("XML", f"the encoding {said.encoding} is not spoken, send UTF-8", 1, 1)
    if said.xml_version != "1.0":
        raise _unreadable("XML", f"version {said.xml_version} is not spoken, send 1.0", 1, 1)
    mark = next((name for mark, name in BYTE_ORDER_MARKS if body.startswith(mark)), None)
    declared = DECLARED_ENCODING.match(body[:LONGEST_DECLARATION].replace(b"\0", b""))
    if mark and declared and not declared[1].decode().upper().replace("UTF8", "UTF-8").startswith(mark):
        raise _unreadable("XML", f"the byte order mark says {mark}, the declaration says otherwise", 1, 1)


def _parser(charset: str, target: Any = None) -> Any:
    return etree.XMLParser(
        target=target,
        encoding=charset or None,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def _value(element: Any, depth: int) -> Any:
    fields = {f"@{name}": text for name, text in element.attrib.items() if not name.startswith(SCHEMA_INSTANCE)}
    if not len(element) and not fields:
        return element.text or ""
    if depth > DEPTH:
        raise _unreadable("XML", f"nested deeper than {DEPTH} levels", element.sourceline, 1)
    beside = "".join(text or "" for text in (element.text, *(child.tail for child in element))).strip()
    if beside:
        fields["#text"] = beside
    for child in element:
        _add(fields, etree.QName(child).localname, _value(child, depth + 1))
    return fields


def _add(fields: dict[str, Any], name: str, value: Any) -> None:
    if name not in fields:
        fields[name] = value
    elif isinstance(fields[name], list):
        fields[name].append(value)
    else:
        fields[name] = [fields[name], value]


def _unreadable(format_name: str, reason: str, line: int, column: int) -> Problem:
    detail = f"the body is not readable {format_name}: {reason} (line {line}, column {column})"
    return Problem(400, "unreadable", detail, line=line, column=column)


# --- the formats


def _xml(media_type: str) -> Format:
    charset = "; charset=utf-8"
    return Format(
        media_type=media_type,
        read=_read_xml,
        write=write_xml,
        write_problem=write_problem_xml,
        problem_type="application/problem+xml" + charset,
        content_type=media_type + charset,
        charsets=("", *ENCODINGS),
    )


JSON = Format(
    media_type="application/json",
    read=_read_json,
    write=write_json,
    write_problem=orjson.dumps,
    problem_type="application/problem+json",
    charsets=("", "UTF-8", "UTF8", "US-ASCII"),
)
XML, TEXT_XML = _xml("application/xml"), _xml("text/xml")
BUILT_IN = (JSON, XML, TEXT_XML)


def check(added: Sequence[Format]) -> None:
    """Raise DefinitionError for a format that another one is in the way of."""
    refuse_twins("two formats for", [one.media_type for one in (*BUILT_IN, *added)], str)
    for one in added:
        if one.media_type != one.media_type.lower():
            raise DefinitionError(f"format {one.media_type}: write its media type in lower case")


# --- negotiation


@lru_cache(maxsize=256)
def format_for(accept: str, content_type: str, added: tuple[Format, ...] = ()) -> Format | None:
    """Choose the format of an answer by Accept, with q-values (RFC 9110 §12.5.1); None when nothing fits.

    Where the caller has no preference, the answer is in the format of the request.
    """
    offers = {one.media_type: one for one in _offers(content_type, added)}
    best = _accepted(accept).best_match(list(offers))
    return offers[best] if best else None


@lru_cache(maxsize=256)
def problem_format(accept: str, content_type: str, added: tuple[Format, ...] = ()) -> Format:
    """Choose the format of a problem: what is accepted, else the format of the request, else JSON."""
    first, *others = _offers(content_type, added)
    problems = {parse_options_header(one.problem_type)[0]: one for one in (JSON, XML, *added) if one.problem_type}
    offers = {first.media_type: first, **problems, **{one.media_type: one for one in others}}
    best = _accepted(accept).best_match(list(offers))
    return offers[best] if best else first


def _offers(content_type: str, added: tuple[Format, ...]) -> list[Format]:
    """Return all formats, that of the request first."""
    media_type = parse_options_header(content_type)[0].lower()
    return sorted((*BUILT_IN, *added), key=lambda one: one.media_type != media_type)


def _accepted(accept: str) -> MIMEAccept:
    utf8 = re.sub(r';\s*charset\s*=\s*"?utf-?8"?', "", accept, flags=re.IGNORECASE)
    return parse_accept_header(utf8.strip() or "*/*", MIMEAccept)


# --- reading a request


def read(content_type: str, body: bytes, added: tuple[Format, ...] = ()) -> Any:
    """Read a request's body; raise the Problem 415 for a type that is not spoken here, 400 for what cannot be read.

    Of JSON members of one name the last counts. XML gives a dict of the root's children, whatever the root's name:
    a repeated child is a list, an attribute `@name`, text beside either `#text`; namespaces are not looked at. What an
    added format reads must be what JSON could have said.
    """
    try:
        return _read(content_type, body, added)
    except Problem:
        raise
    except Exception as error:  # whatever a parser raises for what a stranger sent
        raise Problem(400, "unreadable", "the body is not readable") from error


def _read(content_type: str, body: bytes, added: tuple[Format, ...]) -> Any:
    media_type, options = parse_options_header(content_type)
    charset = options.get("charset", "").upper()
    for one in (*BUILT_IN, *added):
        if one.media_type == media_type.lower() and charset in one.charsets:
            value = one.read(body, charset)
            return value if one in BUILT_IN else _as_in_json(value, 1)
    spoken = spoken_types(added)
    said = f"{content_type!r} is not understood" if content_type else "there is no Content-Type"
    raise Problem(415, "unsupported-media-type", f"{said}; send one of {spoken} in UTF-8", headers={"Accept": spoken})


def spoken_types(added: Sequence[Format]) -> str:
    """Return the media types of all formats, as Accept has them."""
    return ", ".join(one.media_type for one in (*BUILT_IN, *added))


def _as_in_json(value: Any, depth: int) -> Any:
    """Return a value if JSON could hold it, too, no deeper than DEPTH: nothing behind here expects anything else."""
    if isinstance(value, dict | list) and depth > DEPTH:
        raise Problem(400, "unreadable", f"the body is nested deeper than {DEPTH} levels")
    match value:
        case None | bool() | str() | int():
            return value
        case float() if isfinite(value):
            return value
        case list():
            return [_as_in_json(one, depth + 1) for one in value]
        case dict() if all(isinstance(name, str) for name in value):
            return {name: _as_in_json(one, depth + 1) for name, one in value.items()}
    raise Problem(400, "unreadable", f"the body holds {type(value).__name__}, which JSON has no word for")
