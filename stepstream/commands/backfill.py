"""``stepstream backfill``."""

from __future__ import annotations

import logging
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from stepstream.commands import supervising
from stepstream.detection import default_model_path, read_metadata
from stepstream.errors import SettingsError, StreamError, TopicError
from stepstream.logs import configure_logging
from stepstream.settings import HttpSettings, ProcessingSettings, Settings, read_time
from stepstream.streaming.backfill import Backfill as Plan
from stepstream.streaming.backfill import Bounds, Done
from stepstream.streaming.backfill_progress import BackfillProgress
from stepstream.streaming.clients import check_connection, explain_kafka_errors
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.comparison import (
    Counts,
    compare,
    count_published,
    identify_events,
    ranges_read_by,
    read_ledgers,
)
from stepstream.streaming.topics import create_topics
from stepstream.web.server import listen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepstream.streaming.cluster import TopicIdentity
    from stepstream.streaming.ledger import Ledger
    from stepstream.streaming.ranges import Range

__all__ = ["Backfill"]

logger = logging.getLogger(__name__)


class Backfill(Settings):
    """Read a past range of the readings once more, into topics of its own, and end."""

    # An alias has the prefix, too: `FROM` means something else to many programs.
    model_config = SettingsConfigDict(env_prefix_target="all")
    reads_ranges: ClassVar[bool] = True

    begin: int | datetime | None = Field(None, alias="from")
    """Where to begin: a record time like 2030-01-31T12:00:00Z, or an offset for each partition; the oldest readings if not given."""
    end: int | datetime | None = Field(None, alias="to")
    """Where to end, before that time or offset; with the readings that are there now if not given."""
    compare: bool = False
    """Compare the steps of each device with those that were published live for the same readings."""

    @field_validator("begin", "end", mode="before")
    @classmethod
    def _read_bound(cls, value: object) -> object:
        if value is None or isinstance(value, int):
            return value
        text = str(value)
        is_offset = text.isascii() and text.isdigit()
        return int(text) if is_offset else read_time(value, "an offset")

    def execute(self) -> int:
        """Run workers until the whole range is done, and print what came of it."""
        configure_logging(self.logging, self.hide_secrets)
        bounds = Bounds(self.begin, self.end)
        bounds.check()
        if self.compare and self.into is None:
            raise SettingsError("--compare needs --into: only then it has events of its own")
        model = read_metadata(self.model.path or default_model_path()).label
        check_connection(self.kafka)
        with explain_kafka_errors("kafka settings"):
            cluster = Cluster(self.renamed())
        topics = self._find_topics()
        if self.compare:
            identify_events(cluster, self.topics.events)
        own = self._own(max(topic.partition_count for topic in topics.values()))
        # Before anything is created or planned.
        listener = listen(own.http)
        for name in create_topics(own.kafka, own.topics):
            logger.info("topic created", extra={"topic": name})
        plan = Plan(own, cluster, topics)
        done = plan.begin(bounds, model)
        # Not those that match a pattern and were created since.
        read = own.topics.model_copy(update={"readings": done.topics})
        own = own.model_copy(update={"topics": read})
        begin_s = time.monotonic()
        with BackfillProgress(plan, done) as progress:
            if not done.is_complete:
                supervising.run(own, lambda: progress.is_over, listener)
        if progress.error is not None:
            raise progress.error
        if not progress.done.is_complete:
            logger.warning("stopped before the end; the same command continues there")
            return 1
        seconds = time.monotonic() - begin_s
        with explain_kafka_errors(f"{own.topics.state} can't be read"):
            ledgers = read_ledgers(own, cluster, progress.done.ranges)
        _write_summary(progress.done, ledgers)
        _write_cut(ledgers.values())
        _write_rate(progress.done.readings - done.readings, seconds)
        if self.compare:
            self._compare(own, cluster, progress.done)
        return 0

    def _find_topics(self) -> dict[str, TopicIdentity]:
        """The topics of readings that exist now."""
        own = self.renamed()
        with explain_kafka_errors("topics can't be listed"):
            # Of the topics that are written, only its own are asked for: it needs no rights to
            # others. A client remembers that they aren't there yet, so it has one for this alone.
            found = Cluster(own).find_topics(own.topics)
        for name in self.topics.named:
            if name not in found:
                raise TopicError(f"there is no topic {name}; is topics.readings right?")
        if not found:
            raise TopicError(f"no topic matches {' or '.join(self.topics.patterns)}")
        return {name: topic.identity for name, topic in found.items()}

    def _own(self, partitions: int) -> Self:
        """The settings of the backfill's workers."""
        renamed = self.renamed()
        created = {"partitions": partitions} if self.into is not None else {}
        return renamed.model_copy(
            update={
                "topics": renamed.topics.model_copy(update=created),
                "processing": self._processing,
                "http": self._http,
                # One model judges all of the range.
                "model": self.model.model_copy(update={"watch": False}),
            }
        )

    @property
    def _processing(self) -> ProcessingSettings:
        # A partition that waits for an operator would never reach its end.
        is_paused = self.processing.on_dead_letter_limit == "pause"
        return self.processing.model_copy(
            update={"on_dead_letter_limit": "stop"} if is_paused else {}
        )

    @property
    def _http(self) -> HttpSettings:
        is_given = "port" in self.http.model_fields_set
        return self.http.model_copy(update={} if is_given else {"port": 0})

    def _compare(self, own: Settings, cluster: Cluster, done: Done) -> None:
        ranges = self._comparable(cluster, done.ranges)
        # Both by their events: a ledger has nothing of devices that were forgotten in the range.
        found, live = (
            _count(own, cluster, events, ranges)
            for events in (own.topics.events, self.topics.events)
        )
        sys.stdout.write(f"\n{compare(found, live).describe(self.topics.events)}")
        left = done.all_offsets - sum(range_.end - range_.begin for range_ in ranges.values())
        if left:
            sys.stdout.write(
                f"not compared: {left:,} messages that {self.kafka.group_id} hasn't read yet\n"
            )

    def _comparable(
        self, cluster: Cluster, ranges: Mapping[tuple[str, int], Range]
    ) -> Mapping[tuple[str, int], Range]:
        """What the live group has read of the ranges; all, with a warning, if that is not known."""
        try:
            return ranges_read_by(cluster, self.kafka.group_id, ranges)
        except StreamError as error:
            logger.warning("what the live group hasn't read is compared, too: %s", error)
            return ranges


