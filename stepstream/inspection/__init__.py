"""What messages are, and which settings read them; no Kafka client."""

from stepstream.inspection.advice import Advice, Inspector
from stepstream.inspection.excerpts import Excerpt, FoundMessage, read_file
from stepstream.inspection.report import describe
from stepstream.inspection.understanding import Understanding

__all__ = [
    "Advice",
    "Excerpt",
    "FoundMessage",
    "Inspector",
    "Understanding",
    "describe",
    "read_file",
]
