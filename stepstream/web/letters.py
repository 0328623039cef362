"""Samples of dead letters: the last ones of each reason."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from stepstream.outputs import read_reason
from stepstream.web.answers import answer
from stepstream.web.tables import LETTERS_OF_CODE, newest_letters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.outputs import OutputRecord
    from stepstream.streaming.outbox import Results

__all__ = ["LetterSamples"]

LOOKED_AT = 20
"""Dead letters of a poll and a partition, the last ones."""
MAX_KEY_BYTES = 256
MAX_DETAIL = 300
MAX_VALUE_BYTES = 200


class LetterSamples:
    """Keeps the last dead letters of each reason, cut to what a page shows.

    Reasons are a closed list, so this needs 100 KiB at most.

    Parameters
    ----------
    topic
        Where dead letters are published.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._samples: dict[str, deque[dict[str, Any]]] = {}

    def observe(self, results: Iterable[Results]) -> None:
        """Look at the records of a poll; it runs in the consumer's loop."""
        for one in results:
            if one.dead_letters:
                letters = [record for record in one.records if record.topic == self._topic]
                for letter in letters[-LOOKED_AT:]:
                    self._keep(letter)

    def _keep(self, letter: OutputRecord) -> None:
        reason = read_reason(letter.headers)
        if reason is None:
            return
        value = letter.value
        self._samples.setdefault(reason.code, deque(maxlen=LETTERS_OF_CODE)).append(
            {
                "code": reason.code,
                "detail": reason.detail[:MAX_DETAIL],
                "topic": reason.topic,
                "partition": reason.partition,
                "offset": reason.offset,
                "time": reason.timestamp_ms / 1000,
                "seen": time.time(),
                "key": None if letter.key is None else _text(letter.key[:MAX_KEY_BYTES]),
                "value": None if value is None else _text(value[:MAX_VALUE_BYTES]),
                "bytes": 0 if value is None else len(value),
            }
        )

    async def show(self, _request: Request) -> Response:
        """The samples, the newest of each reason first."""
        kept = [letter for samples in list(self._samples.values()) for letter in list(samples)]
        return answer({"letters": newest_letters(kept), "topic": self._topic})


def _text(content: bytes) -> str:
    """Bytes as text that can be shown: what is none is escaped."""
    text = content.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
