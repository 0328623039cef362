"""Series that are judged together give what each gives alone."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.detection import (
    ACCELEROMETER,
    GYROSCOPE,
    Rules,
    Series,
    SeriesBatch,
    Steps,
    detect_series,
    series_batch,
)
from tests.detection.builders import EPOCH_US, PERIOD_US, TransparentModel
from tests.detection.streams import GAPPY, PIECES, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Arrays = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.uint8] | None]


def arrays(stream: Stream, *, apart: bool) -> Arrays:
    """The readings of a random device; with sensors apart, each as one of either sensor."""
    readings = stream.readings
    time_us = np.array([r.time_us for r in readings], np.int64)
    axes = np.array([r.axes for r in readings], np.float32)
    if not apart:
        return time_us, axes, None
    sensors = np.resize(np.array([ACCELEROMETER, GYROSCOPE], np.uint8), len(time_us))
    return time_us, axes, sensors


SERIES = st.builds(
    arrays,
    st.builds(
        Stream,
        st.integers(0, 2**32 - 1),
        st.lists(st.one_of(PIECES, GAPPY), min_size=1, max_size=1),
        st.just(value=True),
    ).filter(lambda stream: bool(stream.readings)),
    apart=st.booleans(),
)


def rows(steps: Steps) -> list[list[float]]:
    columns = [getattr(steps, field.name).tolist() for field in fields(steps)]
    return [list(row[1:]) for row in zip(*columns, strict=True)]


def judged(
    batch: SeriesBatch, arrivals: list[tuple[int, Arrays]], leaving: set[int]
) -> dict[int, Steps]:
    """Steps of series that come before some turn; some leave a turn after they came."""
    found: dict[int, Steps] = {}
    numbers: dict[int, int] = {}
    turn = 0
    while len(found) < len(arrivals) - len(leaving) or numbers:
        for place, (at, given_arrays) in enumerate(arrivals):
            if at == turn:
                numbers[batch.add(Series(*given_arrays))] = place
        for number, steps in batch.turn():
            place = numbers.pop(number)
            # One that was to leave may have come to its end first.
            if place not in leaving:
                found[place] = steps
        for number in [n for n, place in numbers.items() if place in leaving]:
            batch.drop(number)
            del numbers[number]
        turn += 1
    assert not len(batch)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), SERIES), min_size=1, max_size=6),
    st.sets(st.integers(0, 5)),
    st.sampled_from([64, 16_384]),
)
def test_each_series_gives_the_steps_that_it_gives_alone(
    arrivals: list[tuple[int, Arrays]], leaving: set[int], readings: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_batch, "TURN_READINGS", readings)
        patch.setattr(series_batch, "LEAST_READINGS", readings // 4)
        batch = SeriesBatch(TransparentModel())
        # Twice: slots have had other series before.
        for _ in range(2):
            found = judged(batch, arrivals, leaving & set(range(len(arrivals))))
            for place, steps in found.items():
                time_us, axes, sensors = arrivals[place][1]
                alone = detect_series(TransparentModel(), time_us, axes, sensors=sensors)
                assert rows(steps) == rows(alone)


def turns(batch: SeriesBatch) -> Iterator[list[int]]:
    """The numbers of the series that come to their end in each turn."""
    while len(batch):
        yield [number for number, _ in batch.turn()]


def test_a_short_series_does_not_wait_for_the_end_of_a_long_one() -> None:
    batch = SeriesBatch(TransparentModel())
    at_us = EPOCH_US + np.arange(80 * 600) * PERIOD_US
    long = batch.add(Series(at_us, np.zeros((len(at_us), 6), np.float32)))
    short = batch.add(Series(at_us[:128], np.zeros((128, 6), np.float32)))
    ends = list(turns(batch))
    assert ends[0] == [short]
    assert ends[-1] == [long]
    assert len(ends) == pytest.approx(600e6 / series_batch.TURN_SIGNAL_US, abs=2)


@pytest.mark.parametrize("apart_us", [1, 250_000, 1_200_000])
def test_a_turn_has_a_bound_however_long_the_signal_between_readings_is(apart_us: int) -> None:
    hops: list[int] = []

    class Counting(TransparentModel):
        def predict(self, hops_: object) -> NDArray[np.float32]:
            hops.append(1)
            return super().predict(hops_)  # type: ignore[arg-type]

    batch = SeriesBatch(Counting(), Rules())
    at_us = EPOCH_US + np.arange(5_000) * apart_us
    batch.add(Series(at_us, np.zeros((len(at_us), 6), np.float32)))
    before = 0
    for _ in turns(batch):
        assert len(hops) - before <= (series_batch.TURN_SIGNAL_US + apart_us) / 100_000 + 2
        before = len(hops)
