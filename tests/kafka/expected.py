"""The events that `detect` finds in messages that were sent, and how those published differ."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection import (
    ACCELEROMETER,
    GYROSCOPE,
    Model,
    Rules,
    default_model_path,
    detect_series,
)
from stepstream.outputs import Event, encode_value
from stepstream.settings import ProcessingSettings
from stepstream.streaming.counting import count_steps
from tests.builders import FIELDS
from tests.kafka.played import by_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.kafka.played import Step


def expected_steps(
    sent: Mapping[bytes, Sequence[bytes]], path: Path | None = None, *, every: bool = False
) -> dict[str, list[Step]]:
    """What `detect` finds in the messages of each device, in the form of `by_device`.

    By the model in the environment, or the one that ships, unless another one is named. With
    ``every``, also the steps that don't count because another one ended just before; all have
    count 0 then.
    """
    path = path or Path(os.environ.get("STEPSTREAM_MODEL__PATH", default_model_path()))
    model, settings = Model(path), ProcessingSettings()
    found = []
    for key, values in sent.items():
        columns = [json.loads(value) for value in values]
        times = [np.atleast_1d(c["timestamp"]) for c in columns]
        axes = [
            np.stack([np.broadcast_to(c.get(name, 0.0), len(t)) for name in FIELDS], axis=1)
            for c, t in zip(columns, times, strict=True)
        ]
        steps = detect_series(
            model,
            np.rint(np.concatenate(times) * 1e6).astype(np.int64),
            np.concatenate(axes).astype(np.float32),
            Rules.of(settings),
            sensors=np.repeat([_sensors(c) for c in columns], [len(t) for t in times]).astype(
                np.uint8
            )
            if "sensor" in columns[0]
            else None,
        )
        name, label = key.decode(), model.metadata.label
        if every:
            found += [Event.of(name, 0, *row, label) for row in steps.rows()]
        else:
            found += count_steps(name, steps, model, settings)[1]
    return by_device(json.loads(encode_value(event)) for event in found)


def _sensors(message: Mapping[str, object]) -> int:
    return ACCELEROMETER * ("accel_x" in message) + GYROSCOPE * ("gyro_x" in message)


def difference(expected: Sequence[Step], found: Sequence[Step]) -> str:
    """How the steps of a device that were published differ from those expected, in words."""
    missing = [step for step in expected if step not in found]
    extra = [step for step in found if step not in expected]
    if not missing and not extra:
        return f"{len(expected)} steps are expected, {len(found)} were published, some out of order"
    return (
        f"of {len(expected)} steps {len(missing)} are missing and {len(extra)} wrong or repeated; "
        f"counts missing {[step[0] for step in missing[:5]]}, wrong {[s[0] for s in extra[:5]]}"
    )
