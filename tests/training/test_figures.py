"""Tables of scores, on recordings with known answers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from stepstream.commands.evaluate import check_names
from stepstream.commands.train import Train
from stepstream.errors import SettingsError
from stepstream.training.data import ACTIVITIES, LabelledRecording, Labels
from stepstream.training.evaluation import Result, evaluate_recording, score
from stepstream.training.figures import (
    fit_calibration,
    group_results,
    measure_recall,
    measure_reliability,
    score_table,
    to_json,
)
from stepstream.training.interruptions import interrupt
from stepstream.training.sampling import choose_passes, read_passes
from tests.training.builders import moments, recording


def all_of(made: LabelledRecording) -> Result:
    return evaluate_recording(made, moments(made.starts, made.ends))


def without_steps(length: int, activity: str, **changes: Any) -> LabelledRecording:
    made = recording(length)
    nothing = np.empty(0)
    about: dict[str, Any] = {
        "labels": Labels.NONE, "starts": nothing, "ends": nothing, "counts": (0, 0),
        "activity": np.full(length, ACTIVITIES.index(activity), np.int8), **changes,
    }  # fmt: skip
    return replace(made, **about)


def test_scores_are_by_person_set_placement_aid_rate_and_activity() -> None:
    walked = recording()
    cane = replace(walked, origin="other", person="other/q", placement="pocket", aid="long cane")
    cane = replace(cane, rate_hz=26.0, counts=(100, 100), labels=Labels.COUNTS)
    half = moments(walked.starts[::2], walked.ends[::2])
    clapped = without_steps(4800, "clapping", person="p")
    three = moments(np.array([100.0, 900, 1700]), np.array([170.0, 970, 1770]))
    results = [all_of(walked), evaluate_recording(cane, half), evaluate_recording(clapped, three)]
    rows = {(row.group, row.name): row.score for row in group_results(results)}
    assert {group for group, _ in rows} == {
        "all", "set", "person", "placement", "placement in a set", "aid", "rate", "activity",
    }  # fmt: skip
    everything = rows["all", ""]
    assert (everything.recordings, everything.people) == (3, 2)
    assert (everything.timed_recordings, everything.counted_recordings) == (1, 2)
    share = len(half.ends) / 100
    assert rows["aid", "long cane"].signed_count_error == pytest.approx(share - 1)
    assert rows["person", "other/q"].count_error == pytest.approx(1 - share)
    assert everything.count_error == pytest.approx((1 - share) / 2)
    assert everything.worst_recording == "other/q/r"
    assert np.isnan(rows["set", "other"].f1_end)
    assert rows["set", "set"].f1_start == 1
    assert rows["rate", "25 Hz"].found_steps == len(half.ends)
    assert rows["activity", "clapping"].false_per_minute == pytest.approx(3)
    assert rows["activity", "clapping"].stepless_minutes == pytest.approx(1)
    assert np.isnan(rows["activity", "clapping"].false_per_standing_minute)
    assert rows["activity", "walking"].true_steps == len(walked.ends) + 100
    printed = io.StringIO()
    Console(width=210, file=printed).print(score_table(group_results(results), "model"))
    assert "clapping" in printed.getvalue()
    document = json.loads(json.dumps(to_json(group_results(results), [], [], (2.0, 1.0))))
    assert document["scores"][0]["people"] == 2
    assert document["calibration"] == [2, 1]


def test_what_is_not_judged_counts_for_nothing() -> None:
    made = recording()
    judged = np.arange(4000) < 2000
    within = int((made.ends < 2000).sum())
    half = replace(made, judged=judged, labels=Labels.COUNTS, counts=(within, within))
    assert all_of(half).count_error == 0
    sure = without_steps(4000, "handling", judged=judged)
    false = score([evaluate_recording(sure, moments(made.starts, made.ends))])
    assert false.stepless_minutes == pytest.approx(2000 / 4800)
    assert false.false_per_minute == pytest.approx(within / (2000 / 4800))


def test_a_constant_of_the_recording_is_taken_off_contacts_but_not_off_steps() -> None:
    made = recording()
    late = moments(made.starts + 12, made.ends + 12)
    assert score([evaluate_recording(made, late)]).f1_end_tight == 0
    contacts = replace(made, labels=Labels.CONTACTS, starts=np.empty(0))
    assert score([evaluate_recording(contacts, late)]).f1_end_tight == 1


def test_recall_is_by_the_time_since_walking_or_readings_started() -> None:
    made = recording()
    first = made.ends[:2]
    found = moments(made.starts[2:], made.ends[2:])
    recalls = {(r.since, r.after_s): r for r in measure_recall([evaluate_recording(made, found)])}
    assert recalls["start of walking", 1].ends == len(first)
    assert recalls["start of walking", 1].recall == 0
    assert recalls["start of walking", 2].recall == 1
    assert sum(r.ends for r in recalls.values()) == len(made.ends)
    assert recalls["start of readings", 1].ends == 0


def test_reliability_is_the_share_of_right_steps_of_about_the_same_probability() -> None:
    made = recording()
    count = len(made.ends)
    sure = moments(made.starts, made.ends)._replace(probabilities=np.full(count, 0.95, np.float32))
    doubtful = moments(np.array([100.0]), np.array([170.0]))
    doubtful = doubtful._replace(probabilities=np.full(1, 0.45, np.float32))
    clapped = evaluate_recording(without_steps(4800, "clapping"), doubtful)
    results = [evaluate_recording(made, sure), clapped]
    classes = {one.least: one for one in measure_reliability(results)}
    assert (classes[0.9].steps, classes[0.9].right) == (count, 1)
    assert (classes[0.4].steps, classes[0.4].right) == (1, 0)
    assert classes[0.4].probability == pytest.approx(0.45)
    assert sum(one.steps for one in classes.values()) == count + 1


def with_probabilities(made: LabelledRecording, ends: Any, probabilities: Any) -> Result:
    found = moments(ends - 69, ends)
    return evaluate_recording(
        made, found._replace(probabilities=np.asarray(probabilities, np.float32))
    )


def test_a_calibration_says_how_many_are_right_of_those_with_a_probability() -> None:
    random = np.random.default_rng(3)
    given = random.uniform(0.3, 0.95, 4000)
    share = 1 / (1 + np.exp(-(2 * np.log(given / (1 - given)) + 0.5)))
    right = random.random(4000) < share
    walked, clapped = recording(180_000), without_steps(180_000, "clapping")
    hits, misses = given[right], given[~right]
    results = [
        with_probabilities(walked, walked.ends[: len(hits)], hits),
        with_probabilities(clapped, walked.ends[: len(misses)], misses),
    ]
    assert fit_calibration(results) == pytest.approx((2, 0.5), abs=0.15)
    (left_out,) = results[:1]
    assert fit_calibration([left_out]) == (1, 0)
    assert fit_calibration([]) == (1, 0)
    # Far from where it begins, with few steps, and with all on one side: a finite number.
    extreme = [
        with_probabilities(walked, walked.ends[:3], [0.99, 0.999, 1.0]),
        with_probabilities(clapped, walked.ends[:2], [0.98, 0.001]),
    ]
    slope, offset = fit_calibration(extreme)
    assert 0 < slope < 10
    assert abs(offset) < 20
    backwards = [
        with_probabilities(walked, walked.ends[:20], np.full(20, 0.3)),
        with_probabilities(clapped, walked.ends[:20], np.full(20, 0.9)),
    ]
    assert fit_calibration(backwards) == (1, 0)


def test_a_gap_that_is_cut_takes_its_steps_away_and_starts_the_readings_anew() -> None:
    made = recording(8000)
    cut = interrupt(made, 2)
    assert cut.gaps.tolist() == [[1200, 1360], [3600, 3760], [6000, 6160]]
    lost = sum(((made.ends >= a) & (made.ends < b)).sum() for a, b in cut.gaps.tolist())
    assert cut.counts == (len(made.ends) - lost,) * 2
    soon = np.zeros(8000, np.bool_)
    for _, end in cut.gaps.tolist():
        soon[end : end + 80] = True
    kept = ~soon[made.ends.astype(int)]
    found = moments(made.starts[kept], made.ends[kept])
    recalls = {(r.since, r.after_s): r for r in measure_recall([evaluate_recording(cut, found)])}
    assert recalls["start of readings", 1].recall == 0
    assert recalls["start of readings", 1].ends == (~kept).sum()
    assert recalls["start of readings", 2].recall == 1


def test_balance_gives_sets_people_and_placements_the_same_time() -> None:
    large = [replace(recording(8000, f"a/{n}"), origin="a") for n in range(5)]
    small = [
        replace(recording(4000, "b/0"), origin="b", placement=place)
        for place in ("wrist", "pocket", "pocket")
    ]
    made = [*large, *small]
    samples = np.array([len(r.axes) for r in made])
    assert (read_passes(made, 0) == 1).all()
    time = read_passes(made, 1) * samples
    assert time.sum() == pytest.approx(samples.sum())
    assert time[:5].sum() == pytest.approx(time[5:].sum())
    assert time[5] == pytest.approx(time[6:].sum())
    between = read_passes(made, 0.5)
    assert 1 < between[5] < read_passes(made, 1)[5]
    passes = read_passes(made, 1)
    random = np.random.default_rng(1)
    drawn = [np.bincount(choose_passes(passes, random), minlength=8) for _ in range(400)]
    assert np.mean(drawn, axis=0) == pytest.approx(passes, abs=0.1)


def test_what_has_steps_and_what_has_none_are_read_for_the_same_time() -> None:
    made = [
        replace(recording(8000, f"a/{n}"), counts=(0, 0), ends=np.empty(0), starts=np.empty(0))
        for n in range(3)
    ]
    made += [recording(4000, "a/0")]
    time = read_passes(made, 1) * [len(r.axes) for r in made]
    assert time[:3].sum() == pytest.approx(time[3])


def test_whole_steps_are_read_for_their_least_share_of_the_time() -> None:
    whole, contacts = recording(4000), recording(12000)
    contacts = replace(contacts, labels=Labels.CONTACTS, origin="other", person="other/p")
    samples = np.array([4000, 12000])
    for least, share in ((0.0, 0.25), (0.2, 0.25), (0.6, 0.6)):
        read = read_passes([whole, contacts], 0, least) * samples
        assert read.sum() == pytest.approx(16000)
        assert read[0] / read.sum() == pytest.approx(share)
    assert read_passes([whole], 0, 0.5).tolist() == [1]


def test_a_short_recording_is_not_repeated_without_end() -> None:
    made = [
        replace(recording(80_000, "a/0"), origin="a"),
        replace(recording(500, "b/0"), origin="b"),
    ]
    passes = read_passes(made, 1)
    assert passes[1] == 8
    assert (passes * [80_000, 500]).sum() == pytest.approx(80_500)


def test_folds_leave_out_people_or_sets_but_never_the_only_whole_steps() -> None:
    made = [replace(recording(person=f"a/{n}"), origin="a") for n in range(4)]
    made += [
        replace(recording(person=f"{origin}/0"), origin=origin, labels=labels)
        for origin, labels in (("b", Labels.CONTACTS), ("c", Labels.COUNTS))
    ]
    made.append(replace(without_steps(4000, "driving"), origin="d", person="d/0"))

    def folds(**options: Any) -> list[set[str]]:
        return Train.model_validate({"data": ["x"], **options})._folds(made)

    assert folds(folds="sets") == [{"b"}, {"c"}, {"d"}]
    assert folds(folds="sets", hold_out=["c"]) == [{"b"}, {"d"}]
    people = folds(folds=2)
    assert sorted(set.union(*people)) == ["a/0", "a/1", "a/2", "a/3", "b/0", "c/0", "d/0"]
    assert not people[0] & people[1]
    assert [len([p for p in fold if p.startswith("a")]) for fold in people] == [2, 2]


def test_a_name_that_is_no_set_person_or_placement_is_an_error() -> None:
    with pytest.raises(SettingsError, match="only: no nobody among hand, p, set"):
        check_names("only", ["nobody"], [recording()])
