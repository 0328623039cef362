"""Any layout in any encoding: a parser makes documents, and the layout says what is in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.columns import MAX_MESSAGE_BYTES, Columns, Opened
from stepstream.inputs.documents import DocumentReader
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.framing import FramedParser, join_headers
from stepstream.inputs.identities import KEY_DECODERS, id_of_document, id_of_header
from stepstream.inputs.native_json import NativeReadings
from stepstream.inputs.typed import NotTyped
from stepstream.inputs.validation import check_size, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.alike import AlikeReader
    from stepstream.inputs.columns import Decoded, Messages, ReadHeaders
    from stepstream.inputs.layout import Layout
    from stepstream.inputs.native_json import NativeJson
    from stepstream.inputs.parsers import Parser
    from stepstream.inputs.typed import TypedReader

__all__ = ["GeneralFormat"]


class GeneralFormat:
    """Decodes messages of any layout.

    Parameters
    ----------
    parser
        Makes documents of their values.
    layout
        Where in the documents the readings are.
    typed
        Decodes messages in the usual form of the layout, which is faster.
    native
        Decodes most of those, which is faster still.
    """

    def __init__(
        self,
        parser: Parser,
        layout: Layout,
        typed: TypedReader | AlikeReader | None = None,
        native: NativeJson | None = None,
    ) -> None:
        self._parse = parser.parse
        self.schemas = parser if isinstance(parser, FramedParser) else None
        """See `InputFormat.schemas`."""
        self._layout = layout
        self._names = layout.names
        self._typed = typed
        self._native = native
        self._reader = DocumentReader(layout)
        # The readers give microseconds.
        self._units = replace(layout.units, time_us=1.0)

    def open(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None], headers: ReadHeaders
    ) -> Opened:
        """See `InputFormat.open`; the values become documents, None if they can't."""
        invalid: dict[int, InvalidMessage] = {}
        if self.schemas is not None:
            values = join_headers(values, headers)
        read = None if self._native is None else self._native.decode(values)
        if read is None:
            documents = self._documents(range(len(values)), values, invalid)
        else:
            documents = [read] * len(values)
            others = self._documents(read.others, [values[row] for row in read.others], invalid)
            for row, document in zip(read.others, others, strict=True):
                documents[row] = document
        layout = self._layout
        ids: Sequence[bytes | None] = keys
        if layout.device_id is not None:
            ids = _each(documents, self._device_id, invalid)
            if read is not None:
                known = zip(read.device_ids, ids, strict=True)
                ids = [other if one is None else one for one, other in known]
        elif (name := layout.device_id_header) is not None:
            ids = _each(range(len(keys)), lambda row: id_of_header(headers(row), name), invalid)
        elif layout.key != "text":
            ids = _each(keys, KEY_DECODERS[layout.key], invalid)
        if invalid:
            ids = [None if row in invalid else one for row, one in enumerate(ids)]
            for row in invalid:
                documents[row] = None
        return Opened(ids, documents, invalid)

    def _device_id(self, document: Any) -> bytes | None:
        if type(document) is NativeReadings:
            return None  # they have it
        if self._typed is not None and self._typed.is_open(document):
            return self._typed.device_id(document)
        return id_of_document(document, self._layout)

    def _documents(
        self,
        rows: Sequence[int],
        values: Sequence[bytes | None],
        invalid: dict[int, InvalidMessage],
    ) -> list[Any]:
        """A document of each message, or what the typed reader takes."""
        try:
            if max(map(len, values), default=0) <= MAX_MESSAGE_BYTES:  # type: ignore[arg-type]
                if self._typed is not None:
                    documents = self._typed.open_all(values)
                    if documents is not None:
                        return documents
                else:
                    documents = list(map(self._parse, values))  # type: ignore[arg-type]
                    if set(map(type, documents)) <= {dict, list}:
                        return documents
        except (InvalidMessage, TypeError):
            pass  # one by one
        documents = []
        for row, value in zip(rows, values, strict=True):
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
        if self._typed is not None:
            try:
                return self._typed.open(value)
            except NotTyped:
                pass
        document = self._parse(value)
        if not isinstance(document, dict | list | np.ndarray):
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE, "expected an object or a list as the message"
            )
        return document

    def decode(self, messages: Messages) -> Decoded:
        """See `InputFormat.decode`."""
        invalid: dict[int, InvalidMessage] = {}
        columns = self._read(messages.values, messages.record_ms, invalid)
        return validate(columns, messages, self._units, invalid, self._names)

    def _read(
        self,
        documents: Sequence[Any],
        record_ms: NDArray[np.int64],
        invalid: dict[int, InvalidMessage],
    ) -> Columns:
        parts = []
        read = next((one for one in documents if type(one) is NativeReadings), None)
        if read is not None:
            columns = self._read_native(read, documents)
            if documents.count(read) == len(documents):
                return columns
            parts.append(columns)
            documents = [None if one is read else one for one in documents]
        typed = self._typed
        if typed is None:
            parts.append(self._reader.read(documents, record_ms, invalid))
            return Columns.merge(parts)
        rows = [row for row, document in enumerate(documents) if typed.is_open(document)]
        if rows:
            opened = documents if len(rows) == len(documents) else [documents[row] for row in rows]
            columns, others = typed.read(rows, opened, invalid)
            if not others and len(rows) == len(documents):
                return columns
            parts.append(columns)
            documents = [None if typed.is_open(one) else one for one in documents]
            for row, value in others.items():
                try:
                    documents[row] = self._parse(value)
                except InvalidMessage as error:
                    # msgspec doesn't look at text that isn't wanted.
                    invalid[row] = error.without_traceback()
        parts.append(self._reader.read(documents, record_ms, invalid))
        return Columns.merge(parts)

    def _read_native(self, read: NativeReadings, documents: Sequence[Any]) -> Columns:
        if len(documents) != read.count:
            raise RuntimeError("these are not all messages that were opened together")
        lost = {row for row, one in enumerate(documents) if one is not read} - {*read.others}
        columns = read.columns.without(lost) if lost else read.columns
        columns.columns[0] *= self._layout.units.time_us
        return columns


def _each(
    given: Sequence[Any],
    identify: Callable[[Any], bytes | None],
    invalid: dict[int, InvalidMessage],
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
