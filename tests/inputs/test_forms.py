from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stepstream.detection import Model, Rules, default_model_path, detect_series
from stepstream.settings import InputSettings, ProcessingSettings, Settings, TopicSettings
from stepstream.streaming.processor import Processor
from tests.builders import load_walk
from tests.inputs.forms import BATCH, FORMS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.inputs.forms import Form, Row

EPOCH_US = 1_700_000_000_000_000
SECONDS = 25


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(default_model_path())


@pytest.fixture(scope="module")
def walk(recordings: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """People who walk, 80 Hz."""
    time_s, axes = load_walk(recordings)
    rows = slice(15 * 80, (15 + SECONDS) * 80)
    time_us = EPOCH_US + np.rint(time_s[rows] * 1e6).astype(np.int64)
    return time_us, axes[rows].astype(np.float64)


@pytest.mark.parametrize("name", FORMS)
def test_each_form_gives_the_steps_of_detect(
    name: str, model: Model, walk: tuple[NDArray[np.int64], NDArray[np.float64]]
) -> None:
    form = FORMS[name]
    rows = form.rows(*walk)
    expected = detect_series(
        model,
        np.array([row.time_us for row in rows]),
        np.array([(*row.accel, *row.gyro) for row in rows], np.float32),
        Rules.of(ProcessingSettings()),
    )
    found = published(form, model, rows)
    assert len(found) > 25
    assert [(one["started_at"], one["ended_at"]) for one in found] == [
        (start / 1e6, end / 1e6) for start, end, *_ in expected.rows()
    ]
    assert {one["device_id"] for one in found} == {form.device_id}
    assert [one["step_count"] for one in found] == list(range(1, len(found) + 1))


def published(form: Form, model: Model, rows: list[Row]) -> list[dict[str, Any]]:
    """The events of a form's messages, taken up in polls of some size."""
    settings = Settings(
        topics=TopicSettings(readings=("sent",)), input=InputSettings(**form.settings)
    )
    processor = Processor(model, settings)
    partition = processor.add_partition("sent", 0)
    records, now_us = list(form.records(rows)), rows[-1].time_us
    events = []
    for begin in range(0, len(records), 7 if form.batch == BATCH else 190):
        poll = records[begin : begin + (7 if form.batch == BATCH else 190)]
        (results,) = processor.process({partition: poll}, now_us)
        assert not results.dead_letters, results.records[0].headers
        events += [record for record in results.records if record.topic == "step-events"]
    assert {record.key for record in events} == {form.device_id.encode()}
    return [json.loads(record.value or b"") for record in events]
