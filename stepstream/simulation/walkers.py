"""Synthetic people who walk, climb and stand, with a sensor on them and known steps.

The motion is a sum of harmonics of the step and of the stride. Their amplitudes and phases,
relative to the toe strikes, are averages over 9,894 steps of the SIMUL data set (M. Ebner and
S. Kastner, https://github.com/simpleLoc/SIMUL-dataset), in a frame aligned with gravity.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ACTIVITIES", "PLACEMENTS", "Activity", "Placement", "Walker"]

GRAVITY = 9.81
RAMP_S = 0.3
SHIFT_S = 0.35
"""The body moves before the first heel lifts: the weight moves to the other leg."""
STRIDE_SHARE = 1.57
"""Time from a step's start to its end, in intervals between ends: legs overlap."""


@dataclass(frozen=True)
class Activity:
    """How somebody moves.

    Attributes
    ----------
    interval_s
        Time between two toe strikes.
    vertical
        Amplitude (m/s^2) and phase of each harmonic of the step in the vertical acceleration.
    forward, sideways
        Amplitude in m/s^2 of the step's first harmonics, and of the stride's.
    turning
        Amplitude in rad/s of the stride's first harmonics in the angular velocity.
    """

    interval_s: float
    vertical: tuple[tuple[float, float], ...]
    forward: tuple[float, ...]
    sideways: tuple[float, ...]
    turning: tuple[float, ...]


ACTIVITIES = {
    "walk": Activity(
        0.55,
        ((2.45, 1.59), (0.5, 2.31), (0.35, -1.93), (0.2, -1.39)),
        (1.06, 0.57, 0.45),
        (0.94, 0.3),
        (0.60, 0.42, 0.30),
    ),
    "stairs up": Activity(
        0.59,
        ((2.65, 0.19), (0.6, 0.81), (0.3, -1.53), (0.2, -1.83)),
        (0.93, 0.50, 0.35),
        (1.19, 0.3),
        (0.77, 0.32, 0.24),
    ),
    "stairs down": Activity(
        0.51,
        ((3.2, 0.26), (0.9, 0.06), (0.4, 0.19), (0.2, 0.20)),
        (1.01, 0.84, 0.64),
        (0.84, 0.4),
        (0.48, 0.50, 0.34),
    ),
}


@dataclass(frozen=True)
class Placement:
    """Where the sensor is carried: factors on the motion of a hand."""

    vertical: float = 1.0
    horizontal: float = 1.0
    turning: float = 1.0


PLACEMENTS = {
    "hand": Placement(),
    "armband": Placement(1.1, 1.2, 1.3),
    "pocket": Placement(1.3, 1.6, 3.0),
}


