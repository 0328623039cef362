"""The examples of docs/inputs.md give what they show."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from stepstream.inputs import Messages, make_format
from stepstream.settings import InputSettings
from tests.conftest import ROOT

PREFIX = "STEPSTREAM_INPUT__"


def examples() -> list[tuple[dict[str, Any], bytes]]:
    """Settings and a message, from each block of code that has both."""
    page = (ROOT / "docs" / "inputs.md").read_text()
    found = []
    for block in re.findall(r"(?:^ {4}\S.*\n|^\n(?= {4}\S))+", page, re.MULTILINE):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        given = [line for line in lines if line.startswith(PREFIX)]
        messages = [line for line in lines if line[0] in "{["]
        if messages:
            settings = {}
            for name, value in (line.removeprefix(PREFIX).split("=", 1) for line in given):
                is_json = value.startswith("'")
                settings[name.lower()] = json.loads(value.strip("'")) if is_json else value
            found.append((settings, messages[0].encode()))
    return found


def test_the_page_has_its_examples() -> None:
    assert len(examples()) == 6


@pytest.mark.parametrize(("settings", "message"), examples())
def test_an_example_gives_readings(settings: dict[str, Any], message: bytes) -> None:
    made = make_format(InputSettings(**settings))
    opened = made.open([b"phone-17"], [message], lambda _: [])
    assert opened.keys == [b"phone-17"]
    decoded = made.decode(
        Messages(opened.values, ["phone-17"], np.zeros(1, np.int64), 1_900_000_000_000_000)
    )
    assert not {**opened.invalid, **decoded.invalid}
    assert 1 <= len(decoded.message) <= 3
    assert (decoded.time_us >= 1_700_000_000_000_000).all()
    accelerated = decoded.axes[decoded.axes[:, :3].any(axis=1)]
    assert (np.abs(accelerated[:, 1] - 9.65) < 0.1).all()
