"""Notices readings that look as if they had another unit than the settings say."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.detection.sanity import (
    MIN_PIECES,
    MIN_ROWS,
    Doubt,
    Verdict,
    judge,
    judge_piece,
    measure,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepstream.detection import Detector
    from stepstream.streaming.devices import Device, Devices

__all__ = ["Doubts"]

logger = logging.getLogger(__name__)

LOOK_US = 1_000_000
DEVICES_AT_ONCE = 32
"""Devices of which one look takes a piece."""
KEPT_PIECES = 300
"""Of each topic; older ones are dropped."""
JUDGE_EVERY = 10
"""Looks between two verdicts."""
FORGET_AFTER = 60
"""Looks after which a topic is forgotten of which nothing came."""
REPEAT_US = 3_600_000_000
"""Shortest time between two warnings of the same doubt about a topic."""
MAX_TOPICS = 1_000
DEVICE_LOOKS, DEVICE_DOUBTS = 5, 3
"""So many of a device's last looks have to find the same to say that the device is wrong."""
LATE_SHARE = 0.2
"""More of the looks find a gyroscope that is too late if the setting doesn't fit the topic."""

ACCEL = (
    "topic {topic}: the typical acceleration {of}is {accel:.2f} m/s^2, and gravity alone is 9.81; "
)
GYRO = "topic {topic}: the angular velocity often exceeds {gyro:.0f} rad/s, which nobody does; "
TEXTS = {
    Doubt.ACCEL_IN_G: ACCEL + "if the devices send g, set accel_unit to g",
    Doubt.ACCEL_TOO_LARGE: ACCEL + "if the devices send m/s^2, set accel_unit to m/s2",
    Doubt.NO_GRAVITY: ACCEL + "if the devices take gravity out, let them send it as measured",
    Doubt.GYRO_IN_DEGREES: GYRO + "if the devices send degrees, set gyro_unit to deg/s",
    Doubt.GYRO_TOO_LATE: "topic {topic}: the gyroscope's readings come too late and are not used; "
    "set processing.sensor_wait_ms above their delay",
}


class _Topic:
    """The pieces of a topic's devices, and what they look like."""

    def __init__(self) -> None:
        self.pieces: dict[tuple[int, int], tuple[float, float, float]] = {}
        """By slot and first sample, so that none is kept twice."""
        self.late: deque[bool] = deque(maxlen=KEPT_PIECES)
        """Whether the gyroscope was too late at each of the last looks at a device."""
        self.verdict = judge(np.empty((0, 3)))
        self.last_look = 0
        self.warned_us: dict[Doubt, int] = {}

    def judge(self) -> None:
        verdict = judge(np.array(list(self.pieces.values())))
        if len(self.late) >= MIN_PIECES and sum(self.late) > LATE_SHARE * len(self.late):
            verdict = verdict._replace(doubts=(*verdict.doubts, Doubt.GYRO_TOO_LATE))
        self.verdict = verdict

    def add(
        self, key: tuple[int, int], piece: tuple[float, float, float], look: int, *, is_late: bool
    ) -> bool:
        """Keep a piece; whether it is a new one."""
        if key in self.pieces:
            return False
        self.pieces[key] = piece
        self.late.append(is_late)
        self.last_look = look
        if len(self.pieces) > KEPT_PIECES:
            del self.pieces[next(iter(self.pieces))]
        return True


class _Suspect:
    """What the last looks at a device found; one of them was doubtful."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.found: deque[Doubt | None] = deque(maxlen=DEVICE_LOOKS)

    @property
    def doubt(self) -> Doubt | None:
        counts = Counter(doubt for doubt in self.found if doubt is not None)
        most = counts.most_common(1)
        return most[0][0] if most and most[0][1] >= DEVICE_DOUBTS else None


class Doubts:
    """Looks at the newest samples of some devices once a second, and judges those of each topic.

    It changes nothing: what a topic's unit is, only its owner knows.
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._suspects: dict[int, _Suspect] = {}
        """By slot."""
        self._look = 0
        self._next_look_us = -math.inf
        self.verdicts: Mapping[str, Verdict] = {}
        """Of topics with doubts; any thread may ask."""

    def look(self, devices: Devices, detector: Detector[Any], now_us: int) -> None:
        """Look, if a second has passed.

        Parameters
        ----------
        devices
            Which device has which slot.
        detector
            Has the samples.
        now_us
            The clock, microseconds since the epoch.
        """
        if 0 < self._next_look_us - now_us <= LOOK_US:
            return
        self._next_look_us = now_us + LOOK_US
        self._look += 1
        for slot in devices.next_slots(DEVICES_AT_ONCE):
            newest = detector.magnitudes(slot, -1)
            if newest is not None and len(newest[1]) >= MIN_ROWS:
                topic = self._topic(devices[slot].partition.topic)
                if topic:
                    is_late = detector.has_late_gyroscope(slot)
                    piece = measure(newest[1])
                    if topic.add((slot, newest[0]), piece, self._look, is_late=is_late):
                        self._suspect(devices[slot], slot, judge_piece(piece))
        if self._look % JUDGE_EVERY == 0:
            self._judge(now_us)

    def _suspect(self, device: Device, slot: int, doubt: Doubt | None) -> None:
        suspect = self._suspects.get(slot)
        if suspect is None or suspect.device != device:
            self._suspects.pop(slot, None)
            if doubt is None:
                return
            suspect = self._suspects[slot] = _Suspect(device)
        suspect.found.append(doubt)
        if not any(suspect.found):
            del self._suspects[slot]

    def of_devices(self, devices: Devices) -> dict[int, Doubt]:
        """What is doubtful about single devices, by slot; for the loop's thread."""
        self._suspects = {
            slot: one for slot, one in self._suspects.items() if devices.get(slot) == one.device
        }
        doubts = ((slot, one.doubt) for slot, one in self._suspects.items())
        return {slot: doubt for slot, doubt in doubts if doubt is not None}

    def forget(self, topic: str) -> None:
        """Begin anew with a topic: another consumer may judge it from now on."""
        self._topics.pop(topic, None)
        self._publish()

    def _publish(self) -> None:
        self.verdicts = {n: t.verdict for n, t in self._topics.items() if t.verdict.doubts}

    def _topic(self, name: str) -> _Topic | None:
        """A topic, unless there are too many."""
        if name not in self._topics and len(self._topics) < MAX_TOPICS:
            self._topics[name] = _Topic()
        return self._topics.get(name)

    def _judge(self, now_us: int) -> None:
        recent = self._look - FORGET_AFTER
        self._topics = {n: topic for n, topic in self._topics.items() if topic.last_look > recent}
        for name, topic in self._topics.items():
            if topic.last_look > self._look - JUDGE_EVERY:
                topic.judge()
                for doubt in topic.verdict.doubts:
                    if now_us - topic.warned_us.get(doubt, -REPEAT_US) >= REPEAT_US:
                        topic.warned_us[doubt] = now_us
                        logger.warning("%s", _text(name, topic.verdict, doubt))
        self._publish()

    @property
    def texts(self) -> list[str]:
        """A sentence for each doubt; any thread may ask."""
        return [
            _text(name, verdict, doubt)
            for name, verdict in sorted(self.verdicts.items())
            for doubt in verdict.doubts
        ]


def _text(topic: str, verdict: Verdict, doubt: Doubt) -> str:
    of = f"in {verdict.share:.0%} of the readings " if verdict.share < 1 else ""
    return TEXTS[doubt].format(topic=topic, of=of, accel=verdict.accel, gyro=verdict.gyro)