class Walker:
    """One person with one device.

    Parameters
    ----------
    seed
        Seed of everything random; the same seed gives the same person.
    rate_hz
        Readings a second.
    placement
        One of `PLACEMENTS`.
    gyroscope
        Whether the device has one; its axes are 0 if not.
    """

    def __init__(
        self, seed: int, rate_hz: float, placement: str = "hand", *, gyroscope: bool = True
    ) -> None:
        # The plan must not depend on how much was read before.
        random, self._plans, self._sensor = np.random.default_rng(seed).spawn(3)
        self._rate_hz = rate_hz
        self._placement = PLACEMENTS[placement]
        self._gyroscope = gyroscope
        self._pace = random.normal(1.0, 0.06)
        self._strength = random.uniform(0.85, 1.2)
        self._phases = random.uniform(-np.pi, np.pi, 16)
        self._facing = _rotation(random.normal(size=3), random.uniform(0, np.pi))
        self._wobble_axis = random.normal(size=3)
        self._wobble_rad = random.uniform(0.05, 0.2)
        self._bias = np.concatenate([random.normal(0, 0.08, 3), random.normal(0, 0.01, 3)])
        self._noise = np.repeat([random.uniform(0.04, 0.12), random.uniform(0.005, 0.015)], 3)
        self._next_reading = 0
        self._planned_s = 0.0
        # Everything that was planned, in order of time: bouts of one activity and their steps.
        self._bouts: list[tuple[float, float, Activity]] = []
        self._starts: list[float] = []
        self._ends: list[float] = []

    def steps_until(self, time_s: float) -> list[tuple[float, float]]:
        """Start and end of every step that has ended by a time, in seconds from the beginning."""
        self._plan(time_s)
        steps = zip(self._starts, self._ends, strict=True)
        return [(start, end) for start, end in steps if end <= time_s]

    def read(self, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The readings from the end of the last call up to a time.

        Returns
        -------
        time_s : (n,) float64
            Ascending, from about 0, with the jitter of a phone's clock.
        axes : (n, 6) float64
            Acceleration in m/s^2 with gravity, angular velocity in rad/s.
        """
        last = int(until_s * self._rate_hz)
        numbers = np.arange(self._next_reading, last)
        self._next_reading = max(self._next_reading, last)
        jitter = np.clip(self._sensor.normal(0, 0.08, len(numbers)), -0.3, 0.3)
        time_s = (numbers + 0.5 + jitter) / self._rate_hz
        self._plan(until_s + 1)
        return time_s, self._sense(time_s)

    def _plan(self, until_s: float) -> None:
        random = self._plans
        while self._planned_s < until_s:
            begin = self._planned_s
            if self._bouts:
                begin += float(random.choice([random.uniform(1.5, 4), random.uniform(4, 12)]))
            else:
                begin += float(random.uniform(0.5, 3))
            name = str(random.choice(["walk", "walk", "walk", "stairs up", "stairs down"]))
            activity = ACTIVITIES[name]
            interval = activity.interval_s * self._pace
            ends = [begin + SHIFT_S + STRIDE_SHARE * interval]
            for _ in range(int(random.integers(8, 60))):
                interval += 0.05 * (activity.interval_s * self._pace - interval)
                interval += random.normal(0, 0.006)
                ends.append(ends[-1] + interval * random.normal(1, 0.025))
            starts = [begin + SHIFT_S]
            for before, end in pairwise(ends):
                share = STRIDE_SHARE * random.normal(1, 0.03)
                starts.append(max(starts[-1] + 0.25, end - share * (end - before)))
            self._bouts.append((begin, ends[-1], activity))
            self._starts += starts
            self._ends += ends
            self._planned_s = ends[-1] + RAMP_S

    def _sense(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        motion = np.zeros((len(time_s), 6))
        if len(time_s):
            for begin, end, activity in self._bouts:
                if begin <= time_s[-1] and end + RAMP_S >= time_s[0]:
                    self._move(time_s, begin, end, activity, motion)
        motion[:, 2] += GRAVITY
        # A hand is never completely still: the device swings slowly about its rest position.
        angle = self._wobble_rad * np.sin(2 * np.pi * time_s / 6.7 + self._phases[0])
        turns = _rotations(self._wobble_axis, angle) @ self._facing
        axes = np.empty_like(motion)
        axes[:, :3] = (turns @ motion[:, :3, np.newaxis])[:, :, 0]
        axes[:, 3:] = (turns @ motion[:, 3:, np.newaxis])[:, :, 0]
        axes += self._bias + self._sensor.normal(size=axes.shape) * self._noise
        if not self._gyroscope:
            axes[:, 3:] = 0
        return axes

    def _move(
        self,
        time_s: NDArray[np.float64],
        begin: float,
        end: float,
        activity: Activity,
        motion: NDArray[np.float64],
    ) -> None:
        """Add a bout's motion: x forward, y sideways, z up, then the turning about them."""
        first, last = np.searchsorted(self._ends, [begin, end + 1e-9])
        ends = np.array(self._ends[first:last])
        knots = np.concatenate([[begin], ends, [ends[-1] + activity.interval_s]])
        before = (ends[0] - begin) / activity.interval_s
        steps = np.interp(time_s, knots, [-before, *range(len(ends) + 1)])
        envelope = np.clip((time_s - begin) / RAMP_S, 0, 1) * np.clip(
            (end + RAMP_S - time_s) / RAMP_S, 0, 1
        )
        envelope *= self._strength
        place, phases = self._placement, self._phases

        def harmonics(
            amplitudes: tuple[float, ...], first_phase: int, cycles: float
        ) -> NDArray[np.float64]:
            wave = np.zeros(len(steps))
            for n, amplitude in enumerate(amplitudes):
                angle = 2 * np.pi * cycles * (n + 1) * steps + phases[first_phase + n]
                wave += amplitude * np.cos(angle)
            return wave

        vertical = sum(
            amplitude * np.cos(2 * np.pi * (n + 1) * steps + phase + 0.2 * phases[n] / np.pi)
            for n, (amplitude, phase) in enumerate(activity.vertical)
        )
        motion[:, 0] += envelope * place.horizontal * harmonics(activity.forward, 4, 1.0)
        motion[:, 1] += envelope * place.horizontal * harmonics(activity.sideways, 8, 0.5)
        motion[:, 2] += envelope * place.vertical * vertical
        turning = envelope * place.turning
        motion[:, 3] += 0.5 * turning * harmonics(activity.turning, 10, 1.0)
        motion[:, 4] += turning * harmonics(activity.turning, 12, 0.5)
        motion[:, 5] += 0.4 * turning * harmonics(activity.turning, 13, 0.5)


def _rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    turned: NDArray[np.float64] = _rotations(axis, np.array([angle]))[0]
    return turned


def _rotations(axis: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices about an axis, (n, 3, 3), by Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, rest = np.sin(angle), 1 - np.cos(angle)
    turns: NDArray[np.float64] = (
        np.eye(3) + sine[:, None, None] * cross + rest[:, None, None] * (cross @ cross)
    )
    return turns
