from __future__ import annotations

import numpy as np
import pytest

from stepstream.detection import Model, default_model_path, detect_series
from stepstream.settings import ProcessingSettings
from stepstream.simulation.walkers import PLACEMENTS, Walker
from stepstream.streaming.counting import count_steps


def test_the_same_seed_is_the_same_person() -> None:
    first, again, other = Walker(1, 80), Walker(1, 80), Walker(2, 80)
    time_s, axes = first.read(20)
    time_again_s, axes_again = again.read(20)
    assert (time_s == time_again_s).all()
    assert (axes == axes_again).all()
    assert first.steps_until(20) == again.steps_until(20)
    assert first.steps_until(20) != other.steps_until(20)


def test_a_walker_read_in_pieces_walks_the_same_steps() -> None:
    whole, pieces = Walker(3, 100), Walker(3, 100)
    whole.read(12)
    times_s = np.concatenate([pieces.read(until)[0] for until in (0.3, 0.3, 5, 12)])
    assert pieces.steps_until(12) == whole.steps_until(12) != []
    assert len(times_s) == 1200
    assert (np.diff(times_s) > 0).all()


@pytest.mark.parametrize("rate_hz", [50.0, 80.0, 200.0])
def test_steps_are_as_long_and_as_far_apart_as_those_of_people(rate_hz: float) -> None:
    steps = np.array([step for seed in range(10) for step in Walker(seed, rate_hz).steps_until(60)])
    durations = steps[:, 1] - steps[:, 0]
    assert durations.min() > 0.5
    assert durations.max() < 1.25
    for seed in range(10):
        ends = np.array([end for _, end in Walker(seed, rate_hz).steps_until(60)])
        assert np.diff(ends).min() > 0.3


def test_at_rest_a_device_feels_gravity() -> None:
    for seed in range(5):
        walker = Walker(seed, 80)
        time_s, axes = walker.read(30)
        first_start = walker.steps_until(30)[0][0]
        still = axes[time_s < first_start - 0.4]
        assert np.linalg.norm(still[:, :3], axis=1).mean() == pytest.approx(9.81, abs=0.4)


def test_without_a_gyroscope_its_axes_are_zero() -> None:
    _, axes = Walker(1, 80, gyroscope=False).read(10)
    assert not axes[:, 3:].any()
    assert axes[:, :3].any()


@pytest.mark.parametrize("placement", sorted(PLACEMENTS))
@pytest.mark.parametrize("gyroscope", [True, False])
def test_the_shipped_model_finds_the_steps_of_walkers_it_has_never_seen(
    placement: str, gyroscope: bool
) -> None:
    model = Model(default_model_path())
    true = found = 0
    for seed in range(8):
        walker = Walker(seed, 80, placement, gyroscope=gyroscope)
        time_s, axes = walker.read(60)
        time_us = 1_700_000_000_000_000 + np.rint(time_s * 1e6).astype(np.int64)
        steps = detect_series(model, time_us, axes.astype(np.float32))
        found += len(count_steps("walker", steps, model, ProcessingSettings())[1])
        true += sum(start > 1.4 for start, _ in walker.steps_until(59.4))
    assert found == pytest.approx(true, rel=0.05)
