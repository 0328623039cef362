"""The messages of a poll, by partition."""

from __future__ import annotations

from collections import defaultdict
from itertools import count, pairwise, repeat
from operator import is_not
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.detection.columns import first_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import KafkaError, Message

__all__ = ["group_by_partition", "split_errors"]

PARTITION_BITS = 32
"""Bits for a partition's number beside its topic's in one whole number."""


def split_errors(
    messages: list[Message],
) -> tuple[list[Message], list[tuple[Message, KafkaError]]]:
    """Messages, and errors that the client returns among them."""
    if not messages:
        return messages, []
    errors = list(map(type(messages[0]).error, messages))
    # By identity: a comparison of the client's errors with None leaves an exception set.
    if not any(map(is_not, errors, repeat(None))):
        return messages, []
    pairs = list(zip(messages, errors, strict=True))
    return (
        [message for message, error in pairs if error is None],
        [(message, error) for message, error in pairs if error is not None],
    )


def group_by_partition(
    messages: Sequence[Message], *, one_topic: bool
) -> dict[tuple[Any, Any], list[Message]]:
    """Messages of each topic and partition, in their order.

    Parameters
    ----------
    messages
        Without errors.
    one_topic
        Whether all are known to be of the same topic, which is faster.
    """
    grouped: defaultdict[tuple[Any, Any], list[Message]] = defaultdict(list)
    if not messages:
        return grouped
    # Messages of a partition come in long runs, so a Python loop visits only the ends of runs.
    kind = type(messages[0])
    place = np.fromiter(map(kind.partition, messages), np.intp, len(messages))
    if not one_topic:
        numbers: defaultdict[Any, int] = defaultdict(count().__next__)
        topic = map(numbers.__getitem__, map(kind.topic, messages))
        place += np.fromiter(topic, np.intp, len(messages)) << PARTITION_BITS
    for begin, end in pairwise([*first_rows(place).tolist(), len(messages)]):
        name = messages[begin].topic(), messages[begin].partition()
        grouped[name] += messages[begin:end]
    return grouped
