"""Would a cache of predictions by rounded readings ever hit? Counted on real recordings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection import Detector, Model, Readings, default_model_path
from stepstream.detection.model import CHANNELS
from stepstream.recordings import read_recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDINGS = (0.001, 0.01, 0.1, 0.5)
"""To what each acceleration (m/s^2) and angular velocity (rad/s) is rounded."""
RATE_HZ = 80.0


class Counting(Model):
    """A model that remembers the rounded windows it was given."""

    def __init__(self) -> None:
        super().__init__(default_model_path())
        self.windows = 0
        self.hits = dict.fromkeys(ROUNDINGS, 0)
        self._seen: dict[float, set[int]] = {step: set() for step in ROUNDINGS}

    def predict(self, blocks: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        windows = blocks[rows].reshape(len(rows), -1, CHANNELS)[:, :, :6].astype(np.float64)
        windows[:, :, :3] *= self.metadata.accel_scale
        windows[:, :, 3:] *= self.metadata.gyro_scale
        self.windows += len(windows)
        for step, seen in self._seen.items():
            for rounded in np.rint(windows / step).astype(np.int32):
                key = hash(rounded.tobytes())
                self.hits[step] += key in seen
                seen.add(key)
        return super().predict(blocks, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of recordings, as in TEST_DATA")
    folder = parser.parse_args().folder
    model = Counting()
    detector = Detector(model, hops_ahead=256)
    files = [*folder.glob("simul-hand/*/*.csv.gz"), *folder.glob("oxford-phone/*/*.csv.gz")]
    readings, distinct = 0, dict.fromkeys(ROUNDINGS, 0)
    single: dict[float, set[bytes]] = {step: set() for step in ROUNDINGS}
    for path in sorted(files):
        recording = read_recording(path, RATE_HZ)
        slot, count = detector.add_device(), len(recording)
        columns = Readings(
            np.full(count, slot, np.intp),
            np.rint(recording.time_s * 1e6).astype(np.int64),
            recording.axes.astype(np.float32),
            np.arange(count),
            np.zeros(count, np.int64),
        )
        for begin in range(0, count, 50_000):
            detector.feed(columns.take(slice(begin, begin + 50_000)))
        readings += count
        for step, seen in single.items():
            seen.update(row.tobytes() for row in np.rint(recording.axes / step).astype(np.int32))
            distinct[step] = len(seen)
    print(f"{len(files)} recordings, {readings:,} readings, {model.windows:,} windows judged")
    for step in ROUNDINGS:
        alone, windows = 1 - distinct[step] / readings, model.hits[step] / model.windows
        print(f"rounded to {step}: {alone:.2%} of readings, {windows:.2%} of windows seen before")


if __name__ == "__main__":
    main()
