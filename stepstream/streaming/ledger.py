"""The ledger: how many steps each device has made, and which steps are counted already."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import msgspec

from stepstream.errors import StreamError
from stepstream.outputs import Activities, ActivityRules, DeviceActivity, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepstream.detection import ModelMetadata
    from stepstream.settings import ProcessingSettings

__all__ = ["Entry", "Ledger", "LedgerRecord"]

VERSION = 1
NO_ACTIVITY = ActivityRules()
FORGET_INTERVAL_MS = 1_000
FORGET_AT_ONCE = 10_000
"""Entries whose age is checked in one interval."""


class LedgerRecord(msgspec.Struct, gc=False, omit_defaults=True):
    """An entry in the state topic: JSON; unknown fields are ignored.

    Attributes
    ----------
    version
        Version of this format; a release refuses versions above its own.
    step_count, ended_us, offset
        See `Entry`.
    topic_id
        Identity of the input topic that ``offset`` belongs to; empty where the broker gives none.
    model
        Name and version of the model that found the last step.
    seen_ms, last_minute, last_walk
        See `DeviceActivity`; left out where neither minutes nor walks are asked for.
    """

    version: int
    step_count: int
    ended_us: int
    offset: int
    topic_id: str
    model: str = ""
    seen_ms: int = 0
    last_minute: Group | None = None
    last_walk: Group | None = None


class _Version(msgspec.Struct):
    version: int = 0


class Entry(msgspec.Struct, gc=False):
    """What is known of a device's counted steps; another one with each step.

    Attributes
    ----------
    step_count
        Steps counted.
    ended_us
        End of the last of them, microseconds since the epoch.
    offset
        Input offset of the message that completed it; -1 if that was in another topic.
    written_ms
        When this was written to the state topic, milliseconds since the epoch.
    """

    step_count: int
    ended_us: int
    offset: int
    written_ms: int = 0


_decode_record = msgspec.json.Decoder(LedgerRecord).decode
_decode_version = msgspec.json.Decoder(_Version).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Upkeep(NamedTuple):
    """Devices whose entries are to be written again, and devices whose entries are deleted."""

    kept: list[str]
    deleted: list[str]


class Ledger:
    """Counts the steps of the devices of one input partition, each once.

    Parameters
    ----------
    group, topic
        Consumer group and input topic: with the device, the key of a record in the state topic.
    model
        Name and version of the model.
    refractory_us
        Shortest time between the ends of two steps of a device.
    max_lateness_us
        A step that ends further before the last one was made after the device's clock was set
        back.
    activity
        How steps are grouped to minutes and walks.
    """

    def __init__(
        self,
        group: str,
        topic: str,
        model: str,
        refractory_us: int,
        max_lateness_us: int,
        activity: ActivityRules = NO_ACTIVITY,
    ) -> None:
        self.topic_id = ""
        """Identity of the input topic."""
        self.end_offset: int | None = None
        """End of the input partition at the start; an entry's offset must be below it."""
        self.activities = Activities(activity)
        """Minutes and walks of the devices."""
        self.is_of_this_topic = False
        """Whether a restored entry belongs to this topic, and not to one that had its name."""
        self._group = group
        self._topic = topic
        self.model = model
        self._refractory_us = refractory_us
        self._max_lateness_us = max_lateness_us
        self._entries: dict[str, Entry] = {}
        self._key_prefix = _encode([group, topic])[:-1] + b","
        self._next_look_ms = 0
        self._look: Iterator[str] = iter(())

    @classmethod
    def of(
        cls,
        metadata: ModelMetadata,
        settings: ProcessingSettings,
        group: str = "",
        topic: str = "",
        activity: ActivityRules = NO_ACTIVITY,
    ) -> Ledger:
        """An empty ledger for the steps that a model finds."""
        return cls(
            group,
            topic,
            metadata.label,
            refractory_us=metadata.refractory * metadata.period_us,
            max_lateness_us=round(settings.max_lateness_s * 1e6),
            activity=activity,
        )

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def counted_to(self) -> int:
        """The highest input offset of a counted step; -1 if there is none in this topic."""
        return max((entry.offset for entry in self._entries.values()), default=-1)

    def get(self, device_id: str) -> Entry | None:
        """The device's entry, if any step of it was counted."""
        return self._entries.get(device_id)

    def step_counts(self) -> dict[str, int]:
        """Steps of each device."""
        return {device_id: entry.step_count for device_id, entry in self._entries.items()}

    def count(self, device_id: str, offset: int, ends_us: Sequence[int]) -> list[int | None]:
        """Count the steps that one message completed.

        Parameters
        ----------
        device_id
            The device.
        offset
            The message's offset; nothing is counted at or below that of the last counted step.
        ends_us
            Ends of the steps, in the order in which they were found.

        Returns
        -------
        list of int or None
            For each step, the device's step count with it, or None if it isn't counted.
        """
        entry = self._entries.get(device_id)
        if entry is not None and offset <= entry.offset:
            return [None] * len(ends_us)
        counts: list[int | None] = []
        for end_us in ends_us:
            if entry is None:
                entry = Entry(1, end_us, offset)
            elif self._is_new(end_us - entry.ended_us):
                entry = Entry(entry.step_count + 1, end_us, offset)
            else:
                counts.append(None)
                continue
            counts.append(entry.step_count)
        if entry is not None:
            self._entries[device_id] = entry
        return counts

    def _is_new(self, later_us: int) -> bool:
        return later_us >= self._refractory_us or later_us < -self._max_lateness_us

    def record(self, device_id: str, now_ms: int) -> tuple[bytes, bytes]:
        """Key and value of the state record of a device's entry, written at ``now_ms``."""
        entry = self._entries[device_id]
        entry.written_ms = now_ms
        record = LedgerRecord(
            VERSION, entry.step_count, entry.ended_us, entry.offset, self.topic_id, self.model
        )
        activity = self.activities.get(device_id)
        if activity is not None:
            record.seen_ms = activity.seen_ms
            record.last_minute, record.last_walk = activity.minute, activity.walk
        return self.key(device_id), _encode(record)

    def forget(self, device_id: str, stream_ms: int) -> bool:
        """Drop a device's entry at a stream time; whether it had one."""
        self.activities.end(device_id, stream_ms)
        return self._entries.pop(device_id, None) is not None

    def restore(self, key: bytes | None, value: bytes | None, written_ms: int) -> None:
        """Read a record of the state topic; records of other groups and topics are ignored.

        If there are two records of a device, the one with the higher input offset is used: under
        at-least-once, a consumer that had lost its partition may have written last.

        Raises
        ------
        StreamError
            A newer release has written the record, in a form that this one can't read.
        """
        if key is None or not key.startswith(self._key_prefix):
            return
        device_id = _decode_text(key[len(self._key_prefix) : -1])
        if value is None:
            self._forget(device_id)
            return
        record = self.read(device_id, value)
        self.is_of_this_topic |= record.topic_id == self.topic_id
        known = record.topic_id == self.topic_id and (
            self.end_offset is None or record.offset < self.end_offset
        )
        offset = record.offset if known else -1
        entry = self._entries.get(device_id)
        if entry is None or offset >= entry.offset:
            self._entries[device_id] = Entry(record.step_count, record.ended_us, offset, written_ms)
            self.activities.restore(
                device_id,
                DeviceActivity(
                    record.ended_us, record.seen_ms, record.last_minute, record.last_walk
                )
                if record.last_minute or record.last_walk
                else None,
            )

    @classmethod
    def read(cls, device_id: str, value: bytes) -> LedgerRecord:
        """What a device's record says.

        Raises
        ------
        StreamError
            A newer release has written it, in a form that this one can't read.
        """
        try:
            record = _decode_record(value)
        except msgspec.MsgspecError as error:
            cls._refuse(device_id, value, str(error))
        if record.version > VERSION:
            cls._refuse(device_id, value, "")
        return record

    @staticmethod
    def _refuse(device_id: str, value: bytes, reason: str) -> NoReturn:
        """Say why a record can't be read: a newer release may write any format."""
        try:
            version = _decode_version(value).version
        except msgspec.MsgspecError:
            version = 0
        if version > VERSION:
            raise StreamError(
                f"the step count of {device_id!r} has version {version}, this release reads up to "
                f"{VERSION}: run the release that wrote it, or a newer one"
            )
        raise StreamError(f"the step count of {device_id!r} can't be read: {reason}") from None

    def maintain(self, now_ms: int, ttl_ms: int, is_live: Callable[[str], bool]) -> Upkeep:
        """Delete entries of devices that made no step for long; keep those of devices that send.

        Each call checks a part of the entries, at most once a second.

        Parameters
        ----------
        now_ms
            The clock, milliseconds since the epoch.
        ttl_ms
            An entry that was written longer ago, and whose device has no window, is deleted.
        is_live
            Whether a device has a window; its entry is written again at half that age.

        Returns
        -------
        Upkeep
            Devices whose entries are to be written again, and those whose entries are deleted.
        """
        upkeep = Upkeep([], [])
        if now_ms < self._next_look_ms or not self._entries:
            return upkeep
        self._next_look_ms = now_ms + FORGET_INTERVAL_MS
        looked_at = list(itertools.islice(self._look, FORGET_AT_ONCE))
        if not looked_at:
            self._look = iter(list(self._entries))
            looked_at = list(itertools.islice(self._look, FORGET_AT_ONCE))
        for device_id in looked_at:
            entry = self._entries.get(device_id)
            age_ms = 0 if entry is None else now_ms - entry.written_ms
            if age_ms > ttl_ms // 2:
                if is_live(device_id):
                    upkeep.kept.append(device_id)
                elif age_ms > ttl_ms:
                    self._forget(device_id)
                    upkeep.deleted.append(device_id)
        return upkeep

    def _forget(self, device_id: str) -> None:
        self._entries.pop(device_id, None)
        self.activities.forget(device_id)

    def key(self, device_id: str) -> bytes:
        """Key of the state record of a device's entry."""
        return self._key_prefix + _encode(device_id) + b"]"
