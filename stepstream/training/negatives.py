"""Synthetic readings of a device that is held, turned, jolted or driven; they have no steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.data import RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["handle"]

GRAVITY = 9.81
PIECE_S = 25


def handle(random: np.random.Generator, pieces: int) -> NDArray[np.float32]:
    """Independent pieces of 25 s at 80 Hz: (pieces, n, 6).

    Hands turn the device in bursts of angular velocity, about which gravity turns too, and move
    it by accelerations of up to 4 Hz. A fifth of the pieces each has in addition: jolts of putting
    away, a vehicle's vibration of 4 to 25 Hz, or a slow sway.
    """
    samples = PIECE_S * RATE_HZ
    time_s = np.arange(samples) / RATE_HZ
    activity = np.clip(random.normal(0, 1.2, (pieces, PIECE_S + 1)), 0, None)
    activity *= random.choice([0.1, 0.5, 1, 2], (pieces, 1))
    bursts = np.stack([np.interp(time_s, np.arange(PIECE_S + 1), a) for a in activity])
    bursts = bursts[..., np.newaxis]
    gyro = _band(random, pieces, samples, 0.5, 3) * bursts
    gyro *= random.uniform(0.2, 1.5, (pieces, 1, 3))
    motion = _band(random, pieces, samples, 0.5, 4) * bursts
    motion *= random.uniform(0.1, 2.5, (pieces, 1, 3))
    kinds = random.integers(5, size=pieces)
    for piece in np.flatnonzero(kinds == 1):
        for begin in random.integers(0, samples - 20, int(random.integers(1, 9))):
            length = int(random.integers(3, 20))
            pulse = np.hanning(length)[:, np.newaxis] * random.normal(0, 6, 3)
            motion[piece, begin : begin + length] += pulse
    for piece in np.flatnonzero(kinds == 2):
        phase = 2 * np.pi * random.uniform(4, 25) * time_s + random.uniform(0, 6) * np.sin(
            0.3 * time_s
        )
        strength = random.uniform(0.1, 2) * (0.6 + 0.4 * np.sin(random.uniform(0.1, 1) * time_s))
        motion[piece] += (strength * np.sin(phase))[:, np.newaxis] * random.normal(size=3)
        motion[piece] += random.uniform(0.1, 0.8) * _band(random, 1, samples, 0.3, 0.3)[0]
    for piece in np.flatnonzero(kinds == 3):
        sway = np.sin(2 * np.pi * random.uniform(0.15, 0.6) * time_s)[:, np.newaxis]
        motion[piece] += random.uniform(0.1, 0.6) * sway * random.normal(size=3)
    axes = np.concatenate([GRAVITY * _turn_gravity(random, gyro) + motion, gyro], axis=2)
    axes += random.standard_normal(axes.shape) * np.repeat([0.03, 0.005], 3)
    return axes.astype(np.float32)


def _turn_gravity(random: np.random.Generator, gyro: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction of gravity in the frame of a device that turns: (pieces, n, 3)."""
    gravity = np.empty_like(gyro)
    now = random.normal(size=(len(gyro), 3))
    for sample in range(gyro.shape[1]):
        now -= np.cross(gyro[:, sample], now) / RATE_HZ
        now /= np.linalg.norm(now, axis=1, keepdims=True)
        gravity[:, sample] = now
    return gravity


def _band(
    random: np.random.Generator, pieces: int, samples: int, least_hz: float, most_hz: float
) -> NDArray[np.float64]:
    """Smooth noise of unit variance below a random frequency each: (pieces, samples, 3)."""
    noise = np.empty((pieces, samples, 3))
    for piece in range(pieces):
        reach = max(3, round(RATE_HZ / random.uniform(least_hz, most_hz)))
        kernel = np.hanning(2 * reach + 1)
        kernel /= np.sqrt((kernel**2).sum())
        for axis in range(3):
            white = random.standard_normal(samples + 2 * reach)
            noise[piece, :, axis] = np.convolve(white, kernel, "valid")
    return noise
