"""What metrics are; values are read when they are scraped, never in the loop."""

from __future__ import annotations

from stepstream.metrics.metric import Labelled, Labels, Metric
from stepstream.metrics.process import OF_SERVER

__all__ = ["OF_SERVER", "PROCESS_METRICS", "Labelled", "Labels", "Metric"]

PROCESS_METRICS = {
    "process_cpu_seconds_total": "CPU time, user and system.",
    "process_resident_memory_bytes": "Resident memory.",
    "process_virtual_memory_bytes": "Virtual memory.",
    "process_start_time_seconds": "When the process began, seconds since the epoch.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "Most file descriptors that may be open.",
    "python_info": "The interpreter.",
}
"""What prometheus-client reports for any process on Linux."""
