"""The hashes that the image's packages are held to."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires

from packaging.requirements import Requirement

from stepstream import __version__
from tests.conftest import ROOT

EXTRAS = ("avro", "cbor", "otlp", "protobuf")
TEXT = (ROOT / "deploy" / "image" / "requirements.txt").read_text()
PINS = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", TEXT, re.MULTILINE))


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_versions_are_those_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    constrained = {normal(name): version for name, _, version in (x.partition("==") for x in lines)}
    assert len(PINS) > 25
    assert {name: constrained.get(name) for name in PINS} == PINS


def test_whatever_the_package_needs_is_there_with_hashes() -> None:
    left: list[tuple[str, tuple[str, ...]]] = [("stepstream", EXTRAS)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while left:
        name, extras = left.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in requires(name) or []:
            one = Requirement(text)
            chosen = ("", *extras)
            if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in chosen):
                left.append((normal(one.name), tuple(sorted(one.extras))))
    needed = {name for name, _ in seen} - {"stepstream"}
    assert needed <= PINS.keys()
    for name in needed:
        entry = TEXT.partition(f"\n{name}==")[2].partition("==")[0]
        assert "--hash=sha256:" in entry, name


def test_the_compiled_decoder_is_of_the_same_release() -> None:
    project = tomllib.loads((ROOT / "native" / "Cargo.toml").read_text())
    assert project["package"]["version"] == __version__
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras["optional-dependencies"]["native"] == [f"stepstream-native=={__version__}"]


def test_no_address_is_in_it() -> None:
    assert "://" not in TEXT
    assert "index-url" not in TEXT
