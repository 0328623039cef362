"""Memory of processes that run for long."""

from __future__ import annotations

import gc

__all__ = ["spare_the_garbage_collector"]

GC_THRESHOLD = 100_000
"""Objects that are made, and not yet freed, before the garbage collector looks at them."""


def spare_the_garbage_collector() -> None:
    """Look for reference cycles once in many polls; otherwise each poll sets it off several times.

    It finds none among messages, and to look is a third of what taking them costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
