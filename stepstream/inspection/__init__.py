"""What messages are, and which settings read them; no Kafka client."""

from stepstream.inspection.advice import Advice, Inspector
from stepstream.inspection.report import describe
from stepstream.inspection.samples import Sample, SampledMessage, read_file
from stepstream.inspection.understanding import Understanding

__all__ = [
    "Advice",
    "Inspector",
    "Sample",
    "SampledMessage",
    "Understanding",
    "describe",
    "read_file",
]
