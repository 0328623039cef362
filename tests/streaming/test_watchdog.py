from __future__ import annotations

import logging
from threading import Event
from typing import TYPE_CHECKING

from stepstream.streaming.watchdog import Watchdog

if TYPE_CHECKING:
    import pytest


def test_stacks_are_logged_once_each_time_that_it_gets_stuck(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = iter([True, False, False, True, True, False])
    asked = Event()

    def is_live() -> bool:
        answer = next(answers, None)
        if answer is None:
            asked.set()
            return False
        return answer

    with caplog.at_level(logging.WARNING), Watchdog(is_live, 0.001):
        assert asked.wait(10)
    said = [record.getMessage().splitlines()[0] for record in caplog.records]
    assert said == [
        "the loop is stuck; all threads:",
        "the loop turns again",
        "the loop is stuck; all threads:",
    ]
    assert "MainThread:" in caplog.text
    assert "asked.wait(10)" in caplog.text
