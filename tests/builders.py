"""Messages of readings, as senders write them, and model files, as a deployment replaces them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec
import numpy as np

from stepstream.detection import Model, default_model_path
from stepstream.detection.model import write_metadata
from stepstream.inputs import Decoded, InputFormat, Messages, make_format
from stepstream.settings import InputSettings
from stepstream.training.sets import load_people

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

FIELDS = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")


def reading(**changes: Any) -> dict[str, Any]:
    """A valid single reading; a field set to None is left out."""
    fields: dict[str, Any] = {
        "timestamp": 1_700_000_000.0125,
        "accel_x": 0.12,
        "accel_y": 9.71,
        "accel_z": 0.34,
        "gyro_x": 0.01,
        "gyro_y": -0.02,
        "gyro_z": 0.11,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def batch(size: int, **changes: Any) -> dict[str, Any]:
    """A valid batch; a field set to None is left out."""
    fields: dict[str, Any] = {
        "timestamp": [1_700_000_000 + i / 80 for i in range(size)],
        **{name: [float(i)] * size for i, name in enumerate(FIELDS)},
        **changes,
    }
    return {name: field for name, field in fields.items() if field is not None}


def encode(fields: Any) -> bytes:
    """JSON as Python's own library writes it, NaN included."""
    return json.dumps(fields).encode()


def decode(
    values: Sequence[bytes | None],
    device_ids: str | Sequence[str] = "phone",
    *,
    record_ms: ArrayLike = 0,
    latest_us: NDArray[np.float64] | NDArray[np.int64] | int = 1_800_000_000_000_000,
    **settings: Any,
) -> Decoded:
    """Decode messages, of one device or of several."""
    ids = [device_ids] * len(values) if isinstance(device_ids, str) else device_ids
    times = np.broadcast_to(np.asarray(record_ms, np.int64), len(values))
    return decode_with(make_format(InputSettings(**settings)), values, ids, times, latest_us)


def python_format(settings: InputSettings) -> InputFormat:
    """A format that decodes without the compiled decoder."""
    with patch("stepstream.inputs.native_json.find_native", return_value=None):
        return make_format(settings)


def decode_with(
    made: InputFormat,
    values: Sequence[bytes | None],
    ids: Sequence[str],
    times: NDArray[np.int64],
    latest_us: NDArray[np.float64] | NDArray[np.int64] | int,
) -> Decoded:
    """Decode messages by a format, with what is invalid from both of its steps."""
    opened = made.open([one.encode() for one in ids], values, lambda _: [])
    decoded = made.decode(Messages(opened.values, ids, times, latest_us))
    return decoded._replace(invalid={**opened.invalid, **decoded.invalid})


def messages(time_s: NDArray[np.float64], axes: NDArray[np.float32], size: int = 1) -> list[bytes]:
    """A recording as messages of ``size`` readings, single ones in scalar form."""
    values = np.round(axes.astype(float), 6)
    if size == 1:
        return [
            encode({"timestamp": t, **dict(zip(FIELDS, row, strict=True))})
            for t, row in zip(time_s.tolist(), values.tolist(), strict=True)
        ]
    return [
        encode(
            {
                "timestamp": time_s[i : i + size].tolist(),
                **{f: values[i : i + size, j].tolist() for j, f in enumerate(FIELDS)},
            }
        )
        for i in range(0, len(time_s), size)
    ]


def load_walk(
    recordings: Path, person: str = "person-08"
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Times in s, at 80 Hz, and axes of a person's first recording."""
    recording = next(
        r for r in load_people([recordings / "simul-hand"]) if r.person == f"simul-hand/{person}"
    )
    return np.arange(len(recording.axes)) / 80, recording.axes


def put_model(path: Path, **changes: object) -> None:
    """Put the shipped model there with other metadata, in one step, as a deployment does."""
    metadata = msgspec.structs.replace(Model(default_model_path()).metadata, **changes)
    beside = path.with_suffix(".new")
    beside.write_bytes(default_model_path().read_bytes())
    write_metadata(beside, metadata)
    beside.replace(path)
