"""Columns of readings from documents: from messages as a parser gives them."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.axes import AxesReader, Messages
from stepstream.inputs.columns import (
    ACCELEROMETER,
    ACCELEROMETER_BIT,
    GYROSCOPE,
    GYROSCOPE_BIT,
    Columns,
)
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.paths import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.layout import Layout, SensorNames

__all__ = ["DocumentReader"]

_BOTH = ACCELEROMETER_BIT | GYROSCOPE_BIT


class DocumentReader:
    """Finds the readings in documents.

    Parameters
    ----------
    layout
        Where they are.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        if layout.sensor is None:
            self._readers = {_BOTH: AxesReader(layout, ACCELEROMETER, GYROSCOPE)}
        else:
            self._readers = {
                ACCELEROMETER_BIT: AxesReader(layout, ACCELEROMETER),
                GYROSCOPE_BIT: AxesReader(layout, GYROSCOPE),
            }

    def read(
        self,
        documents: Sequence[Any],
        record_ms: NDArray[np.int64],
        invalid: dict[int, InvalidMessage],
    ) -> Columns:
        """Find the readings of messages.

        Parameters
        ----------
        documents : (n,)
            What a parser made of each message; None where it is not to be read.
        record_ms : (n,) int64
            Times of their records, milliseconds since the epoch.
        invalid
            Invalid messages are added, by their row.
        """
        split = self._layout.sensor is not None
        parts = [
            Columns(*part, np.full(len(part.message), bits, np.uint8) if split else None)
            for bits, messages in self._messages(documents, invalid)
            for part in self._readers[bits].read(messages, record_ms, invalid)
        ]
        found = Columns.merge(parts)
        # One sensor's readings may be right where those of the other are not.
        return found.without(invalid) if split and invalid else found

    def _messages(
        self, documents: Sequence[Any], invalid: dict[int, InvalidMessage]
    ) -> list[tuple[int, Messages]]:
        """The messages by their sensors: those that are one reading, and lists of readings."""
        layout = self._layout
        if (
            layout.readings is None
            and layout.sensor is None
            and set(map(type, documents)) == {dict}
        ):
            return [(_BOTH, Messages(range(len(documents)), documents, None))]
        found: dict[tuple[int, bool], tuple[list[int], list[Any], list[Any]]] = {}
        for row, document in enumerate(documents):
            if document is None:
                continue
            try:
                items = layout.items(document)
                for bits, of_sensor in self._by_sensor(document, items):
                    group = found.setdefault((bits, items is None), ([], [], []))
                    for one, many in zip((row, document, of_sensor), group, strict=True):
                        many.append(one)
            except InvalidMessage as error:
                invalid[row] = error.without_traceback()
        # In a message, the accelerometer's readings come first.
        return [
            (bits, Messages(rows, documents, None if is_single else items))
            for (bits, is_single), (rows, documents, items) in sorted(
                found.items(), key=itemgetter(0)
            )
        ]

    def _by_sensor(self, document: Any, items: Any) -> list[tuple[int, Any]]:
        """The items of a message by their sensor; those of other sensors are left out."""
        names = self._layout.sensor
        if items is not None and not len(items):
            return []
        if names is None:
            return [(_BOTH, items)]
        of_message = names.path.find(items[0] if items is not None else document)
        if items is None or of_message is MISSING:
            bits = _sensor(names, names.path.find(document))
            return [(bits, items)] if bits else []
        bits_of = np.array([_sensor(names, names.path.find(item)) for item in items], np.uint8)
        found = []
        for bits in self._readers:
            rows = np.flatnonzero(bits_of == bits)
            if len(rows):
                chosen = (
                    items[rows]
                    if isinstance(items, np.ndarray)
                    else [items[row] for row in rows.tolist()]
                )
                found.append((bits, chosen))
        return found


def _sensor(names: SensorNames, name: Any) -> int:
    """The bit of the sensor with a name, 0 if it is another sensor."""
    if name is MISSING:
        raise InvalidMessage(ErrorCode.MISSING_FIELD, f"{names.path} is missing")
    if isinstance(name, bool) or not isinstance(name, str | int | np.integer):
        raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{names.path}: expected the name of a sensor")
    if name == names.accelerometer:
        return ACCELEROMETER_BIT
    return GYROSCOPE_BIT if name == names.gyroscope else 0