def _count(
    own: Settings, cluster: Cluster, events: str, ranges: Mapping[tuple[str, int], Range]
) -> Counts:
    # Under the name of its own group: it has no rights to the other one.
    published = count_published(own, cluster, events, ranges)
    if published.may_lack:
        logger.warning(
            "the oldest events of %s may have been deleted: they would be missing below", events
        )
    return published.counts


def _write_cut(ledgers: Iterable[Ledger]) -> None:
    """Print how many minutes and walks are not published, because they may go on behind the end."""
    counts = [ledger.activities.count_open() for ledger in ledgers]
    minutes, walks = (sum(column) for column in zip(*counts, strict=True))
    if minutes or walks:
        sys.stdout.write(
            f"cut by the end of the range and not published: {minutes:,} minutes, {walks:,} walks\n"
        )


def _write_summary(done: Done, ledgers: Mapping[tuple[str, int], Ledger]) -> None:
    """Print what came of the range."""
    sys.stdout.write(
        f"{'partition':30} {'readings':>14} {'invalid':>9} {'devices':>9} {'steps':>11}\n"
    )
    rows: dict[str, Sequence[int]] = {}
    for (topic, number), range_ in sorted(done.ranges.items()):
        counts = ledgers[topic, number].step_counts()
        # A ledger lacks devices that were forgotten. Under at_least_once, a commit may lack steps
        # that are in the ledger.
        steps = max(range_.steps, sum(counts.values()))
        row = range_.readings, range_.dead_letters, len(counts), steps
        rows[f"{topic}-{number}"] = row
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    for name, (readings, invalid, devices, steps) in rows.items():
        sys.stdout.write(f"{name:30} {readings:14,} {invalid:9,} {devices:9,} {steps:11,}\n")


def _write_rate(readings: int, seconds: float) -> None:
    """Print at what rate the range was read by this command."""
    if readings:
        rate = readings / seconds
        sys.stdout.write(f"{readings:,} readings in {seconds:.1f} s: {rate:,.0f} a second\n")
