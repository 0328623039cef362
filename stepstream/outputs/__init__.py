"""Records out: events and dead letters."""

from stepstream.outputs.dead_letters import make_dead_letter
from stepstream.outputs.events import Event, encode_event, event_id
from stepstream.outputs.records import OutputRecord

__all__ = ["Event", "OutputRecord", "encode_event", "event_id", "make_dead_letter"]
