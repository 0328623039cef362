"""What detection counts, in plain numbers that another thread may read at any time."""

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Counts of one or more detectors; whoever makes the detectors keeps them.

    Attributes
    ----------
    late_readings
        Readings dropped as late.
    windows_opened
        Windows opened.
    gaps
        Those of them that followed another window of the device.
    bridged_gaps
        Gaps that were bridged: no window was opened after them.
    late_gyro_samples
        Samples of the gyroscopes of split devices that came after the acceleration had been joined
        with zeros.
    """

    late_readings: int = 0
    windows_opened: int = 0
    gaps: int = 0
    bridged_gaps: int = 0
    late_gyro_samples: int = 0
