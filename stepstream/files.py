"""Files that may be replaced while the process runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileWatch"]


class FileWatch:
    """Notices that files were replaced or written to.

    Parameters
    ----------
    paths
        The files; links are followed, so a mounted secret of Kubernetes counts as replaced.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._look()

    def has_changed(self) -> bool:
        """Whether a file is another than at the last call, or than at the start."""
        was, self._seen = self._seen, self._look()
        return self._seen != was

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_signature, self._paths))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
