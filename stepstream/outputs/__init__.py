"""Records out: events, minutes, walks and counts, made of counted steps; and dead letters."""

from stepstream.outputs.activity import Activities
from stepstream.outputs.dead_letters import Reason, make_dead_letter, read_reason
from stepstream.outputs.encoding import Encoding, encode_value, make_encodings
from stepstream.outputs.groups import ActivityRules, DeviceActivity, Group, Minute, Walk
from stepstream.outputs.outputs import Outputs
from stepstream.outputs.reading import (
    DEAD_LETTER,
    PublishedRecord,
    UnreadableValueError,
    read_value,
)
from stepstream.outputs.records import OutputRecord
from stepstream.outputs.steps import CountedStep
from stepstream.outputs.values import CountValue, Event, MinuteValue, WalkValue, event_id

__all__ = [
    "DEAD_LETTER",
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
    "PublishedRecord",
    "Reason",
    "UnreadableValueError",
    "Walk",
    "WalkValue",
    "encode_value",
    "event_id",
    "make_dead_letter",
    "make_encodings",
    "read_reason",
    "read_value",
]
