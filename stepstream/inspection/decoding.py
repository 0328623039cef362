"""Messages of a topic or file, decoded with some settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stepstream.inputs import (
    Decoded,
    InvalidMessage,
    Messages,
    decode_device_id,
    fetch_lacking,
    join_headers,
    make_format,
)
from stepstream.inputs.framing import FramedParser

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.inspection.excerpts import Excerpt
    from stepstream.settings import InputSettings, RegistrySettings

__all__ = ["DecodedExcerpt", "decode_excerpt"]


class DecodedExcerpt(NamedTuple):
    """What some messages are.

    Attributes
    ----------
    device_ids : (n,)
        The device of each message; empty text if it is invalid.
    record_ms : (n,) int64
        Times of their records, milliseconds since the epoch.
    decoded
        Readings of the valid messages.
    invalid
        Why messages would be dead letters, by row.
    """

    device_ids: list[str]
    record_ms: NDArray[np.int64]
    decoded: Decoded
    invalid: dict[int, InvalidMessage]


def decode_excerpt(
    settings: InputSettings,
    registry: RegistrySettings,
    excerpt: Excerpt,
    latest_us: int,
    unknown_ms: int,
) -> DecodedExcerpt:
    """Decode messages.

    Parameters
    ----------
    settings, registry
        How they are written.
    excerpt
        The messages.
    latest_us
        Readings later than this are refused, microseconds since the epoch.
    unknown_ms
        Time of records whose time isn't known.

    Raises
    ------
    SettingsError
        A package or a schema that the format needs isn't there.
    RegistryAwayError
        The schema registry can't be asked.
    """
    messages = excerpt.messages
    if not excerpt.has_keys and settings.device_id == "key":
        settings = settings.with_changes({"key": "text"})
    made = make_format(settings, registry)
    values = [message.value for message in messages]
    try:
        fetch_lacking(made.schemas, join_headers(values, lambda row: messages[row].headers))
    finally:
        if isinstance(made.schemas, FramedParser):
            made.schemas.close()
    opened = made.open(
        [message.key for message in messages], values, lambda row: messages[row].headers
    )
    invalid = dict(opened.invalid)
    ids = [""] * len(messages)
    for row, key in enumerate(opened.keys):
        if row not in invalid:
            try:
                ids[row] = decode_device_id(key)
            except InvalidMessage as error:
                invalid[row] = error
    times = [unknown_ms if one.record_ms is None else one.record_ms for one in messages]
    record_ms = np.array(times, np.int64)
    decoded = made.decode(Messages(opened.values, ids, record_ms, latest_us))
    decoded, invalid = decoded.without(invalid), decoded.invalid | invalid
    return DecodedExcerpt(ids, record_ms, decoded, dict(sorted(invalid.items())))
