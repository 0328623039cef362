from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepstream.errors import SettingsError
from stepstream.inputs import Messages, MessageWriter, device_name, make_format
from stepstream.settings import InputSettings, Settings
from tests.conftest import ROOT
from tests.inputs.forms import ARRAYS, AXES, NESTED, PLACES

TIME_US = 1_700_000_000_000_000 + np.arange(6) * 12_000
AXES_GIVEN = np.arange(36, dtype=np.float64).reshape(6, 6) / 4
ONE_SENSOR = {
    "sensor": {"path": "s.name", "accelerometer": "acc", "gyroscope": 2},
    "fields": dict(zip(AXES, ("v.0", "v.1", "v.2") * 2, strict=True)),
}


def example(name: str) -> dict[str, Any]:
    """Settings of a ready-made example, with the whole path of its schema."""
    folder = ROOT / "examples" / "inputs" / name
    given = Settings(_env_file=folder / "settings.env").input
    changes = {"schema": folder / str(given.schema_)}
    return given.with_changes(changes).model_dump(by_alias=True, exclude_unset=True)


@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fields": NESTED, "time_unit": "ms", "device_id": "id"},
        {"fields": ARRAYS, "time_unit": "us", "format": "msgpack"},
        {"fields": PLACES, "time_unit": "ns", "format": "cbor"},
        {"fields": NESTED, "readings": "a.b", "time_unit": "iso8601", "device_id": "id.x"},
        {"fields": PLACES, "readings": "a", "numeric_strings": True, "device_id": "header:dev"},
        {"fields": {"start": "t0", "period": "dt"}, "time_unit": "ms"},
        {"fields": {"start": "t0", "rate": "hz"}, "readings": "data", "key": "json"},
        {
            "fields": {
                "timestamp": "data.*.t",
                **{
                    f"{sensor}_{axis}": f"data.*.{sensor}.{place}"
                    for sensor in ("accel", "gyro")
                    for place, axis in enumerate("xyz")
                },
            }
        },
        {"accel_unit": "g", "gyro_unit": "deg/s", "key": "int64"},
        {"accel_unit": "m/s2/4", "gyro_unit": "0.25 rad/s", "key": "int32"},
        {"key": "uuid"},
        {**ONE_SENSOR, "readings": "data"},
        ONE_SENSOR,
        example("avro-gateway"),
        example("protobuf-wearable"),
    ],
)
def test_what_is_written_is_read_again(settings: dict[str, Any], size: int) -> None:
    made = InputSettings(**settings)
    device_id = device_name(made, 17)
    written = MessageWriter(made).write(device_id, TIME_US[:size], AXES_GIVEN[:size])
    reading = make_format(made)
    opened = reading.open(
        [one.key for one in written],
        [one.value for one in written],
        lambda row: written[row].headers,
    )
    assert not opened.invalid
    assert [(key or b"").decode() for key in opened.keys] == [device_id] * len(written)
    decoded = reading.decode(
        Messages(
            opened.values,
            [device_id] * len(written),
            np.zeros(len(written), np.int64),
            TIME_US[-1] + 1,
        )
    )
    assert not decoded.invalid
    if decoded.sensors is None:
        assert decoded.time_us.tolist() == TIME_US[:size].tolist()
        assert decoded.axes == pytest.approx(AXES_GIVEN[:size], abs=1e-4)
        return
    for bit, axes in ((1, slice(0, 3)), (2, slice(3, 6))):
        mine = decoded.sensors == bit
        assert decoded.time_us[mine].tolist() == TIME_US[:size].tolist()
        assert decoded.axes[mine, axes] == pytest.approx(AXES_GIVEN[:size, axes])


def test_without_a_gyroscope_its_fields_are_left_out() -> None:
    (written,) = MessageWriter(InputSettings(fields=NESTED)).write(
        "a", TIME_US[:1], AXES_GIVEN[:1] * [1, 1, 1, 0, 0, 0]
    )
    assert b"gyro" not in written.value


def test_a_key_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(SettingsError, match="'phone' can't be a key of int32"):
        MessageWriter(InputSettings(key="int32")).write("phone", TIME_US, AXES_GIVEN)
