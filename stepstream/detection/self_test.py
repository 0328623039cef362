"""A short walk that every model has to recognise before it replaces another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.series import detect_series
from stepstream.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.model import Model

__all__ = ["self_test"]

STILL_S, WALK_S, STEP_S = 6.0, 14.0, 0.55
# Vertical acceleration by harmonics of the step: amplitude in m/s^2 and phase, as simulated
# walkers have it (stepstream/simulation/walkers.py).
VERTICAL = ((2.45, 1.59), (0.5, 2.31), (0.35, -1.93), (0.2, -1.39))
FORWARD, SIDEWAYS, TURNING = 1.06, 0.94, 0.6


def self_test(model: Model) -> None:
    """Feed a model a device at rest, then one that walks.

    Raises
    ------
    ModelError
        It gives values that are no probabilities, finds steps at rest, or finds far fewer or far
        more steps in the walk than there are.
    """
    given: list[NDArray[np.float32]] = []
    time_us, axes = _walk(model.metadata.period_us)
    steps = detect_series(model, time_us, axes, on_probabilities=lambda _, __, p: given.append(p))
    probabilities = np.concatenate(given)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ModelError(f"{model.metadata.label}: self-test: not all it gives are probabilities")
    still = int(np.count_nonzero(steps.end_us < STILL_S * 1e6))
    walked, expected = len(steps) - still, int(WALK_S / STEP_S)
    if still or not expected / 2 <= walked <= expected * 1.5:
        raise ModelError(
            f"{model.metadata.label}: self-test: {still} steps found at rest, {walked} in a walk "
            f"of about {expected}"
        )


def _walk(period_us: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    time_us = np.arange(0, round((STILL_S + WALK_S) * 1e6), period_us, dtype=np.int64)
    steps = np.maximum(time_us / 1e6 - STILL_S, 0) / STEP_S
    moves = np.minimum(steps, 1.0)
    axes = np.zeros((len(time_us), 6))
    axes[:, 2] = 9.81
    for n, (amplitude, phase) in enumerate(VERTICAL, start=1):
        axes[:, 2] += moves * amplitude * np.cos(2 * np.pi * n * steps + phase)
    axes[:, 0] = moves * FORWARD * np.cos(2 * np.pi * steps)
    axes[:, 1] = moves * SIDEWAYS * np.cos(np.pi * steps)
    axes[:, 4] = moves * TURNING * np.cos(np.pi * steps)
    return time_us, axes.astype(np.float32)
