"""Variations of recordings and windows, as people, phones and grips differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stepstream.training.data import RATE_HZ, STEPLESS, Labels, resample_series

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording

__all__ = ["Labelled", "Variation", "label", "random_rotations", "retime"]

START_WIDTH = 5.0
"""Standard deviation of the bump that stands for a start, samples: 63 ms."""
END_WIDTH = 6.5
"""The same for an end, whose place in the signal differs more between people: 81 ms."""
RATES_HZ = (12.5, 400.0)
GRAVITY_SAMPLES = RATE_HZ + 1
"""What is left of the acceleration after two means over these is taken for gravity."""
SMOOTHED = 0.5
SMOOTHED_PERIODS = (0.5, 2.0)
CLIPPED = 0.5
LATE = 0.1
ACCEL_LIMITS = np.array([2, 4, 8]) * 9.81
GYRO_LIMITS = np.radians([256, 500, 1000, 2000])


@dataclass(frozen=True)
class Variation:
    """How much recordings are varied; the default is none, for validation.

    Attributes
    ----------
    rotate
        Turn each stretch by a random rotation, and mirror half of them.
    tempo
        Least and largest logarithm of a factor on a recording's speed. Along the same path, the
        angular velocity grows with this factor, the acceleration with its square.
    rates
        Share of the recordings that pass through a sensor of another rate (12.5 to 400 Hz), with
        jitter, and back through the product's resampler. Half of the slower ones smooth what they
        measure: a sample is the mean over 0.5 to 2 of their periods. Half of all clip: the
        acceleration at 2 to 8 times gravity, the angular velocity at 256 to 2000 deg/s. A tenth
        of their samples may be late by one: a value is sent again instead.
    whole_tempo, whole_rates
        The same two for recordings with whole steps, from which times are learned.
    amplitude, gyroscope_amplitude
        Largest logarithm of a factor on the motion, and of another one on its rotation.
    noise, bias
        Largest standard deviation of white noise and largest constant offset: m/s^2, and a tenth
        of it in rad/s.
    drop_gyroscope
        Share of the stretches without a gyroscope.
    negatives
        Synthetic handling without a step, as a share of all.
    """

    rotate: bool = False
    tempo: tuple[float, float] = (0.0, 0.0)
    rates: float = 0.0
    whole_tempo: tuple[float, float] = (0.0, 0.0)
    whole_rates: float = 0.0
    amplitude: float = 0.0
    gyroscope_amplitude: float = 0.0
    noise: float = 0.0
    bias: float = 0.0
    drop_gyroscope: float = 0.0
    negatives: float = 0.0


class Labelled(NamedTuple):
    """Samples, and the wanted output of the model for each.

    ``axes`` (n, 6) float32, ``wanted`` (n, 2) float32 start and end probability, ``known`` (n, 2)
    float32 how much they count, 0 where nothing is known.
    """

    axes: NDArray[np.float32]
    wanted: NDArray[np.float32]
    known: NDArray[np.float32]


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


def retime(
    recording: LabelledRecording,
    variation: Variation,
    random: np.random.Generator,
    stepless: float = 1.0,
) -> Labelled:
    """A recording at another speed and through another sensor's clock, with its targets.

    See `label` for ``stepless``.
    """
    tempos, rates = variation.tempo, variation.rates
    if recording.labels is Labels.STEPS:
        tempos, rates = variation.whole_tempo, variation.whole_rates
    tempo = float(np.exp(random.uniform(*tempos)))
    if random.random() < rates:
        rate_hz = float(np.exp(random.uniform(*np.log(RATES_HZ))))
    elif tempo != 1:
        rate_hz = float(RATE_HZ)
    else:
        return label(recording, recording.axes, 1.0, stepless)
    duration_s = (len(recording.axes) - 1) / RATE_HZ / tempo
    time_s = np.arange(0, duration_s, 1 / rate_hz)
    if rate_hz != RATE_HZ:
        time_s = np.sort(time_s + random.normal(0, 0.1 / rate_hz, len(time_s)))
        time_s = time_s.clip(0, duration_s)
    source = time_s * tempo * RATE_HZ
    values = _at_tempo(recording.axes, tempo)
    if rate_hz < RATE_HZ and random.random() < SMOOTHED:
        period = tempo * RATE_HZ / rate_hz
        values = _smoothed(values, round(period * random.uniform(*SMOOTHED_PERIODS)))
    before = source.astype(np.int64).clip(0, len(recording.axes) - 2)
    share = (source - before).astype(np.float32)[:, np.newaxis]
    axes = values[before] * (1 - share) + values[before + 1] * share
    if rate_hz != RATE_HZ:
        axes = _through_sensor(axes, random)
        time_us = np.rint(time_s * 1e6).astype(np.int64)
        _, axes = resample_series(time_us, axes, 1_000_000 // RATE_HZ)
    return label(recording, axes, tempo, stepless)


def _at_tempo(axes: NDArray[np.float32], tempo: float) -> NDArray[np.float32]:
    """What the axes (n, 6) are if all of the motion is ``tempo`` times as fast."""
    gravity = _smoothed(_smoothed(axes[:, :3], GRAVITY_SAMPLES), GRAVITY_SAMPLES)
    accel = gravity + (axes[:, :3] - gravity) * np.float32(tempo**2)
    return np.concatenate([accel, axes[:, 3:] * np.float32(tempo)], axis=1)


def _smoothed(axes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Means of the axes (n, k) over ``width`` samples around each, at least one."""
    width = max(1, width)
    around = ((width // 2 + 1, (width - 1) // 2), (0, 0))
    sums = np.cumsum(np.pad(axes, around, "edge"), axis=0, dtype=np.float64)
    return ((sums[width:] - sums[:-width]) / width).astype(np.float32)


def _through_sensor(axes: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """What a cheap sensor makes of the axes (n, 6): clipped, single samples late."""
    if random.random() < CLIPPED:
        limits = np.repeat([random.choice(ACCEL_LIMITS), random.choice(GYRO_LIMITS)], 3)
        axes = axes.clip(-limits, limits).astype(np.float32)
    if random.random() < CLIPPED:
        late = np.flatnonzero(random.random(len(axes)) < LATE)
        axes[late] = axes[(late - 1).clip(0)]
    return axes


def label(
    recording: LabelledRecording, axes: NDArray[np.float32], tempo: float, stepless: float = 1.0
) -> Labelled:
    """Targets for a recording's samples, played ``tempo`` times as fast: bumps at its events.

    What is known of a sample counts once, or ``stepless`` times where nobody steps.
    """
    length = len(axes)
    wanted = [
        _bumps(recording.starts / tempo, length, START_WIDTH),
        _bumps(recording.ends / tempo, length, END_WIDTH),
    ]
    source = (np.arange(length) * tempo).astype(np.int64).clip(0, len(recording.axes) - 1)
    weight = np.where(np.isin(recording.activity, STEPLESS), stepless, 1)[source]
    known = [recording.start_known[source] * weight, recording.end_known[source] * weight]
    return Labelled(axes, np.stack(wanted, axis=1), np.stack(known, axis=1).astype(np.float32))


def _bumps(moments: NDArray[np.float64], length: int, width: float) -> NDArray[np.float32]:
    reach = np.arange(-20, 21)
    near = np.rint(moments).astype(np.int64)[:, np.newaxis] + reach
    height = np.exp(-0.5 * ((near - moments[:, np.newaxis]) / width) ** 2)
    bumps = np.zeros(length, np.float32)
    inside = (near >= 0) & (near < length)
    np.maximum.at(bumps, near[inside], height[inside].astype(np.float32))
    return bumps
