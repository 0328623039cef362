from __future__ import annotations

from typing import Any

import pytest

from stepstream.commands.simulate import Simulate
from stepstream.errors import SettingsError


def simulate(inputs: dict[str, Any]) -> Simulate:
    return Simulate(topics={"readings": ["sensors.eu"]}, inputs=inputs)


@pytest.mark.parametrize("name", ["sensors.eu", r"^sensors\."])
def test_messages_are_written_as_the_topic_or_its_pattern_says(name: str) -> None:
    made = simulate({"^other": {"time_unit": "us"}, name: {"time_unit": "ms"}})
    assert made._input.time_unit == "ms"


def test_what_is_wrong_for_the_topic_is_said() -> None:
    with pytest.raises(SettingsError, match=r"inputs: \^sensors: time_unit"):
        _ = simulate({"^sensors": {"time_unit": "hours"}})._input
