"""Wrong units and missing gravity are noticed, and nothing is said of readings that are right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stepstream.detection.sanity import MIN_PIECES, Doubt, judge, measure_readings
from stepstream.recordings import read_recording

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Axes = NDArray[np.float64]

G = 9.80665
SETS = (
    "simul-hand",
    "oxford-phone",
    "weallwalk",
    "umafall",
    "dcaiti",
    "geotec",
    "bangle",
    "seglearn-watch",
)
FAULTY = {
    "person-02/jogging_2_ankle", "person-02/jogging_2_wrist", "person-04/aplausing_3_wrist",
    "person-05/handsup_4_chest", "person-05/jogging_1_ankle", "person-06/lyingdown_onabed_3_chest",
    "person-06/sitting_gettinguponachair_1_chest", "person-09/handsup_2_chest",
    "person-09/makingacall_3_chest", "person-12/lyingdown_onabed_1_ankle",
}  # fmt: skip
"""Recordings of umafall whose sensor gave a quarter of the acceleration for a time: 2.5 m/s^2 at
rest."""
WALKS = ("simul-hand", "weallwalk", "oxford-phone")
DEGREES = 180 / np.pi
MAX_ANGULAR_VELOCITY = 100.0
DEVICES = 5
SECONDS = 60.0


def without_gravity(time_us: NDArray[np.int64], axes: Axes) -> Axes:
    """As systems take it out: less a vector of gravity's length that follows slowly."""
    half = 1_000_000
    begin = np.searchsorted(time_us, time_us - half)
    end = np.searchsorted(time_us, time_us + half, side="right")
    sums = np.vstack([np.zeros(3), np.cumsum(axes[:, :3], axis=0)])
    slow = (sums[end] - sums[begin]) / (end - begin)[:, np.newaxis]
    slow *= 9.81 / np.linalg.norm(slow, axis=1, keepdims=True)
    return np.hstack([axes[:, :3] - slow, axes[:, 3:]])


def wrong(doubt: Doubt, time_us: NDArray[np.int64], axes: Axes) -> tuple[NDArray[np.int64], Axes]:
    """The same motion as somebody sends it who causes this doubt."""
    if doubt is Doubt.NO_GRAVITY:
        return time_us, without_gravity(time_us, axes)
    scale = {
        Doubt.ACCEL_IN_G: (1 / G, 1.0),
        Doubt.ACCEL_TOO_LARGE: (G, 1.0),
        Doubt.GYRO_IN_DEGREES: (1.0, DEGREES),
    }[doubt]
    axes = axes * np.repeat(scale, 3)
    # Others are dead letters.
    valid = (np.abs(axes[:, 3:]) <= MAX_ANGULAR_VELOCITY).all(axis=1)
    return time_us[valid], axes[valid]


def load(path: Path) -> tuple[NDArray[np.int64], Axes]:
    recording = read_recording(path, rate_hz=80 if "simul-hand" in str(path) else None)
    return np.rint(recording.time_s * 1e6).astype(np.int64), recording.axes


