"""How readings are processed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from stepstream.settings.groups import SettingsGroup, in_unit, split_commas

__all__ = ["AbnormalStart", "ProcessingSettings"]

AbnormalStart = Literal[
    "lost-readings",
    "missing-offset",
    "recreated-topic",
    "offset-beyond-end",
    "rewound-offset",
    "changed-partitions",
]


class ProcessingSettings(SettingsGroup):
    """How readings are processed and when results are published."""

    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    """`exactly_once` commits events, dead letters and offsets in one transaction; `at_least_once` uses no transactions."""
    commit_interval_ms: int = Field(100, ge=1, le=60_000, json_schema_extra=in_unit("ms"))
    """Longest time after which new offsets are committed."""
    output_interval_ms: int = Field(20, ge=0, le=60_000, json_schema_extra=in_unit("ms"))
    """Shortest time between two commits while events wait."""
    linger_ms: int = Field(5, ge=0, le=1_000, json_schema_extra=in_unit("ms"))
    """Time that a poll waits for more messages after the first."""
    poll_max_messages: int = Field(8_000, ge=1, le=1_000_000, json_schema_extra=in_unit("messages"))
    """Most messages that one poll consumes."""
    max_gap_ms: int = Field(1_200, ge=25, le=5_000, json_schema_extra=in_unit("ms"))
    """A longer pause between two readings of a device starts a new window; in a shorter one of over 250 ms a walk goes on. If accelerometer and gyroscope send apart, each pause of over 250 ms starts a new window."""
    max_lateness_s: float = Field(600.0, gt=0, json_schema_extra=in_unit("s"))
    """A reading that is further behind its device's last one means that the device's clock was set back; one that is less behind is late."""
    max_ahead_s: float = Field(60.0, gt=0, json_schema_extra=in_unit("s"))
    """A message with a reading that is further ahead of this machine's clock becomes a dead letter."""
    idle_timeout_s: float = Field(10.0, gt=0, json_schema_extra=in_unit("s"))
    """A device that sent nothing for this time starts a new window; set it above the interval of batch uploads."""
    sensor_wait_ms: int = Field(200, ge=0, le=60_000, json_schema_extra=in_unit("ms"))
    """If accelerometer and gyroscope send apart: how far the accelerometer may be ahead and still waits. Then the gyroscope counts as missing until it has caught up. Batches of up to 2 s need nothing more; for longer ones, add their length."""
    max_devices: int = Field(1_000_000, ge=1, json_schema_extra=in_unit("devices"))
    """Most devices with a window in one partition; messages of further devices become dead letters."""
    outbox_max_records: int = Field(100_000, ge=1, json_schema_extra=in_unit("records"))
    """Most records that wait to be published; with more, reading pauses."""
    outbox_max_bytes: int = Field(64 << 20, ge=1 << 20, json_schema_extra=in_unit("bytes"))
    """Most bytes of these records; with more, reading pauses."""
    device_ttl_s: float = Field(2_592_000.0, ge=60, json_schema_extra=in_unit("s"))
    """The step count of a device without a step for this time is deleted; it is written again after half of the time if the device still sends."""
    restore_timeout_s: float = Field(120.0, gt=0, json_schema_extra=in_unit("s"))
    """The process ends if reading committed offsets or step counts makes no progress for this time."""
    stuck_after_s: float = Field(60.0, ge=1, json_schema_extra=in_unit("s"))
    """A loop that doesn't turn for this time is stuck: the consumer is no longer live, and the log shows the stacks of all threads."""
    dead_letter_window: int = Field(
        10_000, ge=1, le=1_000_000, json_schema_extra=in_unit("messages")
    )
    """Number of a partition's last messages among which the share of dead letters is computed."""
    dead_letter_share: float = Field(0.5, gt=0, le=1)
    """Share of dead letters among these messages that is too large."""
    dead_letter_streak: int = Field(5_000, ge=1, json_schema_extra=in_unit("messages"))
    """Number of dead letters in a row that is too large."""
    on_dead_letter_limit: Literal["pause", "stop", "continue"] = "pause"
    """What happens at these limits: `pause` reads no more of that partition until `stepstream release-partition`, and the consumer is not ready; `stop` ends the process; `continue` only logs a warning."""
    accept: Annotated[tuple[AbnormalStart, ...], NoDecode] = ()
    """Abnormal starts to accept, several with commas: `lost-readings`, `missing-offset`, `recreated-topic`, `offset-beyond-end`, `rewound-offset`, `changed-partitions`."""
    shutdown_timeout_s: float = Field(20.0, gt=0, json_schema_extra=in_unit("s"))
    """Longest time for the last commit and for leaving the group when the process stops."""
    accel_unit: str | None = None
    """Former name of `input.accel_unit`."""
    gyro_unit: str | None = None
    """Former name of `input.gyro_unit`."""
    time_unit: str | None = None
    """Former name of `input.time_unit`."""

    @field_validator("accept", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)
