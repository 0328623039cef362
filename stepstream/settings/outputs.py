"""What is published, and how it is written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stepstream.settings.groups import SettingsGroup, in_unit

__all__ = ["OutputSettings"]


class OutputSettings(SettingsGroup):
    """How steps, minutes, walks and counts are published."""

    format: Literal["json", "avro", "protobuf"] = "json"
    """How values are written. Avro and Protobuf need a registry, where their schemas are registered as `<topic>-value`."""
    cloudevents: bool = False
    """Whether records also have the attributes of a CloudEvent 1.0 as headers (binary mode): `ce_id`, `ce_source`, `ce_type`, `ce_time`, `ce_subject`."""
    record_time: Literal["publish", "event"] = "publish"
    """The time of a record: that of its publication, or the end of its step, minute or walk by the device's clock. With the latter, a topic's retention may delete a record as soon as it is written."""
    walk_gap_s: float = Field(10.0, gt=0, le=3_600, json_schema_extra=in_unit("s"))
    """A walk is over when this time has passed without a step."""
    grace_s: float = Field(30.0, ge=0, le=86_400, json_schema_extra=in_unit("s"))
    """Grace period: time after the end of a minute or walk for readings that come late, before its record is published. It is stream time: the latest record time of the partition."""
