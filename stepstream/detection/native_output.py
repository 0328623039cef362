"""What LiteRT's native code writes to standard error by itself."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["first_output_as_warnings"]

STDERR = 2
MAX_BYTES = 1 << 16
"""What a pipe holds; the rest is lost, nothing waits."""
_is_first = iter([True])


@contextmanager
def first_output_as_warnings() -> Iterator[None]:
    """Make a warning of each line that native code writes meanwhile, and drop its ``INFO:``.

    LiteRT tells of its delegate when a process loads its first network, and has no switch for it.
    So only the first use holds standard error back. Lines that other threads log meanwhile wait for
    its end, and are no warnings.
    """
    if not next(_is_first, False):
        yield
        return
    with _logs_waiting():
        before = os.dup(STDERR)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        os.dup2(writing, STDERR)
        os.close(writing)
        try:
            yield
        finally:
            os.dup2(before, STDERR)
            os.close(before)
            written = _read(reading)
    for line in written.decode(errors="replace").splitlines():
        if line and not line.startswith("INFO:"):
            warnings.warn(line, RuntimeWarning, stacklevel=4)


@contextmanager
def _logs_waiting() -> Iterator[None]:
    with ExitStack() as held:
        for handler in logging.getLogger().handlers:
            handler.acquire()
            held.callback(handler.release)
        yield


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, MAX_BYTES)
    except BlockingIOError:
        # Nothing is in it, and a process that was started meanwhile has its other end.
        return b""
    finally:
        os.close(pipe)
