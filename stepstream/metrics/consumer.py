"""Every metric of a consumer, in one closed list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.metrics.partitions import PARTITIONS
from stepstream.metrics.process import PROCESS
from stepstream.metrics.processing import PROCESSING

if TYPE_CHECKING:
    from stepstream.metrics.metric import Metric
    from stepstream.streaming.consumer import Consumer

__all__ = ["METRICS"]

METRICS: tuple[Metric[Consumer], ...] = (*PROCESSING, *PARTITIONS, *PROCESS)
