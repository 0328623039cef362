"""Readers of sets: what they trust, on files made for it and on excerpts of real recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stepstream.errors import RecordingError
from stepstream.training.data import ACTIVITIES, Labels
from stepstream.training.sets import load_people
from tests.training.builders import write

if TYPE_CHECKING:
    from pathlib import Path

    from stepstream.training.data import LabelledRecording

pytestmark = pytest.mark.slow

ACCEL = "time,accel_x,accel_y,accel_z"
BOTH = f"{ACCEL},gyro_x,gyro_y,gyro_z"


def swinging(seconds: float, rate_hz: float, cadence_hz: float, quiet_s: float = 0) -> list[str]:
    """Rows of a device that swings in step, at first not, without an angular velocity."""
    time_s = np.arange(0, seconds, 1 / rate_hz)
    swing = 3 * np.cos(2 * np.pi * cadence_hz * time_s) * (time_s >= quiet_s)
    return [f"{t:.4f},0,0,{9.81 + a:.4f},0,0,0" for t, a in zip(time_s, swing, strict=True)]


def read_excerpt(recordings: Path, folder: Path, pattern: str, kinds: str) -> LabelledRecording:
    """Read one real recording, alone in a set of the same name."""
    origin = pattern.split("/", maxsplit=1)[0]
    source = min(recordings.glob(pattern))
    person = folder / origin / source.parent.name
    person.mkdir(parents=True, exist_ok=True)
    stem = source.name.removesuffix(".csv.gz")
    for path in source.parent.glob(f"{stem}.*"):
        (person / path.name).symlink_to(path)
    for kind in kinds.split():
        beside = source.with_name(kind)
        (person / beside.name).symlink_to(beside)
    if (recordings / origin / "counts.csv").exists():
        (folder / origin / "counts.csv").symlink_to(recordings / origin / "counts.csv")
    return next(r for r in load_people([folder]) if r.name == stem)


def doings(recording: LabelledRecording) -> set[str]:
    return {ACTIVITIES[number] for number in np.unique(recording.activity) if number >= 0}


def test_a_folder_of_sets_is_read_and_tells_people_of_two_sets_apart(tmp_path: Path) -> None:
    for origin in ("ours", "theirs"):
        write(tmp_path / origin / "anna", "walk.csv", BOTH, swinging(20, 50, 2))
        write(tmp_path / origin / "anna", "walk.contacts.csv", "time,foot", [])
    read = load_people([tmp_path])
    assert [one.person for one in read] == ["ours/anna", "theirs/anna"]
    assert {one.labels for one in read} == {Labels.NONE}
    assert [one.rate_hz for one in read] == pytest.approx([50, 50])


def test_a_gap_in_the_readings_is_kept_and_nothing_is_known_in_it(tmp_path: Path) -> None:
    rows = [row for row in swinging(20, 50, 2) if not 5 <= float(row.split(",")[0]) < 7]
    write(tmp_path / "ours" / "anna", "walk.csv", BOTH, rows)
    write(tmp_path / "ours" / "anna", "walk.contacts.csv", "time,foot", [])
    (read,) = load_people([tmp_path / "ours"])
    assert read.gaps.tolist() == [[399, 560]]
    assert not read.end_known[399:560].any()
    assert read.end_known[[390, 570]].all()


def test_contacts_that_keep_phase_have_times_and_those_of_a_drifting_clock_only_counts(
    tmp_path: Path,
) -> None:
    person = tmp_path / "weallwalk" / "person-01"
    contacts = np.arange(5, 85, 0.5)
    for name, times in (
        ("wc_t1_left", contacts),
        ("gd_t1_left", contacts + np.linspace(0, 1.5, len(contacts))),
        ("na_t1_left", contacts + 0.1 * (contacts > 60)),
    ):
        write(person, f"{name}.csv", BOTH, swinging(90, 25, 2, quiet_s=4.6))
        rows = [f"{t:.3f},{i % 2}" for i, t in enumerate(times)]
        write(person, f"{name}.contacts.csv", "time,foot", rows)
    drifting, jumping, good = load_people([tmp_path])
    assert good.labels is Labels.CONTACTS
    assert (good.aid, good.placement, good.counts) == ("long cane", "pocket", (160, 160))
    assert good.standing[:200].all()
    assert good.end_known[500:6700].all()
    assert not good.start_known[500:6700].any()
    assert drifting.labels is Labels.ROUGH_CONTACTS
    assert drifting.counts == good.counts
    assert not drifting.end_known[500:6700].any()
    assert jumping.labels is Labels.CONTACTS
    assert jumping.end_known[500:4000].all()
    assert not jumping.end_known[5600:6700].any()


def test_a_missed_contact_may_be_a_step_and_is_not_learned_to_be_none(tmp_path: Path) -> None:
    contacts = np.delete(np.arange(5, 85, 0.5), 60)
    write(tmp_path / "weallwalk" / "p", "wc_t1_left.csv", BOTH, swinging(90, 25, 2, quiet_s=4.6))
    rows = [f"{t:.3f},{round(2 * t) % 2}" for t in contacts]
    write(tmp_path / "weallwalk" / "p", "wc_t1_left.contacts.csv", "time,foot", rows)
    (read,) = load_people([tmp_path])
    assert read.counts == (159, 160)
    assert not read.end_known[35 * 80]


def test_swings_give_two_steps_a_stride_and_only_if_they_are_regular(tmp_path: Path) -> None:
    person = tmp_path / "umafall" / "person-01"
    for name, swings in (
        ("jogging_1_ankle", np.arange(1, 14, 0.8)),
        ("walking_1_ankle", np.delete(np.arange(1, 14, 1.1), 4)),
    ):
        write(person, f"{name}.csv", BOTH, swinging(15, 20, 2))
        write(person, f"{name}.swings.csv", "time", [f"{t:.3f}" for t in swings])
    (read,) = load_people([tmp_path])
    assert (read.labels, read.name) == (Labels.SWINGS, "jogging_1_ankle")
    strides = len(np.arange(1, 14, 0.8)) - 1
    assert read.counts == (2 * strides - 1, 2 * strides + 1)
    assert len(read.ends) == 2 * strides
    assert doings(read) == {"running"}
    assert not read.end_known[read.judged].any()


def test_where_the_ankle_moves_a_doing_may_hide_a_step(tmp_path: Path) -> None:
    person = tmp_path / "umafall" / "person-01"
    rows = swinging(15, 20, 2)
    rows[100] = "5.0,0,0,9.81,4,0,0"
    write(person, "openingdoor_1_ankle.csv.gz", BOTH, rows)
    write(person, "openingdoor_1_wrist.csv.gz", BOTH, swinging(15, 20, 2))
    write(person, "bending_1_wrist.csv.gz", BOTH, swinging(15, 20, 2))
    for name in ("openingdoor_1_ankle", "openingdoor_1_wrist", "bending_1_wrist"):
        write(person, f"{name}.contacts.csv", "time", [])
    read = {one.name: one for one in load_people([tmp_path])}
    assert set(read) == {"openingdoor_1_ankle", "openingdoor_1_wrist"}
    wrist = read["openingdoor_1_wrist"]
    assert not wrist.judged[400 - 150 : 400 + 150].any()
    assert wrist.judged[[0, 200, 600, 1100]].all()
    assert (wrist.end_known == wrist.judged).all()
    assert doings(wrist) == {"opening a door"}


def test_rough_contacts_count_where_both_feet_and_the_phone_agree(tmp_path: Path) -> None:
    person = tmp_path / "dcaiti" / "person-1"
    for name, right, quiet_s in (
        ("even", 20, 0), ("uneven", 12, 0), ("walked without sensors", 0, 0), ("unseen", 20, 15)
    ):  # fmt: skip
        write(person, f"{name}.csv", BOTH, swinging(40, 100, 1, quiet_s))
        feet = [f"{5 + i},0" for i in range(20 if right else 0)]
        feet += [f"{5.5 + i},1" for i in range(right)]
        write(person, f"{name}.rough-contacts.csv", "time,foot", feet)
    (read,) = load_people([tmp_path])
    assert (read.name, read.labels, read.counts) == ("even", Labels.COUNTS, (40, 40))
    assert read.end_known[[0, 3100]].all()
    assert not read.end_known[380:1900].any()


def test_a_label_file_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    write(tmp_path / "ours" / "anna", "walk.csv", BOTH, swinging(20, 50, 2))
    write(tmp_path / "ours" / "anna", "walk.contacts.csv", "time", ["1"])
    with pytest.raises(RecordingError, match=r"walk\.contacts\.csv: no column foot"):
        load_people([tmp_path])


@pytest.mark.parametrize(
    ("pattern", "kinds", "labels", "counts", "doing"),
    [
        ("bangle/wrist/walk-100.csv.gz", "", Labels.COUNTS, (100, 100), "walking"),
        ("bangle/wrist/still-0.csv.gz", "", Labels.NONE, (0, 0), "still"),
        ("dcaiti/person-1/ubahn*.csv.gz", "", Labels.COUNTS, (353, 354), "walking"),
        ("dcaiti/person-2/record20171220_153556.csv.gz", "", Labels.NONE, (0, 0), "handling"),
        ("seglearn-watch/person-1/003*.csv.gz", "", Labels.NONE, (0, 0), "exercising"),
        ("oxford-phone/person-b/samsung_hard_purse_1.csv.gz", "", Labels.CONTACTS, None, "walking"),
        ("simul-hand/person-08/*.csv.gz", "", Labels.STEPS, (752, 752), "standing"),
        ("weallwalk/person-13/na_t1_left.csv.gz", "", Labels.CONTACTS, (101, 103), "walking"),
        ("weallwalk/person-10/wc_t10_left.csv.gz", "", Labels.ROUGH_CONTACTS, None, "walking"),
        ("umafall/person-04/jogging_1_waist.csv.gz", "", Labels.SWINGS, None, "running"),
        (
            "umafall/person-04/aplausing_1_wrist.csv.gz", "aplausing_1_ankle.csv.gz",
            Labels.NONE, (0, 0), "clapping",
        ),
        (
            "geotec/person-04/05_pocket.csv.gz", "05_wrist.csv.gz 05_wrist.phases.csv",
            Labels.COUNTS, None, "seated",
        ),
    ],
)  # fmt: skip
def test_a_real_recording_says_what_is_known_of_it(  # noqa: PLR0913 - a row of the table
    *,
    recordings: Path,
    tmp_path: Path,
    pattern: str,
    kinds: str,
    labels: Labels,
    counts: tuple[int, int] | None,
    doing: str,
) -> None:
    if not list(recordings.glob(pattern)):
        pytest.fail(f"{recordings} has no {pattern}")
    read = read_excerpt(recordings, tmp_path, pattern, kinds)
    assert read.labels is labels
    if counts is not None:
        assert read.counts == counts
    assert doing in doings(read)
    assert read.judged.any()
    arrays = (read.activity, read.start_known, read.end_known, read.judged)
    assert {len(one) for one in arrays} == {len(read.axes)}
    assert 8 < np.median(np.linalg.norm(read.axes[:, :3], axis=1)) < 13
    # What is learned as an end is known to be one.
    places = read.ends.astype(int).clip(0, len(read.axes) - 1)
    if labels in {Labels.STEPS, Labels.CONTACTS}:
        assert read.end_known[places].mean() > 0.9
    else:
        assert not read.end_known[places].any()
