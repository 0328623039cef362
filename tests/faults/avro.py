"""Rounds in Avro: three schemas one after the other, and troubles of the registry."""

from __future__ import annotations

import json
from bisect import bisect
from typing import TYPE_CHECKING, Any

from stepstream.inputs import MessageWriter
from stepstream.settings import InputSettings, RegistrySettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

    import numpy as np
    from numpy.typing import NDArray

    from stepstream.inputs.writing import Written
    from tests.faults.proxy import Proxy

AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
LONGEST_S = 5.0
MOST = 3
"""Troubles in a round."""


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _record(**fields: Any) -> dict[str, Any]:
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": "Batch", "namespace": "house.sensors", "fields": listed}


MICROSECONDS = {"type": "long", "logicalType": "timestamp-micros"}
VERSIONS = [
    _record(timestamp=_array("double"), **dict.fromkeys(AXES, _array("double"))),
    _record(battery="int", timestamp=_array(MICROSECONDS), **dict.fromkeys(AXES, _array("float"))),
    _record(timestamp=_array(MICROSECONDS), **{axis: ["null", _array("float")] for axis in AXES}),
]


class UpdatedDevices(MessageWriter):
    """Writes with a newer schema after each of some moments.

    Parameters
    ----------
    folder
        For the schemas' files.
    registry
        Address of the registry.
    topic
        The topic of the messages.
    change_us
        When devices get the next schema, microseconds since the epoch.
    """

    def __init__(self, folder: Path, registry: str, topic: str, change_us: Sequence[int]) -> None:
        self._writers = []
        self._change_us = change_us
        settings = RegistrySettings(url=registry)
        for number, schema in enumerate(VERSIONS):
            file = folder / f"version-{number}.avsc"
            file.write_text(json.dumps(schema))
            given = InputSettings(format="avro", schema=file)
            self._writers.append(MessageWriter(given, None, settings, topic))

    def write(
        self, device_id: str, time_us: NDArray[np.int64], axes: NDArray[np.float64]
    ) -> list[Written]:
        """See `MessageWriter.write`."""
        version = bisect(self._change_us, int(time_us[0]))
        return self._writers[version].write(device_id, time_us, axes)


class RegistryTroubles:
    """When the registry is away, slow or silent, and for how long.

    Parameters
    ----------
    proxy
        What consumers reach it through.
    random
        Chooses them.
    span_s
        The time in which they begin.
    """

    def __init__(self, proxy: Proxy, random: Random, span_s: float) -> None:
        self._proxy = proxy
        self._random = random
        count = random.randint(1, MOST)
        begins = sorted(random.uniform(0, span_s) for _ in range(count))
        self._due = [(at_s, random.choice(["away", "silent", "slow"])) for at_s in begins]
        self._until_s = 0.0
        self._is_away = False

    def turn(self, at_s: float) -> str:
        """Begin and end what is due; the kind of one that begins, with its length."""
        if self._until_s and at_s > self._until_s:
            self.end()
        if self._until_s or not self._due or at_s < self._due[0][0]:
            return ""
        _, kind = self._due.pop(0)
        lasts_s = self._random.uniform(0.5, LONGEST_S)
        self._until_s = at_s + lasts_s
        if kind == "away":
            self._proxy.refuse()
            self._is_away = True
        elif kind == "silent":
            self._proxy.stall()
        else:
            self._proxy.delay_s = self._random.uniform(0.05, 0.5)
        return f"registry {kind}"

    def end(self) -> None:
        """End what is going on."""
        self._until_s = 0.0
        self._proxy.restore()
        if self._is_away:
            self._is_away = False
            self._proxy.accept()
