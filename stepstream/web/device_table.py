"""A table of devices: the busiest, the quiet, the delayed, and those with wrong units."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.detection.windows import NO_PLACE
from stepstream.web.answers import answer, refuse
from stepstream.web.devices import ask
from stepstream.web.tables import MAX_ROWS, ORDERS, sort_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition

__all__ = ["DeviceTable"]

QUIET_S = 10.0
"""A device is quiet if nothing came of it for so long."""
DELAYED_S = 10.0
"""A device is delayed if its last reading was so old when its message came."""

VALID_S = 2.0
"""For so long, all who ask for all devices in an order get the same answer."""


class DeviceTable:
    """Finds the devices that a person should look at first, among any number.

    All are looked at in arrays, in one call of the loop; only those of the answer get a row.

    Parameters
    ----------
    consumer
        The consumer that has the devices.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._kept: dict[str, tuple[dict[str, Any], float]] = {}
        """The last answer in each order, about all devices."""

    async def show(self, request: Request) -> Response:
        """The first devices in an order, and how many there are of each kind."""
        order = request.query_params.get("order", "busiest")
        if order not in ORDERS:
            return refuse(400, "invalid-order", f"one of {', '.join(ORDERS)}")
        prefix = request.query_params.get("prefix", "").encode("utf-8", "replace")
        found, until_s = self._kept.get(order, (None, 0.0))
        if not prefix and found is not None and time.monotonic() < until_s:
            return answer(found)
        try:
            found = await ask(self._consumer, lambda: self._look(order, prefix))
        except (OverflowError, TimeoutError):
            detail = "the consumer's loop doesn't answer"
            return refuse(503, "unavailable", detail, {"retry-after": "1"})
        found |= {"quiet_s": QUIET_S, "delayed_s": DELAYED_S}
        if not prefix:
            self._kept[order] = found, time.monotonic() + VALID_S
        return answer(found)

    def _look(self, order: str, prefix: bytes) -> dict[str, Any]:
        """The answer; runs in the consumer's loop."""
        processor = self._consumer.processor
        found = [
            (partition, key, slot)
            for partition in self._consumer.assignment.owned
            for key, slot in list(partition.slots.items())
            if key.startswith(prefix)
        ]
        silent = [one for one in processor.devices.traffic.silent if one.key.startswith(prefix)]
        slots = np.fromiter((slot for _, _, slot in found), np.intp, len(found))
        now_us = time.time_ns() // 1000
        newest = processor.detector.newest(slots)
        quiet_s = np.maximum(0, now_us / 1e6 - newest.stream_ms / 1e3)
        taken_s = newest.place * (self._consumer.model.metadata.period_us / 1e6)
        delay_s = np.where(newest.place == NO_PLACE, 0.0, newest.stream_ms / 1e3 - taken_s)
        rates = processor.devices.traffic.rates(slots, now_us)
        doubts = processor.doubts.of_devices(processor.devices)
        doubtful = np.isin(slots, list(doubts))
        first = _first(order, quiet_s, delay_s, rates, doubtful)
        rows = [
            {
                **self._name(*found[row][:2]),
                "quiet_s": round(float(quiet_s[row]), 1),
                "delay_s": round(float(delay_s[row]), 3),
                "rate": round(float(rates[row]), 1),
                "doubt": doubts.get(found[row][2]),
            }
            for row in first.tolist()
        ]
        if order == "quiet":
            rows += [
                {
                    **self._name(one.partition, one.key),
                    "quiet_s": round(max(0.0, now_us / 1e6 - one.last_ms / 1e3), 1),
                    "delay_s": 0.0,
                    "rate": 0.0,
                    "doubt": None,
                }
                for one in silent[:MAX_ROWS]
            ]
        return {
            "devices": sort_rows(order, rows),
            "counts": {
                "all": len(found) + len(silent),
                "quiet": int(np.count_nonzero(quiet_s > QUIET_S)) + len(silent),
                "delayed": int(np.count_nonzero(delay_s > DELAYED_S)),
                "units": int(np.count_nonzero(doubtful)),
            },
        }

    @staticmethod
    def _name(partition: Partition, key: bytes) -> dict[str, Any]:
        device_id = key.decode("utf-8", "replace")
        entry = partition.ledger.get(device_id)
        return {
            "device_id": device_id,
            "topic": partition.topic,
            "partition": partition.number,
            "steps": 0 if entry is None else entry.step_count,
        }


def _first(
    order: str,
    quiet_s: NDArray[np.float64],
    delay_s: NDArray[np.float64],
    rates: NDArray[np.float64],
    doubtful: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Rows of the devices that may be in the answer."""
    if order == "units":
        return np.flatnonzero(doubtful)[:MAX_ROWS]
    by = {"busiest": rates, "quiet": quiet_s, "delayed": delay_s}[order]
    return np.argsort(-by, kind="stable")[:MAX_ROWS]
