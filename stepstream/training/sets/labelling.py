"""Labelled recordings from files: one function for each kind of label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.errors import RecordingError
from stepstream.training.data import (
    ACTIVITIES,
    LabelledRecording,
    Labels,
    known_without_steps,
)
from stepstream.training.sets.files import read_marks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.training.sets.files import RecordingFile

__all__ = [
    "code",
    "read_feet",
    "with_contacts",
    "with_counts",
    "with_steps",
    "without_steps",
]

BOUNCE = 0.6
"""A contact that follows the same foot's last one in less than this share of its usual interval is
a bounce of the sensor."""


def code(activity: str) -> int:
    """Number of an activity."""
    return ACTIVITIES.index(activity)


def with_steps(file: RecordingFile, placement: str, **about: Any) -> LabelledRecording:
    """A recording with ``.steps.csv``: all starts and ends."""
    marks = file.to_samples(read_marks(file.label_file("steps"), "start", "end"))
    marks = marks[np.argsort(marks[:, 1], kind="stable")]
    known = np.ones(len(file.axes), np.bool_)
    return _make(
        file,
        placement,
        labels=Labels.STEPS,
        activity=file.activity,
        starts=marks[:, 0],
        ends=marks[:, 1],
        start_known=known,
        end_known=known,
        judged=known,
        counts=(len(marks), len(marks)),
        **about,
    )


def read_feet(file: RecordingFile, kind: str) -> list[NDArray[np.float64]]:
    """Contacts of each foot in samples, ascending; none if nobody steps.

    Raises
    ------
    RecordingError
        They are not of two feet.
    """
    path = file.label_file(kind)
    contacts = read_marks(path, "time", "foot")
    feet = [np.sort(contacts[contacts[:, 1] == foot, 0]) for foot in np.unique(contacts[:, 1])]
    if len(feet) not in {0, 2}:
        raise RecordingError(f"{path}: the contacts are not of two feet")
    return [file.to_samples(foot) for foot in feet]


def with_contacts(
    file: RecordingFile, placement: str, feet: list[NDArray[np.float64]], **about: Any
) -> LabelledRecording:
    """A recording with contacts of both feet, all of it judged: nobody steps before and after."""
    sizes = [len(foot) for foot in feet]
    ends = np.sort(np.concatenate([_without_bounces(foot) for foot in feet]))
    start_known, end_known = known_without_steps(len(file.axes), ends)
    activity = file.activity.copy()
    if (activity < 0).all():
        activity[max(0, int(ends[0])) : int(ends[-1]) + 1] = code("walking")
    return _make(
        file,
        placement,
        **{
            "labels": Labels.CONTACTS,
            "activity": activity,
            "starts": np.empty(0),
            "ends": ends,
            "start_known": start_known,
            "end_known": end_known,
            "judged": np.ones(len(file.axes), np.bool_),
            "counts": (sum(sizes), 2 * max(sizes)),
            **about,
        },
    )


def with_counts(
    file: RecordingFile,
    placement: str,
    counts: tuple[int, int],
    judged: NDArray[np.bool_],
    walking: NDArray[np.bool_],
    activity: str = "walking",
    **about: Any,
) -> LabelledRecording:
    """A recording of which the number of steps in some samples is known.

    Parameters
    ----------
    file, placement
        The file, and how the device was carried.
    counts
        Least and most steps.
    judged : (n,) bool
        Where these steps are.
    walking : (n,) bool
        Where there may be steps; elsewhere in the judged samples, none is learned.
    activity
        What the person does in the judged samples with steps.
    about
        More attributes of the recording.
    """
    doing = file.activity.copy()
    doing[judged & walking] = code(activity)
    known = judged & ~walking
    return _make(
        file,
        placement,
        **{
            "labels": Labels.COUNTS,
            "activity": doing,
            "starts": np.empty(0),
            "ends": np.empty(0),
            "start_known": known,
            "end_known": known,
            "judged": judged,
            "counts": counts,
            **about,
        },
    )


def without_steps(
    file: RecordingFile,
    placement: str,
    activity: str,
    sure: NDArray[np.bool_] | None = None,
    **about: Any,
) -> LabelledRecording:
    """A recording in which nobody steps, at least in the samples that are sure."""
    known = np.ones(len(file.axes), np.bool_) if sure is None else sure
    doing = np.where(known, code(activity), -1).astype(np.int8)
    return _make(
        file,
        placement,
        labels=Labels.NONE,
        activity=doing,
        starts=np.empty(0),
        ends=np.empty(0),
        start_known=known,
        end_known=known,
        judged=known,
        counts=(0, 0),
        **about,
    )


def _make(file: RecordingFile, placement: str, **about: Any) -> LabelledRecording:
    person, origin = file.path.parent, file.path.parent.parent
    known = np.ones(len(file.axes), np.bool_)
    for first, end in file.gaps.tolist():
        known[first:end] = False
    about["start_known"] = about["start_known"] & known
    about["end_known"] = about["end_known"] & known
    return LabelledRecording(
        **{
            "origin": origin.name,
            "person": f"{origin.name}/{person.name}",
            "name": file.name,
            "placement": placement,
            "axes": file.axes,
            "gaps": file.gaps,
            "rate_hz": file.rate_hz,
            "first": file.first,
            **about,
        }
    )


def _without_bounces(times: NDArray[np.float64]) -> NDArray[np.float64]:
    least = BOUNCE * float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    kept: list[float] = []
    for time in times.tolist():
        if not kept or time - kept[-1] >= least:
            kept.append(time)
    return np.array(kept)
