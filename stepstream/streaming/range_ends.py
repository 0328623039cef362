"""Where ranges end: nothing behind the end is processed, and the end is committed."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from stepstream.streaming.partitions import PauseReason, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from stepstream.streaming.commits import Commits
    from stepstream.streaming.flow import FlowControl
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.processor import Processor
    from stepstream.streaming.system import System

__all__ = ["RangeEnds"]


class RangeEnds:
    """Ends partitions that have reached the end of their range; those of `run` never do.

    The last message before the end may be missing: deleted, or a transaction marker. So a
    partition has reached its end when a message behind it comes, or the client's event that
    nothing is left to read up to there::

        offset   97  98  99 | 100 101        | the end of the range, m transaction marker
        poll     a   b   m  | c   d          c is cut off; with it the end is reached
        poll     a   b   m  |                the event says that all below 100 is read

    Parameters
    ----------
    processor
        Gives what to commit at the end.
    flow
        Stops fetching.
    commits
        Commits the end.
    system
        The clock.
    """

    def __init__(
        self, processor: Processor, flow: FlowControl, commits: Commits, system: System
    ) -> None:
        self._processor = processor
        self._flow = flow
        self._commits = commits
        self._system = system

    @staticmethod
    def cut(
        polled: Mapping[Partition, Sequence[Message]],
    ) -> dict[Partition, Sequence[Message]]:
        """The messages of a poll that are in the ranges of their partitions.

        Parameters
        ----------
        polled
            The messages of each partition, in the order of their offsets.
        """
        within = {}
        for partition, messages in polled.items():
            end, last = partition.range.end, _offset(messages[-1])
            if last < end:
                within[partition] = messages
                continue
            partition.lag.reached_offset = last
            count = bisect_left(messages, end, key=_offset)
            if count:
                within[partition] = messages[:count]
        return within

    def turn(self, owned: Iterable[Partition]) -> None:
        """End partitions of which all messages in their range are processed."""
        ended = [p for p in owned if p.phase.is_consuming and p.has_reached_end]
        for partition in ended:
            partition.advance(partition.range.end)
            self._commits.add([self._processor.first_results(partition, self._system.now_us())])
            partition.enter(Phase.ENDED)
        self._flow.pause(ended, PauseReason.ENDED)


def _offset(message: Any) -> int:
    offset: int = message.offset()
    return offset
