"""Windows to train on: cut from recordings and varied as people, phones and grips vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stepstream.detection.resampling import scale_channels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.detection.model import ModelMetadata
    from stepstream.training.data import LabelledRecording

__all__ = ["Variation", "make_windows", "random_rotations"]

LABEL_WIDTH = 2.5
"""Standard deviation of the bump that stands for an event, samples; 31 ms, as the labels' noise."""


@dataclass(frozen=True)
class Variation:
    """How much windows are varied; the default is none, for validation.

    Attributes
    ----------
    rotate
        Turn each window by a random rotation.
    tempo
        Largest change of a recording's speed, as a share.
    amplitude
        Largest change of the motion's amplitude, as a share.
    noise, bias
        Largest standard deviation of white noise and of a constant offset: m/s^2, and a tenth
        of it in rad/s.
    drop_gyroscope
        Share of the windows without a gyroscope.
    """

    rotate: bool = False
    tempo: float = 0.0
    amplitude: float = 0.0
    noise: float = 0.0
    bias: float = 0.0
    drop_gyroscope: float = 0.0


def random_rotations(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Uniform random rotations: (count, 3, 3).

    From unit quaternions of four normal deviates, after Shoemake, "Uniform random rotations",
    Graphics Gems III, 1992.
    """
    q = random.normal(size=(count, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows, np.float32).transpose(2, 0, 1)


def make_windows(
    recordings: Sequence[LabelledRecording],
    metadata: ModelMetadata,
    variation: Variation,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One window a hop of every recording, from a random first sample, varied at random.

    Returns
    -------
    windows : (n, 1, window, 8) float32
        Channels as the model takes them.
    targets : (n, hop, 2) float32
        Wanted start and end probabilities.
    """
    parts = [_cut(recording, metadata, variation, random) for recording in recordings]
    axes = np.concatenate([windows for windows, _ in parts])
    targets = np.concatenate([targets for _, targets in parts])
    _vary(axes, variation, random)
    channels = scale_channels(axes.reshape(-1, 6), metadata.accel_scale, metadata.gyro_scale)
    return channels.reshape(len(axes), 1, metadata.window, 8), targets


def _cut(
    recording: LabelledRecording,
    metadata: ModelMetadata,
    variation: Variation,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    axes = recording.axes
    starts, ends = recording.starts.astype(float), recording.ends.astype(float)
    tempo = 1 + random.uniform(-variation.tempo, variation.tempo)
    if tempo != 1:
        places = np.arange(0, len(axes) - 1, tempo)
        axes = np.stack([np.interp(places, np.arange(len(axes)), a) for a in axes.T], axis=1)
        axes = axes.astype(np.float32)
        axes[:, 3:] *= tempo
        starts, ends = starts / tempo, ends / tempo
    targets = np.stack([_bumps(starts, len(axes)), _bumps(ends, len(axes))], axis=1)
    first = int(random.integers(metadata.hop)) if variation.tempo else 0
    windows = sliding_window_view(axes[first:], metadata.window, axis=0)[:: metadata.hop]
    judged = first + metadata.window - metadata.delay - metadata.hop
    wanted = sliding_window_view(targets[judged:], metadata.hop, axis=0)[:: metadata.hop]
    count = min(len(windows), len(wanted))
    return (
        windows[:count].transpose(0, 2, 1).copy(),
        wanted[:count].transpose(0, 2, 1).astype(np.float32),
    )


def _bumps(moments: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    reach = np.arange(-10, 11)
    near = np.rint(moments).astype(np.int64)[:, np.newaxis] + reach
    height = np.exp(-0.5 * ((near - moments[:, np.newaxis]) / LABEL_WIDTH) ** 2)
    bumps = np.zeros(length)
    inside = (near >= 0) & (near < length)
    np.maximum.at(bumps, near[inside], height[inside])
    return bumps


def _vary(axes: NDArray[np.float32], variation: Variation, random: np.random.Generator) -> None:
    """Vary windows (n, window, 6) in place."""
    count = len(axes)
    accel, gyro = axes[:, :, :3], axes[:, :, 3:]
    if variation.amplitude:
        factor = 1 + random.uniform(-variation.amplitude, variation.amplitude, (count, 1, 1))
        rest = accel.mean(axis=1, keepdims=True)
        accel[...] = rest + (accel - rest) * factor
        gyro *= factor
    if variation.rotate:
        rotations = random_rotations(random, count).transpose(0, 2, 1)
        accel[...] = accel @ rotations
        gyro[...] = gyro @ rotations
    for axis, unit in ((0, 1.0), (3, 0.1)):
        sensor = axes[:, :, axis : axis + 3]
        if variation.bias:
            limit = variation.bias * unit
            sensor += random.uniform(-limit, limit, (count, 1, 3)).astype(np.float32)
        if variation.noise:
            width = random.uniform(0, variation.noise * unit, (count, 1, 1)).astype(np.float32)
            sensor += random.standard_normal(sensor.shape, np.float32) * width
    if variation.drop_gyroscope:
        gyro[random.random(count) < variation.drop_gyroscope] = 0
