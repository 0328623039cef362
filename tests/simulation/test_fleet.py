from __future__ import annotations

import json

import numpy as np
import pytest

from stepstream.recordings import Recording
from stepstream.simulation.fleet import Device, Message, Player, messages
from stepstream.simulation.walkers import Walker
from tests.builders import decode

EPOCH_S = 1_700_000_000


def recording(times_s: list[float]) -> Recording:
    axes = np.arange(len(times_s) * 6).reshape(-1, 6) / 7
    return Recording("tape", np.array(times_s), axes)


def walkers(count: int) -> list[Device]:
    return [Device(f"w{n}", Walker(n, 80)) for n in range(count)]


def times_of(message: Message) -> list[float]:
    stamps = json.loads(message.value)["timestamp"]
    return stamps if isinstance(stamps, list) else [stamps]


def test_messages_of_all_devices_come_in_the_order_of_time() -> None:
    sent = list(messages(walkers(3), EPOCH_S, 2.0))
    assert len(sent) == 3 * 160
    assert [m.due_s for m in sent] == sorted(m.due_s for m in sent)
    assert {m.key for m in sent} == {b"w0", b"w1", b"w2"}
    for m in sent:
        assert times_of(m) == [pytest.approx(EPOCH_S + m.due_s, abs=1e-6)]


def test_batches_hold_the_same_readings_and_the_rest_comes_at_the_end() -> None:
    single = list(messages(walkers(2), EPOCH_S, 2.0))
    batched = list(messages(walkers(2), EPOCH_S, 2.0, batch=50))
    assert [m.readings for m in batched if m.key == b"w0"] == [50, 50, 50, 10]
    for key in (b"w0", b"w1"):
        flat = [t for m in batched if m.key == key for t in times_of(m)]
        assert flat == [t for m in single if m.key == key for t in times_of(m)]


@pytest.mark.parametrize("batch", [1, 7])
def test_what_is_sent_is_what_the_consumer_decodes(batch: int) -> None:
    tape = recording([5.25, 5.5, 5.75, 6.0, 6.25])
    sent = list(messages([Device("tape", Player(tape))], EPOCH_S, 2.0, batch=batch, decimals=None))
    decoded = decode([m.value for m in sent], "tape")
    assert not decoded.invalid
    expected_us = (EPOCH_S + tape.time_s - 5) * 1e6
    assert decoded.time_us.tolist() == expected_us.tolist()
    assert (decoded.axes == tape.axes.astype(np.float32)).all()


def test_a_device_without_a_gyroscope_leaves_the_fields_out() -> None:
    (first, *_) = messages([Device("w", Walker(1, 80, gyroscope=False))], EPOCH_S, 0.5)
    assert json.loads(first.value).keys() == {
        "device_id", "timestamp", "accel_x", "accel_y", "accel_z",
    }  # fmt: skip


def test_a_clock_set_back_in_a_recording_holds_nothing_up() -> None:
    tape = recording([10.0, 10.1, 10.2, 3.0, 3.1, 10.3])
    sent = list(messages([Device("tape", Player(tape))], EPOCH_S, 20.0))
    assert [t - EPOCH_S for m in sent for t in times_of(m)] == pytest.approx(
        [7.0, 7.1, 7.2, 0.0, 0.1, 7.3]
    )
    assert [m.due_s for m in sent] == sorted(m.due_s for m in sent)


def test_a_delayed_copy_is_shifted_by_whole_seconds() -> None:
    tape = recording([0.5, 0.75])
    (plain, *_), (late, *_) = (
        list(messages([Device("tape", Player(tape, delay))], EPOCH_S, 9.0)) for delay in (0, 3)
    )
    assert times_of(late)[0] - times_of(plain)[0] == 3
