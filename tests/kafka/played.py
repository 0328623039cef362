"""Recordings played into the readings topic, and the events that `detect` finds in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.kafka.builders import TopicSet

PEOPLE = ("person-08", "person-11", "person-12", "person-17", "person-31")

Step = tuple[Any, ...]


def by_device(events: Iterable[dict[str, Any]]) -> dict[str, list[Step]]:
    """Events of each device in the order given, without what differs between file and stream."""
    grouped: dict[str, list[Step]] = {}
    for event in events:
        grouped.setdefault(event["device_id"], []).append(
            (
                event["step_count"],
                round(event["started_at"] * 1e6),
                round(event["ended_at"] * 1e6),
                event["start_probability"],
                event["end_probability"],
                event["model"],
            )
        )
    return grouped


class Played:
    """One recording each of some people; times are shifted to now when they are played."""

    def __init__(
        self,
        topics: TopicSet,
        recordings: Path,
        truth: Path,
        people: Sequence[str] = PEOPLE,
    ) -> None:
        self._topics = topics
        self._files = [str(min((recordings / "simul-hand" / p).glob("*.csv.gz"))) for p in people]
        self._truth = truth

    def start(self, speed: int, *more: str) -> subprocess.Popen[bytes]:
        """Play them in a process of its own."""
        options = ["--rate", "80", "--speed", str(speed), "--truth", str(self._truth), *more]
        return subprocess.Popen(
            [sys.executable, "-m", "stepstream", "simulate", *self._files, *options],
            env={**os.environ, **self._topics.environment()},
            stdout=subprocess.DEVNULL,
        )

    def expected(self) -> dict[str, list[Step]]:
        """The events of each device, in the form of `by_device`; call it after playing."""
        found = subprocess.run(
            [sys.executable, "-m", "stepstream", "detect", *self._files, "--rate", "80"],
            check=True,
            capture_output=True,
        )
        steps = by_device(map(json.loads, found.stdout.splitlines()))
        assert len(steps) == len(self._files)
        shifts_us = {
            line["device_id"]: line["shift_s"] * 10**6
            for line in map(json.loads, self._truth.read_text().splitlines())
        }
        return {
            device: [
                (n, start + shifts_us[device], end + shifts_us[device], *rest)
                for n, start, end, *rest in found
            ]
            for device, found in steps.items()
        }
