"""Partitions that wait until the registry has given the schemas of their next messages."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stepstream.errors import StreamError
from stepstream.inputs import RegistryAwayError, join_headers
from stepstream.streaming.partitions import PauseReason, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka import Consumer, Message

    from stepstream.inputs import SchemaId, Schemas
    from stepstream.streaming.flow import FlowControl
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.processor import Processor
    from stepstream.streaming.system import System

__all__ = ["OUTCOMES", "SchemaWaits"]

logger = logging.getLogger(__name__)

OUTCOMES = ("found", "unknown", "failed")
"""Of a request for a schema."""
AT_ONCE = 20
"""Schemas that are fetched in one go."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
"""Between two attempts while the registry is away; each pause is twice the one before."""
WARN_S = 60.0
"""How often the log says that the registry is away."""


class _Wait(NamedTuple):
    """Schemas that the next messages of a partition need, in this order.

    The partition goes on with the first. If it waited for all, one that the registry doesn't know
    could be due again before the last has come.
    """

    schemas: Schemas
    ids: tuple[SchemaId, ...]


class _Fetched(NamedTuple):
    """What the registry has given, and why it gave no more."""

    found: list[tuple[Schemas, SchemaId, object]]
    reason: str


class SchemaWaits:
    """Pauses partitions whose next messages can't be parsed yet, and fetches what they need.

    ::

        messages     101 102 103 104 105       103 is the first with a schema that isn't known
        processed    101 102
        dropped              103 104 105       the partition pauses; a thread asks the registry
        then         seek to 103, resume       an outage of the registry only makes this late

    Other partitions go on. A message becomes a dead letter only if the registry answers that it
    doesn't know the schema, never because the registry is away.

    Parameters
    ----------
    kafka
        The consumer of readings.
    processor
        Has the formats of the topics.
    flow
        Pauses partitions.
    system
        Clock and threads.
    """

    def __init__(
        self, kafka: Consumer, processor: Processor, flow: FlowControl, system: System
    ) -> None:
        self._kafka = kafka
        self._processor = processor
        self._flow = flow
        self._system = system
        self._thread = system.executor("schemas")
        self._waits: dict[Partition, _Wait] = {}
        self._running: Future[_Fetched] | None = None
        self._failures = 0
        self._next_attempt_s = 0.0
        self._next_warning_s = 0.0
        self.requests: Counter[str] = Counter()
        """Requests for schemas by their outcome, see `OUTCOMES`."""

    def split(
        self, polled: Mapping[Partition, Sequence[Message]]
    ) -> dict[Partition, Sequence[Message]]:
        """The messages that can be parsed now; partitions that have others are paused.

        Parameters
        ----------
        polled
            The messages of each partition, in the order of their offsets.
        """
        ready: dict[Partition, Sequence[Message]] = {}
        for partition, messages in polled.items():
            schemas = self._processor.schemas(partition.topic)
            lacking = schemas.lacking(_with_schemas(messages)) if schemas else {}
            if schemas is None or not lacking:
                ready[partition] = messages
                continue
            self._waits[partition] = _Wait(schemas, tuple(lacking)[:AT_ONCE])
            self._flow.pause([partition], PauseReason.SCHEMA)
            partition.put_back()
            first = min(lacking.values())
            if first:
                ready[partition] = messages[:first]
        return ready

    def turn(self) -> None:
        """Fetch schemas, and let partitions go on that have theirs; without waiting for anything.

        Raises
        ------
        StreamError
            The client can't seek.
        """
        if not self._waits and self._running is None:
            return
        for partition in [p for p in self._waits if p.phase is Phase.RELEASED]:
            del self._waits[partition]
        if self._running is not None and self._running.done():
            done, self._running = self._running, None
            self._note(done.result())
        wanted: dict[tuple[Schemas, SchemaId], None] = {}
        for partition, wait in list(self._waits.items()):
            pending = wait.schemas.pending(wait.ids)
            wanted |= dict.fromkeys((wait.schemas, schema_id) for schema_id in pending)
            if wait.ids[0] not in pending and self._seek(partition):
                del self._waits[partition]
                self._flow.resume([partition], PauseReason.SCHEMA)
        is_time = self._system.monotonic() >= self._next_attempt_s
        if wanted and is_time and self._running is None:
            self._running = self._thread.submit(_fetch, list(wanted)[:AT_ONCE])

    def _note(self, fetched: _Fetched) -> None:
        """Use what was fetched, and decide when to ask for the rest."""
        for schemas, schema_id, found in fetched.found:
            outcome = "found" if schemas.admit(schema_id, found) else "unknown"
            self.requests[outcome] += 1
            schemas.forget()
        now_s = self._system.monotonic()
        if not fetched.reason:
            if self._failures:
                logger.info("the schema registry answers again")
            self._failures, self._next_attempt_s, self._next_warning_s = 0, now_s, now_s
            return
        self.requests["failed"] += 1
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._failures, 30), LONGEST_PAUSE_S)
        self._failures += 1
        self._next_attempt_s = now_s + pause_s
        if now_s >= self._next_warning_s:
            self._next_warning_s = now_s + WARN_S
            logger.warning(
                "partitions wait for the schema registry",
                extra={"waiting": len(self._waits), "reason": fetched.reason},
            )

    def _seek(self, partition: Partition) -> bool:
        """Go back to the first message that was not processed; False to try again later."""
        try:
            self._kafka.seek(
                TopicPartition(partition.topic, partition.number, partition.next_offset)
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError._STATE:  # noqa: SLF001 - its public name
                return False
            raise StreamError(f"{partition!r}: {error.args[0].str()}") from None
        return True

    def close(self) -> None:
        """Fetch nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _with_schemas(messages: Sequence[Message]) -> list[bytes | None]:
    def headers(row: int) -> Any:
        return messages[row].headers() or ()

    return join_headers([message.value() for message in messages], headers)


def _fetch(wanted: Sequence[tuple[Schemas, SchemaId]]) -> _Fetched:
    """Ask the registry for schemas, one after the other, until it fails."""
    found: list[tuple[Schemas, SchemaId, Any]] = []
    for schemas, schema_id in wanted:
        try:
            found.append((schemas, schema_id, schemas.fetch(schema_id)))
        except RegistryAwayError as error:
            return _Fetched(found, str(error))
    return _Fetched(found, "")
