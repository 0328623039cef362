"""Records out: what is made of counted steps, a module for each kind, and dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.outputs.dead_letters import make_dead_letter
from stepstream.outputs.events import Event, StepEvents, encode_event, event_id
from stepstream.outputs.records import OutputRecord
from stepstream.outputs.steps import CountedStep, Output

if TYPE_CHECKING:
    from stepstream.settings import TopicSettings

__all__ = [
    "CountedStep",
    "Event",
    "Output",
    "OutputRecord",
    "StepEvents",
    "encode_event",
    "event_id",
    "make_dead_letter",
    "make_outputs",
]


def make_outputs(topics: TopicSettings, model_label: str) -> list[Output]:
    """All kinds of output that the settings ask for.

    Parameters
    ----------
    topics
        Where each kind is published.
    model_label
        Name and version of the model that finds the steps.
    """
    return [StepEvents(topics.events, model_label)]