@pytest.mark.parametrize("kind", SETS)
def test_nothing_is_doubted_in_recordings_with_the_right_units(recordings: Path, kind: str) -> None:
    paths = sorted((recordings / kind).rglob("*.csv.gz"))
    # A test by hand takes them all.
    step = 1 if os.environ.get("TEST_ALL_RECORDINGS") else max(1, len(paths) // 40)
    judged = {
        path: judge(measure_readings(*load(path)))
        for path in paths[::step]
        if f"{path.parent.name}/{path.name.removesuffix('.csv.gz')}" not in FAULTY
    }
    assert sum(verdict.pieces >= MIN_PIECES for verdict in judged.values()) >= len(judged) // 4
    assert {path: verdict for path, verdict in judged.items() if verdict.doubts} == {}


@pytest.mark.parametrize("kind", WALKS)
@pytest.mark.parametrize("doubt", [doubt for doubt in Doubt if doubt is not Doubt.GYRO_TOO_LATE])
def test_a_minute_of_some_devices_with_a_wrong_unit_is_enough(
    recordings: Path, kind: str, doubt: Doubt
) -> None:
    paths = sorted((recordings / kind).rglob("*.csv.gz"))
    random = np.random.default_rng(0)
    for _ in range(3):
        pieces = []
        for path in random.choice(np.array(paths, object), DEVICES, replace=False):
            time_us, axes = load(path)
            has_gyro = bool(axes[:, 3:].any())
            first_s = time_us[0] / 1e6 + 10
            walked = (time_us >= first_s * 1e6) & (time_us < (first_s + SECONDS) * 1e6)
            pieces.append(measure_readings(*wrong(doubt, time_us[walked], axes[walked])))
        # One device of which a piece is taken each second gives no more than this in a minute.
        few = [random.permutation(each)[: int(SECONDS)] for each in pieces]
        verdict = judge(np.concatenate(few))
        expected = () if doubt is Doubt.GYRO_IN_DEGREES and not has_gyro else (doubt,)
        assert verdict.doubts == expected, verdict


@pytest.mark.parametrize("kind", WALKS)
@pytest.mark.parametrize("doubt", [Doubt.ACCEL_IN_G, Doubt.ACCEL_TOO_LARGE, Doubt.GYRO_IN_DEGREES])
def test_a_fifth_of_a_fleet_with_a_wrong_unit_is_enough(
    recordings: Path, kind: str, doubt: Doubt
) -> None:
    paths = np.array(sorted((recordings / kind).rglob("*.csv.gz")), object)
    random = np.random.default_rng(0)
    for _ in range(3):
        chosen = [load(path) for path in random.choice(paths, 10, replace=False)]
        pieces = [
            random.permutation(measure_readings(*(wrong(doubt, *one) if number < 2 else one)))[:30]
            for number, one in enumerate(chosen)
        ]
        verdict = judge(np.concatenate(pieces))
        has_gyro = any(axes[:, 3:].any() for _, axes in chosen)
        expected = () if doubt is Doubt.GYRO_IN_DEGREES and not has_gyro else (doubt,)
        assert verdict.doubts == expected, verdict
        if doubt is not Doubt.GYRO_IN_DEGREES:
            assert verdict.share == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("doubt", [Doubt.ACCEL_IN_G, Doubt.NO_GRAVITY])
def test_people_who_jog_with_a_wrong_unit_are_noticed(recordings: Path, doubt: Doubt) -> None:
    paths = np.array(sorted((recordings / "umafall").rglob("*/jogging*.csv.gz")), object)
    random = np.random.default_rng(0)
    for _ in range(10):
        chosen = [load(path) for path in random.choice(paths, 5, replace=False)]
        pieces = np.concatenate([measure_readings(*wrong(doubt, *one)) for one in chosen])
        assert judge(pieces).doubts == (doubt,)


def test_too_few_readings_give_no_verdict() -> None:
    assert measure_readings(np.empty(0, np.int64), np.empty((0, 6))).shape == (0, 3)
    time_us = np.arange(0, 11_000_000, 12_500)
    axes = np.zeros((len(time_us), 6))
    pieces = measure_readings(time_us, axes)
    assert judge(pieces[: MIN_PIECES - 1]).doubts == ()
    assert judge(pieces).doubts == ()
    assert judge(np.repeat(pieces, 2, axis=0)).doubts == (Doubt.NO_GRAVITY,)


def test_the_figures_say_what_was_seen() -> None:
    time_us = np.arange(0, 60_000_000, 20_000)
    axes = np.tile([0.0, 0.6, 0.8, 0.3, 0.0, 0.4], (len(time_us), 1))
    verdict = judge(measure_readings(time_us, axes))
    assert verdict.pieces == 150
    assert verdict.accel == pytest.approx(1.0)
    assert verdict.share == 1.0
    assert verdict.gyro == pytest.approx(0.5)
    assert verdict.doubts == (Doubt.ACCEL_IN_G,)
