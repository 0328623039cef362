"""What messages are, and which settings read them; no Kafka client."""

from stepstream.inspection.advice import Advice, Inspector
from stepstream.inspection.decoding import decode_excerpt
from stepstream.inspection.excerpts import (
    MAX_FILE_BYTES,
    Excerpt,
    FoundMessage,
    read_file,
    read_whole_file,
)
from stepstream.inspection.report import describe
from stepstream.inspection.understanding import Understanding

__all__ = [
    "MAX_FILE_BYTES",
    "Advice",
    "Excerpt",
    "FoundMessage",
    "Inspector",
    "Understanding",
    "decode_excerpt",
    "describe",
    "read_file",
    "read_whole_file",
]
