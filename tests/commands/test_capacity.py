from __future__ import annotations

import re

import pytest

from stepstream.cli import main
from stepstream.commands import capacity
from stepstream.commands.capacity import Capacity, estimate
from stepstream.detection import Model, default_model_path
from stepstream.settings import ModelSettings
from stepstream.simulation import calibration
from stepstream.simulation.calibration import Calibration, Work, calibrate, work_off

COST = Calibration(message_us=2.0, reading_us=1.0, reading_bytes=70.0, message_bytes=110.0)


@pytest.mark.slow
def test_the_real_consumer_processes_a_backlog_without_a_broker() -> None:
    work = work_off(Model(default_model_path()), 50, 2.5)
    assert (work.messages, work.readings) == (200 * 4, 200 * 200)
    assert 60 < work.size / work.readings < 120
    assert work.cpu_s > 0


def test_cost_of_messages_and_of_readings_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def work_off(_model: object, batch: int, seconds: float) -> Work:
        readings = round(1_000 * seconds)
        messages = readings // batch
        cpu_s = 0.7 + messages * 2.0e-6 + readings * 1.0e-6
        return Work(messages, readings, messages * 110 + readings * 70, cpu_s)

    monkeypatch.setattr(calibration, "work_off", work_off)
    cost = calibrate(ModelSettings())
    assert [round(value, 6) for value in vars(cost).values()] == [2.0, 1.0, 70.0, 110.0]
    assert round(cost.cost_us(50), 6) == 1.04


def test_consumers_grow_with_devices_and_shrink_with_batches() -> None:
    one = estimate(Capacity(devices=10_000, rate=80), COST)
    ten = estimate(Capacity(devices=100_000, rate=80), COST)
    batched = estimate(Capacity(devices=100_000, rate=80, batch=50), COST)
    assert one.consumers == 4  # 800,000 readings/s at 3 us are 2.4 cores, at 60 % of each
    assert ten.consumers == 40
    assert batched.consumers == 14  # 8,000,000 readings/s at 1.04 us
    assert batched.input_mib_s < ten.input_mib_s / 2
    assert ten.partitions >= ten.consumers


def test_every_consumer_keeps_room_for_its_devices_and_for_a_takeover() -> None:
    tight = estimate(Capacity(devices=100_000, utilisation=0.9), COST)
    roomy = estimate(Capacity(devices=100_000, utilisation=0.5), COST)
    assert tight.consumers < roomy.consumers
    assert tight.memory_mib > roomy.memory_mib > capacity.BASE_MIB
    assert tight.takeover_s > roomy.takeover_s


def test_few_devices_still_need_a_consumer_and_a_broker_for_each_copy() -> None:
    need = estimate(Capacity(devices=1, rate=1), COST)
    assert (need.consumers, need.brokers) == (1, 3)


def test_the_command_prints_what_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "calibrate", lambda _model: COST)
    assert main(["capacity", "--devices", "10000000", "--rate", "80", "--batch", "50"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"input +800,000,000 readings/s in 16,000,000 messages/s", out)
    assert re.search(r"consumers +1,387 at 60% of a core", out)
