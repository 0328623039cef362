"""Records out: events, minutes, walks and counts, made of counted steps; and dead letters."""

from stepstream.outputs.activity import (
    Activities,
    ActivityRules,
    DeviceActivity,
    Group,
    Minute,
    Walk,
)
from stepstream.outputs.dead_letters import make_dead_letter
from stepstream.outputs.encoding import Encoding, encode_value, make_encodings
from stepstream.outputs.outputs import Outputs
from stepstream.outputs.records import OutputRecord
from stepstream.outputs.steps import CountedStep
from stepstream.outputs.values import CountValue, Event, MinuteValue, WalkValue, event_id

__all__ = [
    "Activities",
    "ActivityRules",
    "CountValue",
    "CountedStep",
    "DeviceActivity",
    "Encoding",
    "Event",
    "Group",
    "Minute",
    "MinuteValue",
    "OutputRecord",
    "Outputs",
    "Walk",
    "WalkValue",
    "encode_value",
    "event_id",
    "make_dead_letter",
    "make_encodings",
]
