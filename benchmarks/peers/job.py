"""The job of the peers that are written in Python, the same as in Java.

For each reading, the magnitude of its acceleration is added to the last 64 of its device. At every
eighth reading of a device, there is a step if the largest of these 64 is in their middle and above
11 m/s². This is the minimum for a step counter of this kind; it needs no model.
"""

from math import sqrt

WINDOW = 64
HOP = 8
MIDDLE = slice(28, 36)
LEAST = 11.0


def magnitude(reading: dict[str, float]) -> float:
    """The magnitude of a reading's acceleration."""
    x, y, z = reading["accel_x"], reading["accel_y"], reading["accel_z"]
    return sqrt(x * x + y * y + z * z)


def is_step(window: list[float]) -> bool:
    """Whether a full window has a step in its middle."""
    peak = max(window[MIDDLE])
    return peak > LEAST and peak == max(window)
