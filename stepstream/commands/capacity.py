"""``stepstream capacity``."""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from stepstream.logs import configure_logging
from stepstream.settings import CommandSettings, LoggingSettings, ModelSettings

if TYPE_CHECKING:
    from stepstream.simulation.calibration import Calibration

__all__ = ["Capacity", "Need", "estimate"]

STEPS_PER_S = 1.9
"""Of a person who walks."""
EVENT_BYTES, LEDGER_BYTES = 300, 350
"""Of an event and of the ledger record that goes with it, keys included."""
BASE_MIB = 130
DEVICE_KIB = 13.6
"""Memory of a consumer that processes a backlog, and what each device adds (docs/capacity.md)."""
REPLAY_S = 6.0
"""Input that is read again when a partition moves: the horizon of the detector, and a margin."""
PARTITIONS_PER_CONSUMER = 2
"""So the number of consumers can double before keys have to move to other partitions."""


class Capacity(CommandSettings):
    """Compute what a number of devices needs, from a calibration run here; needs no broker."""

    devices: int = Field(1_000, ge=1, le=1_000_000_000)
    """Devices that send."""
    rate: float = Field(80.0, gt=0, le=10_000)
    """Readings that each device sends a second."""
    batch: int = Field(1, ge=1, le=10_000)
    """Readings in a message."""
    walking: float = Field(1.0, ge=0, le=1)
    """Share of the devices whose people walk at the same time."""
    utilisation: float = Field(0.6, gt=0, le=1)
    """Share of a core that a consumer may use; the rest is for processing a lag."""
    replicas: int = Field(3, ge=1, le=10)
    """Number of copies that the brokers keep."""
    broker_mib_s: float = Field(60.0, gt=0)
    """MiB/s that a broker may write, copies of other brokers' data included; measure yours."""
    compression: float = Field(1.8, ge=1)
    """How many times smaller the input gets: recordings by lz4 1.6 to 2 in batches, 3 singly."""
    model: ModelSettings = ModelSettings()

    def execute(self) -> int:
        """Calibrate, compute and print."""
        from stepstream.simulation.calibration import calibrate  # noqa: PLC0415 - a Kafka client

        configure_logging(LoggingSettings(level="error"), self.hide_secrets)
        logging.getLogger("stepstream.simulation").setLevel(logging.ERROR)
        sys.stderr.write("calibrating, up to a minute: keep this machine otherwise idle\n")
        calibration = calibrate(self.model)
        sys.stdout.write(self.describe(calibration, estimate(self, calibration)))
        return 0

    def describe(self, cost: Calibration, need: Need) -> str:
        """The result as text."""
        per_core = 1e6 / cost.cost_us(self.batch)
        rows = {
            "on this machine": f"{cost.message_us:.2f} us of CPU a message and "
            f"{cost.reading_us:.2f} us a reading: {per_core:,.0f} readings/s a core at "
            f"{self.batch} a message",
            "input": f"{need.readings_per_s:,.0f} readings/s in {need.messages_per_s:,.0f} "
            f"messages/s, {need.input_mib_s:,.1f} MiB/s before compression",
            "consumers": f"{need.consumers:,} at {self.utilisation:.0%} of a core, "
            f"{need.memory_mib:,.0f} MiB each, for "
            f"{math.ceil(self.devices / need.consumers):,} devices each",
            "partitions": f"{need.partitions:,}",
            "output": f"{need.events_per_s:,.0f} events/s if {self.walking:.0%} walk, and as many "
            f"ledger records: {need.output_mib_s:,.1f} MiB/s",
            "brokers": f"{need.brokers:,} at {self.broker_mib_s:g} MiB/s written each: "
            f"{need.written_mib_s:,.1f} MiB/s in {self.replicas} copies; "
            f"{need.read_mib_s:,.1f} MiB/s read",
            "lost consumer": f"its partitions go on {need.takeover_s:.1f} s after others have "
            f"them: {REPLAY_S:g} s of input are read again",
        }
        return "".join(f"{name:<17} {text}\n" for name, text in rows.items())


@dataclass(frozen=True)
class Need:
    """What a number of devices needs.

    Attributes
    ----------
    readings_per_s, messages_per_s, events_per_s
        Input and output.
    input_mib_s, output_mib_s
        The same in MiB a second: readings; events and ledger records.
    written_mib_s, read_mib_s
        What all brokers together write, copies included, and what consumers read.
    consumers, partitions, brokers
        How many.
    memory_mib
        Of each consumer.
    takeover_s
        Time to rebuild the windows of a consumer's partitions on another that has as many.
    """

    readings_per_s: float
    messages_per_s: float
    events_per_s: float
    input_mib_s: float
    output_mib_s: float
    written_mib_s: float
    read_mib_s: float
    consumers: int
    partitions: int
    brokers: int
    memory_mib: float
    takeover_s: float


def estimate(asked: Capacity, cost: Calibration) -> Need:
    """Compute what devices need from what a message and a reading cost."""
    readings = asked.devices * asked.rate
    messages = readings / asked.batch
    cores = readings * cost.cost_us(asked.batch) / 1e6
    consumers = max(1, math.ceil(cores / asked.utilisation))
    events = asked.devices * asked.walking * STEPS_PER_S
    mib = 2**20
    input_mib = (messages * cost.message_bytes + readings * cost.reading_bytes) / mib
    output_mib = events * (EVENT_BYTES + LEDGER_BYTES) / mib
    stored_mib = input_mib / asked.compression
    written = (stored_mib + output_mib) * asked.replicas
    needed_brokers = math.ceil(written / asked.broker_mib_s)
    # A core uses its share for new readings, and the rest to read old ones again.
    load = min(asked.utilisation, cores / consumers)
    return Need(
        readings_per_s=readings,
        messages_per_s=messages,
        events_per_s=events,
        input_mib_s=input_mib,
        output_mib_s=output_mib,
        written_mib_s=written,
        read_mib_s=stored_mib + events * EVENT_BYTES / mib,
        consumers=consumers,
        partitions=consumers * PARTITIONS_PER_CONSUMER,
        brokers=max(asked.replicas, needed_brokers),
        memory_mib=BASE_MIB + asked.devices / consumers * DEVICE_KIB / 1024,
        takeover_s=REPLAY_S * load / max(1 - load, 0.01),
    )
