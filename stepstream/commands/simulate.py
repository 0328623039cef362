"""``stepstream simulate``."""

from __future__ import annotations

import math
import signal
import sys
import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import Field
from pydantic_settings import CliPositionalArg

from stepstream.errors import SettingsError
from stepstream.inputs import MessageWriter, device_name
from stepstream.recordings import read_recording
from stepstream.settings import (
    CommandSettings,
    InputSettings,
    KafkaSettings,
    LoggingSettings,
    RegistrySettings,
    TopicSettings,
    choose_input,
)
from stepstream.simulation.fleet import Device, Player, messages
from stepstream.simulation.simulator import Sent, begin_epoch, send
from stepstream.simulation.walkers import Walker

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Simulate"]

FLUSH_TIMEOUT_S = 60.0


class Simulate(CommandSettings):
    """Send the readings of simulated people, or of recordings, to the readings topic."""

    recordings: CliPositionalArg[list[Path]] = Field(default_factory=list)
    """CSV recordings to play as devices; without any, people are simulated."""
    devices: int = Field(20, ge=1, le=1_000_000)
    """Simulated people."""
    copies: int = Field(1, ge=1, le=100_000)
    """Devices for each recording; each begins some whole seconds after the previous one."""
    own_times: bool = False
    """Keep the times of recordings, seconds since the epoch; otherwise they are moved to now."""
    rate: float = Field(80.0, gt=0, le=10_000)
    """Readings a second, of each person and of recordings without a time column."""
    speed: float = Field(1.0, ge=0)
    """Speed as a multiple of real time; 0 is as fast as possible."""
    seconds: float | None = Field(None, gt=0)
    """Length in the devices' own time; endless, or as long as the recordings, if not set."""
    batch: int = Field(1, ge=1, le=10_000)
    """Readings in a message."""
    placement: Literal["hand", "armband", "pocket", "mixed"] = "mixed"
    """Where the sensor is carried."""
    gyroscope: bool = True
    """Whether the devices have a gyroscope."""
    seed: int = 1
    """Seed of everything random."""
    truth: Path | None = None
    """File for the true steps, a JSON object in each line; for recordings, for their shifts."""
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    input: InputSettings = InputSettings()
    inputs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What is different from `input` in some topics, as in the settings."""
    registry: RegistrySettings = RegistrySettings()
    logging: LoggingSettings = LoggingSettings()

    def execute(self) -> int:
        """Send until the end, SIGINT or SIGTERM; 1 if messages were lost."""
        from stepstream.logs import configure_logging  # noqa: PLC0415
        from stepstream.streaming.publisher import Publisher  # noqa: PLC0415 - a Kafka client

        configure_logging(self.logging, self.hide_secrets)
        decimals = None if self.recordings else 5
        if not self.topics.named:
            raise SettingsError("topics.readings has only patterns: name the topic to write to")
        writer = self._writer(decimals)
        fleet, seconds = self._fleet()
        if self.speed != 1 and seconds == float("inf"):
            raise SettingsError("at another speed than 1 the end must be known: give --seconds")
        epoch_s = begin_epoch(0 if seconds == float("inf") else seconds, self.speed, time.time())
        if self.recordings:
            epoch_s = 0.0 if self.own_times else math.floor(epoch_s)
        stop = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        publisher = Publisher(self.kafka, self.topics.named[0])
        sent = Sent()
        begin_s = time.monotonic()
        stream = messages(
            fleet,
            epoch_s,
            min(seconds, 1e9),
            batch=self.batch,
            decimals=decimals,
            writer=writer,
        )
        send(stream, publisher, self.speed, stop, sent)
        lost = publisher.flush(FLUSH_TIMEOUT_S)
        took_s = time.monotonic() - begin_s
        truth = list(self._truth(fleet, epoch_s, sent.simulated_s))
        if self.truth is not None:
            lines = b"".join(msgspec.json.encode(line) + b"\n" for line in truth)
            self.truth.write_bytes(lines)
        steps = "" if self.recordings else f", {len(truth):,} true steps"
        sys.stdout.write(
            f"sent {sent.readings:,} readings in {sent.messages:,} messages of {len(fleet):,} "
            f"devices in {took_s:.1f} s{steps}{f', {lost:,} messages LOST' if lost else ''}\n"
        )
        return 1 if lost else 0

    def _writer(self, decimals: int | None) -> MessageWriter | None:
        if self._input == InputSettings():
            return None
        return MessageWriter(self._input, decimals, self.registry, self.topics.named[0])

    @property
    def _input(self) -> InputSettings:
        """How the messages of the topic are written."""
        try:
            return choose_input(self.input, self.inputs, self.topics.named[0])
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def _fleet(self) -> tuple[list[Device], float]:
        """The devices, and how long they send."""
        if not self.recordings:
            if self.own_times:
                raise SettingsError("--own-times needs recordings: simulated people have no times")
            places = ["hand", "hand", "armband", "pocket"]
            fleet = [
                Device(
                    device_name(self._input, n),
                    Walker(
                        self.seed * 1_000_003 + n,
                        self.rate,
                        places[n % 4] if self.placement == "mixed" else self.placement,
                        gyroscope=self.gyroscope,
                    ),
                )
                for n in range(self.devices)
            ]
            return fleet, self.seconds or float("inf")
        fleet, end_s = [], 0.0
        for path in self.recordings:
            recording = read_recording(path, self.rate)
            for copy in range(self.copies):
                player = Player(recording, delay_s=copy % 60)
                ahead_s = player.first_s - copy % 60 if self.own_times else 0
                name = f"{recording.device_id}-{copy}" if self.copies > 1 else recording.device_id
                fleet.append(Device(name, player, ahead_s))
                end_s = max(end_s, player.end_s)
        if len({device.device_id for device in fleet}) < len(fleet):
            raise SettingsError("two recordings have the same name, which is their device id")
        return fleet, min(self.seconds or float("inf"), end_s + 0.001)

    def _truth(
        self, fleet: list[Device], epoch_s: float, until_s: float
    ) -> Iterator[dict[str, Any]]:
        for number, device in enumerate(fleet):
            if isinstance(device.sensor, Walker):
                for start_s, end_s in device.sensor.steps_until(until_s):
                    yield {
                        "device_id": device.device_id,
                        "started_at": round(epoch_s + start_s, 6),
                        "ended_at": round(epoch_s + end_s, 6),
                    }
            elif isinstance(device.sensor, Player):
                path = self.recordings[number // self.copies]
                begin_s = int(epoch_s + device.ahead_s)
                shift_s = begin_s + number % self.copies % 60 - device.sensor.first_s
                yield {"device_id": device.device_id, "file": path.name, "shift_s": shift_s}
