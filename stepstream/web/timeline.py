"""What has happened: rebalances, holds, readiness, and what was logged as a warning or an error."""

from __future__ import annotations

import logging
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from stepstream.logs import is_routine, make_formatter
from stepstream.web.answers import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["MAX_ENTRIES", "Timeline", "newest"]

Kind: TypeAlias = Literal["rebalance", "hold", "state", "warning", "error"]
MAX_OF_KIND = 50
"""Entries of each kind, so that many of one kind don't replace those of others."""
MAX_CHARACTERS = 400
MAX_ENTRIES = 100
"""In an answer."""
REPEATED = 5
"""An entry that equals one of so many before it is counted there."""
MAX_NAMED = 8


class Timeline:
    """The last things that happened in this process, bounded in number and size.

    Parameters
    ----------
    hide
        Removes secrets from a line of the log.
    """

    def __init__(self, hide: Callable[[str], str]) -> None:
        self._entries: dict[str, deque[dict[str, Any]]] = {}
        self._numbers = count(1)
        self.last = 0
        """Number of the last change; another one means that there is something new."""
        self._handler = _Handler(self)
        self._handler.setFormatter(make_formatter(hide))
        self._owned: frozenset[str] = frozenset()
        self._held: frozenset[str] = frozenset()
        self._obstacles: Sequence[str] | None = None

    def __enter__(self) -> Self:
        logging.getLogger("stepstream").addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("stepstream").removeHandler(self._handler)

    def note(self, kind: Kind, text: str, time_s: float | None = None) -> None:
        """Add what has happened, now or at a time; any thread may call it."""
        time_s = time.time() if time_s is None else time_s
        line = text.split("\n", 1)[0]
        if len(line) > MAX_CHARACTERS:
            line = f"{line[: MAX_CHARACTERS - 1]}…"
        entries = self._entries.setdefault(kind, deque(maxlen=MAX_OF_KIND))
        for known in list(entries)[-REPEATED:]:
            if known["text"] == line:
                known["count"] += 1
                known["last"] = time_s
                break
        else:
            entries.append({"kind": kind, "text": line, "time": time_s, "last": time_s, "count": 1})
        self.last = next(self._numbers)

    def look(self, partitions: Iterable[Mapping[str, Any]], obstacles: Sequence[str]) -> None:
        """Note what has changed since the last look.

        Parameters
        ----------
        partitions
            Those that are owned, as the sampler describes them.
        obstacles
            Why the consumer is not ready.
        """
        states = {f"{p['topic']}-{p['partition']}": p["state"] for p in partitions}
        owned = frozenset(states)
        held = frozenset(name for name, state in states.items() if state == "held")
        if owned - self._owned:
            self.note("rebalance", f"got {_listed(owned - self._owned)}")
        if self._owned - owned:
            self.note("rebalance", f"gave up {_listed(self._owned - owned)}")
        if held - self._held:
            self.note("hold", f"{_listed(held - self._held)}: held")
        if self._held & owned - held:
            self.note("hold", f"{_listed(self._held & owned - held)}: no longer held")
        self._owned, self._held = owned, held
        # Most reasons have a figure, which is no news.
        reasons = [text.translate(_NO_DIGITS) for text in obstacles]
        if reasons != self._obstacles:
            self.note("state", f"not ready: {'; '.join(obstacles)}" if obstacles else "ready")
            self._obstacles = reasons

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The newest entries, the newest first."""
        return newest(entry for entries in list(self._entries.values()) for entry in list(entries))

    async def show(self, _request: Request) -> Response:
        """The newest entries, for the page."""
        return answer({"now": time.time(), "entries": self.entries})


class _Handler(logging.Handler):
    def __init__(self, timeline: Timeline) -> None:
        super().__init__(logging.WARNING)
        self._timeline = timeline
        self.addFilter(lambda record: not is_routine(record))

    def emit(self, record: logging.LogRecord) -> None:
        kind: Kind = "error" if record.levelno >= logging.ERROR else "warning"
        self._timeline.note(kind, self.format(record), record.created)


def newest(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many entries as an answer has, the newest first."""
    return sorted(entries, key=lambda entry: entry["last"], reverse=True)[:MAX_ENTRIES]


_NO_DIGITS = str.maketrans("", "", "0123456789")


def _listed(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = len(listed) - MAX_NAMED
    return ", ".join(listed[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
