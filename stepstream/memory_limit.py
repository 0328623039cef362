"""How much memory this container may use."""

from __future__ import annotations

from pathlib import Path

__all__ = ["memory_limit_bytes"]

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Files in which the kernel gives the memory limit of this container: cgroup 2 and 1."""
UNLIMITED_BYTES = 1 << 50


def memory_limit_bytes() -> float:
    """Memory that this container may use; NaN if nothing limits it."""
    for path in CGROUP_LIMITS:
        try:
            limit = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if limit < UNLIMITED_BYTES:
            return limit
    return float("nan")
