"""Any layout in any encoding: a parser makes documents, and the layout says what is in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.columns import MAX_MESSAGE_BYTES, Opened
from stepstream.inputs.documents import DocumentReader
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.framing import FramedParser
from stepstream.inputs.identities import KEY_DECODERS, id_of_document, id_of_header
from stepstream.inputs.validation import check_size, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.inputs.columns import Decoded, Messages, ReadHeaders
    from stepstream.inputs.layout import Layout
    from stepstream.inputs.parsers import Parser

__all__ = ["GeneralFormat"]


class GeneralFormat:
    """Decodes messages of any layout.

    Parameters
    ----------
    parser
        Makes documents of their values.
    layout
        Where in the documents the readings are.
    """

    def __init__(self, parser: Parser, layout: Layout) -> None:
        self._parse = parser.parse
        self.schemas = parser if isinstance(parser, FramedParser) else None
        """See `InputFormat.schemas`."""
        self._layout = layout
        self._reader = DocumentReader(layout)
        # The reader gives microseconds.
        self._units = replace(layout.units, time_us=1.0)

    def open(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None], headers: ReadHeaders
    ) -> Opened:
        """See `InputFormat.open`; the values become documents, None if they can't."""
        invalid: dict[int, InvalidMessage] = {}
        documents = self._documents(values, invalid)
        layout = self._layout
        ids: Sequence[bytes | None] = keys
        if layout.device_id is not None:
            ids = _each(documents, lambda document: id_of_document(document, layout), invalid)
        elif (name := layout.device_id_header) is not None:
            ids = _each(range(len(keys)), lambda row: id_of_header(headers(row), name), invalid)
        elif layout.key != "text":
            ids = _each(keys, KEY_DECODERS[layout.key], invalid)
        if invalid:
            ids = [None if row in invalid else one for row, one in enumerate(ids)]
            for row in invalid:
                documents[row] = None
        return Opened(ids, documents, invalid)

    def _documents(
        self, values: Sequence[bytes | None], invalid: dict[int, InvalidMessage]
    ) -> list[Any]:
        try:
            if max(map(len, values), default=0) <= MAX_MESSAGE_BYTES:  # type: ignore[arg-type]
                documents = list(map(self._parse, values))  # type: ignore[arg-type]
                if set(map(type, documents)) <= {dict, list}:
                    return documents
        except (InvalidMessage, TypeError):
            pass  # one by one
        documents = []
        for row, value in enumerate(values):
            try:
                documents.append(self._document(value))
            except InvalidMessage as error:
                invalid[row] = error.without_traceback()
                documents.append(None)
        return documents

    def _document(self, value: bytes | None) -> Any:
        if value is None:
            raise InvalidMessage(ErrorCode.NULL_VALUE, "the message has no value")
        check_size(value)
        document = self._parse(value)
        if not isinstance(document, dict | list | np.ndarray):
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE, "expected an object or a list as the message"
            )
        return document

    def decode(self, messages: Messages) -> Decoded:
        """See `InputFormat.decode`."""
        invalid: dict[int, InvalidMessage] = {}
        message, columns, sensors = self._reader.read(messages.values, messages.record_ms, invalid)
        return validate(message, columns, messages, self._units, invalid, sensors)


def _each(
    given: Sequence[Any], identify: Callable[[Any], bytes], invalid: dict[int, InvalidMessage]
) -> list[bytes | None]:
    """The device id of each message that isn't invalid."""
    found: list[bytes | None] = []
    for row, one in enumerate(given):
        device_id = None
        if row not in invalid and one is not None:
            try:
                device_id = identify(one)
            except InvalidMessage as error:
                invalid[row] = error.without_traceback()
        found.append(device_id)
    return found
