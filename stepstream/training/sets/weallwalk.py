"""WeAllWalk: two pockets at once, contacts of both feet, clocks that drift in some recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.data import Labels
from stepstream.training.sets.files import find_files, read_file
from stepstream.training.sets.labelling import code, read_feet, with_contacts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording
    from stepstream.training.sets.files import RecordingFile

__all__ = ["measure_phase", "read"]

AIDS = {"wc": "long cane", "gd": "guide dog", "na": "none"}
STEP_HZ = (1.0, 2.6)
NEAR = 15
"""Contacts of a foot over which its phase is averaged."""
COHERENCE = 0.6
"""Recordings whose contacts keep phase less than this have no times, only counts: 9 of 128, most
of persons 9 and 10 and some of the longest path. The median is 0.91."""
DRIFT = 0.12
"""Share of a step by which the phase may leave that of the recording; beyond it, the times of the
contacts are not used. 0.09 is the 70th percentile of the recordings' largest deviations."""
MISSED = (1.5, 2.5)
"""Intervals, in usual ones, in which a contact may have been missed, or somebody hesitates."""
QUIET = 0.6
"""Largest standard deviation over a second, m/s^2, of somebody who stands."""
MARGIN = 120
"""Samples before the first contact that are not taken as standing."""


def read(folder: Path) -> Iterator[LabelledRecording]:
    """Yield its recordings: counts of all, times where contacts and acceleration keep phase."""
    for path in find_files(folder):
        file = read_file(path)
        aid, _, pocket = file.name.split("_")
        feet = read_feet(file, "contacts")
        contacts = np.sort(np.concatenate(feet))
        usual = float(np.median(np.diff(contacts)))
        long = np.diff(contacts) / usual
        missed = (long > MISSED[0]) & (long < MISSED[1])
        coherence, drifts = measure_phase(file, feet)
        places = np.arange(len(file.axes))
        walk = (places >= contacts[0] - usual / 2) & (places <= contacts[-1] + usual / 2)
        standing = _find_standing(file, contacts[0])
        timed = walk & ~drifts
        for row in np.flatnonzero(missed).tolist():
            timed[int(contacts[row] + usual / 2) : int(contacts[row + 1] - usual / 2) + 1] = False
        if coherence < COHERENCE:
            timed[:] = False
        activity = np.full(len(places), -1, np.int8)
        activity[walk] = code("walking")
        activity[standing] = code("standing")
        yield with_contacts(
            file, "pocket", feet,
            labels=Labels.CONTACTS if timed.any() else Labels.ROUGH_CONTACTS,
            ends=contacts, activity=activity, start_known=standing, end_known=standing | timed,
            judged=standing | walk, counts=(len(contacts), len(contacts) + int(missed.sum())),
            device=f"phone, {pocket}", aid=AIDS[aid],
        )  # fmt: skip


def measure_phase(
    file: RecordingFile, feet: list[NDArray[np.float64]]
) -> tuple[float, NDArray[np.bool_]]:
    """How well contacts and acceleration keep phase.

    The phase is that of the analytic signal of the acceleration's magnitude in the band of steps.

    Returns
    -------
    coherence
        Length of the mean of the unit phasors at a foot's contacts; of the worse foot.
    drifts : (n,) bool
        Where the phase near a contact is too far from the foot's mean phase.
    """
    values = file.magnitude - file.magnitude.mean()
    spectrum = np.fft.fft(values)
    hertz = np.fft.fftfreq(len(values), 1 / 80)
    spectrum[(hertz < STEP_HZ[0]) | (hertz > STEP_HZ[1])] = 0
    signal = np.fft.ifft(2 * spectrum)
    coherence = 1.0
    drifts = np.zeros(len(values), np.bool_)
    for contacts in feet:
        phasors = signal[np.rint(contacts).astype(np.int64).clip(0, len(values) - 1)]
        phasors = phasors / np.abs(phasors)
        mean = phasors.mean()
        coherence = min(coherence, float(np.abs(mean)))
        window = np.ones(min(NEAR, len(phasors)))
        local = np.convolve(phasors, window, "same")
        off = np.abs(np.angle(local * np.conj(mean))) / (2 * np.pi) > DRIFT
        edges = np.concatenate([[0.0], (contacts[1:] + contacts[:-1]) / 2, [len(values)]])
        for row in np.flatnonzero(off).tolist():
            drifts[int(edges[row]) : int(edges[row + 1])] = True
    return coherence, drifts


def _find_standing(file: RecordingFile, first_contact: float) -> NDArray[np.bool_]:
    """The quiet beginning, well before the first contact."""
    end = max(0, int(first_contact) - MARGIN)
    values = file.magnitude[:end]
    standing = np.zeros(len(file.axes), np.bool_)
    if len(values) >= 80:
        seconds = np.lib.stride_tricks.sliding_window_view(values, 80).std(axis=1)
        loud = np.flatnonzero(seconds > QUIET)
        standing[: int(loud[0]) if len(loud) else end] = True
    return standing
