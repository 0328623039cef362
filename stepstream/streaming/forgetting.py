"""Commands among the readings to forget devices: how they are written, found and sent.

A command is a message of the readings topic, so it has an offset: it is carried out after all
messages before it and before all that follow, once, and again in a replay::

    offset     1   2   3   4   5   6   7       r: a reading of the device, s: it completes a step
    message    r   s   r   F   r   r   s       F: the command
    published      1                   1       the device's step count
    replay             from 5 on, or from earlier: then F drops the window again

Every partition gets it, and where the device is unknown nothing happens. So it doesn't matter how
producers choose the partition of a device.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from confluent_kafka import Producer

from stepstream.errors import StreamError, TopicError
from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.streaming.clients import (
    CONSUMER_ONLY,
    check_connection,
    client_properties,
    explain_kafka_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import KafkaError

    from stepstream.settings import Settings
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.processor import Message

__all__ = [
    "COMMAND_HEADER",
    "COMMAND_KEY",
    "Part",
    "decode_command",
    "encode_command",
    "send_commands",
    "split_messages",
    "wait_carried_out",
]

logger = logging.getLogger(__name__)

COMMAND_KEY = b"stepstream-forget"
"""Key of a command; the header makes sure that it is no device of this name."""
COMMAND_HEADER = "stepstream-forget"
AT_ONCE = 500
"""Devices in one command: at most 128 kB of ids, or six times as much in JSON's escapes."""
TIMEOUT_S = 30.0
ASK_AGAIN_S = 0.2

_decode_ids = msgspec.json.Decoder(list[str]).decode
_encode_ids = msgspec.json.Encoder().encode


class Part(NamedTuple):
    """Messages that are processed together, and the command that follows them, if one does."""

    messages: Sequence[Message]
    keys: Sequence[bytes | None]
    """Their keys."""
    command: Message | None = None

    @property
    def first_offset(self) -> int:
        """The offset that it begins with."""
        first = self.messages[0] if self.messages else self.command
        return -1 if first is None else first.offset()


def split_messages(messages: Sequence[Message], first_offset: int, publish_from: int) -> list[Part]:
    """Messages of a partition in parts: all of a part are replayed, or all are new.

    A command ends its part.

    Parameters
    ----------
    messages
        In the order of their offsets.
    first_offset
        Messages below it are left out.
    publish_from
        Messages below it are replayed.
    """
    first = bisect_left(messages, first_offset, key=_offset)
    first_new = bisect_left(messages, publish_from, first, key=_offset)
    return [*_split(messages[first:first_new]), *_split(messages[first_new:])]


def _split(messages: Sequence[Message]) -> list[Part]:
    if not messages:
        return []
    # The client's own method as a function, called from C: a third of what calls in Python cost.
    keys = list(map(type(messages[0]).key, messages))
    if COMMAND_KEY not in keys:
        return [Part(messages, keys)]
    parts = []
    begin = 0
    for row, message in enumerate(messages):
        if keys[row] == COMMAND_KEY and _has_header(message):
            parts.append(Part(messages[begin:row], keys[begin:row], message))
            begin = row + 1
    if begin < len(messages):
        parts.append(Part(messages[begin:], keys[begin:]))
    return parts


def _offset(message: Message) -> int:
    return message.offset()


def _has_header(message: Message) -> bool:
    return any(name == COMMAND_HEADER for name, *_ in message.headers() or ())


def encode_command(device_ids: Iterable[str]) -> bytes:
    """Value of a command: a JSON list of device ids."""
    return _encode_ids(list(device_ids))


def decode_command(message: Message) -> list[str]:
    """The devices that a command names.

    Raises
    ------
    InvalidMessage
        Its value is no list of device ids.
    """
    value = message.value()
    if value is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "the command has no value")
    try:
        return _decode_ids(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidMessage(ErrorCode.WRONG_TYPE, "expected a JSON list of device ids") from None


def send_commands(
    settings: Settings, cluster: Cluster, device_ids: Sequence[str]
) -> dict[tuple[str, int], int]:
    """Write the commands to every partition of the readings topics.

    Parameters
    ----------
    settings
        Which topics; also those that match its patterns.
    cluster
        Says how many partitions they have.
    device_ids
        The devices.

    Returns
    -------
    dict
        Offset of the last command in each partition.

    Raises
    ------
    TopicError
        There is no such topic.
    StreamError
        Not all commands were delivered; sending them again does no harm.
    """
    check_connection(settings.kafka)
    with explain_kafka_errors("can't send"):
        found = cluster.find_topics(settings.topics)
        missing = [name for name in settings.topics.named if name not in found]
        if missing or not found:
            raise TopicError(f"there is no topic {', '.join(missing or settings.topics.readings)}")
        places = [
            place
            for name, topic in found.items()
            for place in product([name], range(topic.identity.partition_count))
        ]
        producer = Producer(
            {
                **client_properties(settings.kafka, CONSUMER_ONLY),
                "enable.idempotence": True,
                "delivery.timeout.ms": round(TIMEOUT_S * 1000),
            },
            logger=logger,
        )
        offsets: dict[tuple[str, int], int] = {}
        failures: list[KafkaError] = []

        def note(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                failures.append(error)
            else:
                offsets[message.topic(), message.partition()] = message.offset()

        for begin in range(0, len(device_ids), AT_ONCE):
            value = encode_command(device_ids[begin : begin + AT_ONCE])
            for name, number in places:
                producer.produce(
                    name,
                    value,
                    COMMAND_KEY,
                    partition=number,
                    headers=[(COMMAND_HEADER, b"1")],
                    on_delivery=note,
                )
            # One command after the other, so that few wait in memory.
            left = producer.flush(TIMEOUT_S)
            if failures or left:
                reason = failures[0].str() if failures else "no broker accepts messages"
                raise StreamError(f"not all was sent: {reason}; run the command again")
        return offsets


def wait_carried_out(
    cluster: Cluster,
    offsets: dict[tuple[str, int], int],
    timeout_s: float,
    on_progress: Callable[[int], None],
) -> dict[tuple[str, int], int]:
    """Wait until the group has committed what follows the commands.

    Parameters
    ----------
    cluster
        Says what is committed.
    offsets
        Of the last command in each partition.
    timeout_s
        Longest time.
    on_progress
        Called with the number of partitions that are still waited for.

    Returns
    -------
    dict
        The partitions in which the group has not come so far, and the offsets.
    """
    deadline_s = time.monotonic() + timeout_s
    left = dict(offsets)
    while True:
        with explain_kafka_errors("committed offsets can't be read"):
            committed = cluster.committed_offsets(left)
        left = {
            place: offset
            for place, offset in left.items()
            if place not in committed or committed[place].offset <= offset
        }
        on_progress(len(left))
        if not left or time.monotonic() >= deadline_s:
            return left
        time.sleep(min(ASK_AGAIN_S, max(0.0, deadline_s - time.monotonic())))
