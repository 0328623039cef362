"""How often a cache of predictions by rounded readings would hit, on real recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stepstream.recordings import read_recording
from stepstream.training.data import resample_series

ROUNDINGS = (0.001, 0.01, 0.1, 0.5)
"""Steps to which acceleration (m/s^2) and angular velocity (rad/s) are rounded."""
RATE_HZ = 80.0
PERIOD_US, WINDOW, HOP = 12_500, 128, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of recordings, as in TEST_DATA")
    folder = parser.parse_args().folder
    files = [*folder.glob("simul-hand/*/*.csv.gz"), *folder.glob("oxford-phone/*/*.csv.gz")]
    readings = windows = 0
    single: dict[float, set[bytes]] = {step: set() for step in ROUNDINGS}
    whole: dict[float, set[int]] = {step: set() for step in ROUNDINGS}
    for path in sorted(files):
        recording = read_recording(path, RATE_HZ)
        time_us = np.rint(recording.time_s * 1e6).astype(np.int64)
        _, axes = resample_series(time_us, recording.axes.astype(np.float32), PERIOD_US)
        readings += len(recording)
        windows += max(0, (len(axes) - WINDOW) // HOP + 1)
        for step in ROUNDINGS:
            rounded = np.rint(recording.axes / step).astype(np.int32)
            single[step].update(row.tobytes() for row in rounded)
            cut = sliding_window_view(np.rint(axes / step).astype(np.int32), WINDOW, axis=0)[::HOP]
            whole[step].update(hash(window.tobytes()) for window in cut)
    print(f"{len(files)} recordings, {readings:,} readings, {windows:,} windows")
    for step in ROUNDINGS:
        alone, hits = 1 - len(single[step]) / readings, 1 - len(whole[step]) / windows
        print(f"rounded to {step}: {alone:.2%} of readings, {hits:.2%} of windows seen before")


if __name__ == "__main__":
    main()
