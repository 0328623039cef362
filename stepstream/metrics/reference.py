"""The reference of all metrics: ``python -m stepstream.metrics.reference > docs/metrics.md``."""

from __future__ import annotations

import sys
from typing import Any

from stepstream.metrics import PROCESS_METRICS, Metric
from stepstream.metrics.consumer import METRICS
from stepstream.otlp.failures import PushFailures
from stepstream.web.traffic import HTTP_METRICS, HttpMetric
from stepstream.web.workers.metrics import WORKER_METRICS, WorkerMetric

__all__ = ["render_reference"]

INTRODUCTION = """\
# Metrics

A consumer serves these on `/metrics`, in the text format of Prometheus. Values are read when they
are scraped. No metric has a label for devices. A label for partitions has only the partitions that
the consumer owns.

For example, steps a second of all consumers, the share of readings that were late, and the
messages that wait:

    sum(rate(stepstream_events_total[5m]))
    sum(rate(stepstream_late_readings_total[5m])) / sum(rate(stepstream_readings_total[5m]))
    sum(stepstream_lag_messages)

This page is generated: `python -m stepstream.metrics.reference > docs/metrics.md`.

| metric | type | meaning |
| --- | --- | --- |
"""
WORKERS = """
With `--workers`, the parent serves all these for each worker, with a label `worker`: its number, or
`parent` for the parent's own process. Those of the HTTP server are the parent's only. It adds:

| metric | type | meaning |
| --- | --- | --- |
"""
PROCESS = """
Metrics of the process, from prometheus-client:

| metric | meaning |
| --- | --- |
"""


def render_reference() -> str:
    """All metrics as Markdown."""
    rows = "".join(map(_row, METRICS)) + "".join(map(_row, HTTP_METRICS)) + _row(PushFailures)
    process = "".join(f"| `{name}` | {text} |\n" for name, text in PROCESS_METRICS.items())
    workers = "".join(map(_row, WORKER_METRICS))
    return f"{INTRODUCTION}{rows}{PROCESS}{process}{WORKERS}{workers}"


def _row(metric: Metric[Any] | HttpMetric | WorkerMetric | type[PushFailures]) -> str:
    described = [
        f"`{name}`: {text}" if text else f"`{name}`" for name, text in (metric.labels or {}).items()
    ]
    labels = f" Labels: {'; '.join(described)}." if described else ""
    return f"| `{metric.name}` | {metric.kind} | {metric.text}{labels} |\n"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
