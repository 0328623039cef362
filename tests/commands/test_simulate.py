from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stepstream.commands.simulate import Simulate
from stepstream.errors import SettingsError
from stepstream.simulation.fleet import messages

if TYPE_CHECKING:
    from pathlib import Path


def simulate(inputs: dict[str, Any]) -> Simulate:
    return Simulate(topics={"readings": ["sensors.eu"]}, inputs=inputs)


@pytest.mark.parametrize("name", ["sensors.eu", r"^sensors\."])
def test_messages_are_written_as_the_topic_or_its_pattern_says(name: str) -> None:
    made = simulate({"^other": {"time_unit": "us"}, name: {"time_unit": "ms"}})
    assert made._input.time_unit == "ms"


def test_what_is_wrong_for_the_topic_is_said() -> None:
    with pytest.raises(SettingsError, match=r"inputs: \^sensors: time_unit"):
        _ = simulate({"^sensors": {"time_unit": "hours"}})._input


@pytest.mark.parametrize("batch", [1, 40])
def test_recordings_keep_their_own_times_if_that_is_asked_for(tmp_path: Path, batch: int) -> None:
    begins_s = {"monday": 1_700_000_000.0125, "friday": 1_700_345_600.4}
    times = {name: (begin_s + np.arange(100) / 80).round(6) for name, begin_s in begins_s.items()}
    for name, times_s in times.items():
        rows = "".join(f"{at_s},1,2,9\n" for at_s in times_s)
        (tmp_path / f"{name}.csv").write_text(f"timestamp,accel_x,accel_y,accel_z\n{rows}")
    paths = sorted(tmp_path.iterdir())
    made = Simulate(recordings=paths, own_times=True, copies=2, speed=0)
    fleet, seconds = made._fleet()
    assert seconds < 5
    sent: dict[str, list[float]] = {}
    for message in messages(fleet, 0.0, seconds, batch=batch, decimals=None):
        stamps = json.loads(message.value)["timestamp"]
        sent.setdefault(message.key.decode(), []).extend(stamps if batch > 1 else [stamps])
    assert sent == {f"{name}-{n}": times[name].tolist() for name in times for n in range(2)}
    assert {line["shift_s"] for line in made._truth(fleet, 0.0, seconds)} == {0}


def test_simulated_people_have_no_times_of_their_own() -> None:
    with pytest.raises(SettingsError, match="--own-times needs recordings"):
        Simulate(own_times=True)._fleet()
