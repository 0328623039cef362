"""Decodes the messages of requests that wait, together, a part of each in a turn."""

from __future__ import annotations

from collections import deque
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stepstream.inputs import (
    Decoded,
    InvalidMessage,
    Messages,
    decode_device_id,
    is_plain,
    make_format,
)
from stepstream.inputs.layout import Layout
from stepstream.web.bodies import TooLarge
from stepstream.web.jobs import UNNAMED, read_device_id, split_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.inputs import Schemas
    from stepstream.settings import InputSettings, RegistrySettings
    from stepstream.web.jobs import Job

    _Share: TypeAlias = tuple[Job, int, int]
    """A request, and the rows of its messages that are decoded in a turn."""

__all__ = ["Decoding"]

TURN_BYTES = 1 << 20
JOB_BYTES = 64 << 10
"""Of one request in a turn; a message is never divided."""


class Decoding:
    """Decodes what waits in turns, each of which has a bound.

    Parameters
    ----------
    given
        How the messages are written.
    registry
        The schema registry, for formats that need one.
    max_ahead_us
        How far ahead of the clock readings may be.

    Raises
    ------
    SettingsError
        A package that the format needs isn't installed.
    """

    def __init__(self, given: InputSettings, registry: RegistrySettings, max_ahead_us: int) -> None:
        # There are no keys here.
        written = given.with_changes({"key": "text"})
        self._format = make_format(written, registry)
        self._is_plain = is_plain(written)
        self._max_ahead_us = max_ahead_us
        self._waiting: deque[Job] = deque()
        self._begun: deque[Job] = deque()
        """Requests of which some messages are decoded."""
        self.device_id_header = Layout.of(written).device_id_header
        """The header that names the device, if one does."""

    def __len__(self) -> int:
        """How many requests wait or are begun."""
        return len(self._waiting) + len(self._begun)

    def add(self, job: Job) -> None:
        """Have a request wait to be decoded."""
        self._waiting.append(job)

    def clear(self) -> None:
        """Forget all requests."""
        self._begun.clear()
        self._waiting.clear()

    def turn(self, *, may_begin: bool) -> tuple[list[Job], list[tuple[Job, Schemas]]]:
        """Decode the next messages of each request. Those with an invalid message fail.

        Parameters
        ----------
        may_begin
            Whether requests may be begun, too. Otherwise only those are gone on with that are.

        Returns
        -------
        decoded, lacking
            Requests whose messages are all decoded, and those of which a schema has to be fetched
            before they are added again, with where from. Neither waits here any more.
        """
        shares, lacking = self._take(may_begin=may_begin)
        if not shares:
            return [], lacking
        rows = np.cumsum([0, *(end - begin for _, begin, end in shares)])
        decoded = self._decode(shares, np.diff(rows))
        failed: dict[int, tuple[int, InvalidMessage]] = {}
        # The first invalid message of each request counts.
        for row in sorted(decoded.invalid, reverse=True):
            failed[int(np.searchsorted(rows, row, "right")) - 1] = row, decoded.invalid[row]
        bounds = np.searchsorted(decoded.message, rows).tolist()
        over = []
        for place, (job, begin, end) in enumerate(shares):
            if place in failed:
                row, reason = failed[place]
                job.fail(_name_row(reason, job, begin + row - int(rows[place])))
                continue
            try:
                job.add(_part(decoded, slice(bounds[place], bounds[place + 1])), end)
            except TooLarge as error:
                job.fail(error)
                continue
            if job.is_decoded:
                over.append(job)
            else:
                self._begun.append(job)
        return over, lacking

    def _take(self, *, may_begin: bool) -> tuple[list[_Share], list[tuple[Job, Schemas]]]:
        """Messages of this turn, and requests of which a schema is lacking."""
        shares: list[_Share] = []
        lacking: list[tuple[Job, Schemas]] = []
        schemas, left = self._format.schemas, TURN_BYTES
        if schemas is not None:
            schemas.forget()
        while left > 0 and (self._begun or (may_begin and self._waiting)):
            job = (self._begun or self._waiting).popleft()
            if job.is_over:
                continue
            if schemas is not None and schemas.lacking([job.body]):
                lacking.append((job, schemas))
                continue
            try:
                self._look_into(job)
            except InvalidMessage as error:
                job.fail(error)
                continue
            begin = end = job.decoded
            size = 0
            while end < len(job.messages) and size < JOB_BYTES:
                size += len(job.messages[end])
                end += 1
            left -= size
            shares.append((job, begin, end))
        return shares, lacking

    def _look_into(self, job: Job) -> None:
        """Find the messages of a body, and in the plain form the device."""
        if job.messages:
            return
        if self._is_plain:
            messages = split_messages(job.body)
            job.device_id = read_device_id(messages[0])
            job.messages = messages
        else:
            job.messages = [job.body]

    def _decode(self, shares: list[_Share], counts: NDArray[np.intp]) -> Decoded:
        values: Sequence[Any] = list(
            chain.from_iterable(job.messages[begin:end] for job, begin, end in shares)
        )
        jobs = list(chain.from_iterable(map(repeat, (job for job, _, _ in shares), counts)))
        invalid: dict[int, InvalidMessage] = {}
        if not self._is_plain:
            values, invalid = self._open(jobs, values)
        now_us = np.repeat(np.array([job.now_us for job, _, _ in shares], np.int64), counts)
        decoded = self._format.decode(
            Messages(
                values,
                [job.device_id for job in jobs],
                now_us // 1000,
                now_us + self._max_ahead_us,
            )
        )
        # What wasn't opened can't be decoded either, and the first reason counts.
        decoded.invalid.update(invalid)
        return decoded

    def _open(
        self, jobs: list[Job], values: Sequence[bytes]
    ) -> tuple[Sequence[Any], dict[int, InvalidMessage]]:
        """What the format makes of the messages, and the devices that they are of."""

        def headers(row: int) -> list[tuple[str, bytes | None]]:
            name = jobs[row].name
            return [(self.device_id_header or "", name.encode())] if name else []

        keys, contents, invalid = self._format.open([UNNAMED.encode()] * len(jobs), values, headers)
        invalid = dict(invalid)
        for row, (job, key) in enumerate(zip(jobs, keys, strict=True)):
            if row not in invalid:
                try:
                    job.device_id = decode_device_id(key)
                except InvalidMessage as error:
                    invalid[row] = error
        return contents, invalid


def _name_row(error: InvalidMessage, job: Job, row: int) -> InvalidMessage:
    """The error with the place of its message among those of the request."""
    where = f"message {row}: " if len(job.messages) > 1 else ""
    return InvalidMessage(error.code, where + error.detail)


def _part(decoded: Decoded, rows: slice) -> Decoded:
    """Some of the readings."""
    sensors = None if decoded.sensors is None else decoded.sensors[rows]
    return Decoded(decoded.message[rows], decoded.time_us[rows], decoded.axes[rows], {}, sensors)
