"""Steps without times, placed by a teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stepstream.training.counting import learn_from
from stepstream.training.data import LabelledRecording, Labels
from tests.training.builders import recording
from tests.training.test_training import bumps


def counted(session: str = "", first: int = 0) -> tuple[LabelledRecording, LabelledRecording]:
    """A walk of which only the number of steps is known, after standing; and the truth."""
    made = recording()
    standing = np.arange(4000) < 100
    walk = replace(
        made, labels=Labels.COUNTS, starts=np.empty(0), ends=np.empty(0), start_known=standing,
        end_known=standing, name=f"{session}_{first}", session=session, first=first,
    )  # fmt: skip
    return walk, made


def teacher(made: LabelledRecording, height: float = 0.8) -> np.ndarray:
    """Probabilities of a start and an end that a network might give."""
    starts = bumps(4000, made.ends - 22)
    return np.stack([starts, bumps(4000, made.ends)], axis=1) * np.float32(height)


def test_as_many_ends_as_counted_are_placed_where_they_are_likeliest() -> None:
    walk, made = counted()
    given = teacher(made)
    # One end is not seen at all, and something else is seen that is no step.
    given[int(made.ends[40]) - 25 : int(made.ends[40]) + 25, 1] = 0
    given[int(made.ends[60]) + 10 : int(made.ends[60]) + 14, 1] = 0.9
    (learned,) = learn_from([walk], lambda _: given)
    assert learned.ends == pytest.approx(made.ends, abs=6)
    assert learned.end_known[300:3700].all()
    intervals = np.diff(learned.ends)
    assert (learned.starts - learned.ends[:-1]) / intervals == pytest.approx(0.5, abs=0.1)
    assert learned.start_known[300:3600].all()
    assert not learned.needs_teacher


def test_a_teacher_changes_only_what_it_is_asked_for() -> None:
    walk, made = counted()
    contacts = replace(made, labels=Labels.CONTACTS, starts=np.empty(0), ends=made.ends + 5)
    given = teacher(made)
    first, second = learn_from([walk, contacts], lambda _: given, {Labels.CONTACTS})
    assert first.needs_teacher
    assert second.ends == pytest.approx(made.ends, abs=2)


def test_steps_that_a_teacher_does_not_see_are_not_learned() -> None:
    walk, made = counted()
    (learned,) = learn_from([walk], lambda _: teacher(made, 0.2))
    assert not len(learned.ends)
    assert not learned.end_known[200:].any()
    assert not learned.needs_teacher


def test_devices_of_a_session_get_the_same_ends_from_those_that_see_them() -> None:
    (good, made), (blind, _) = counted("one", 0), counted("one", 12)
    seen = {"one_0": teacher(made), "one_12": np.full((4000, 2), 0.3, np.float32)}
    first, second = learn_from([good, blind], lambda r: seen[r.name])
    assert first.ends == pytest.approx(made.ends, abs=3)
    assert second.ends == pytest.approx(first.ends - 12)


def test_a_count_that_does_not_fit_is_not_placed() -> None:
    walk, made = counted()
    (learned,) = learn_from([replace(walk, counts=(200, 200))], lambda _: teacher(made))
    assert not len(learned.ends)
