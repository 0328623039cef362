"""Parsers: from the bytes of a message to a document."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import orjson

from stepstream.errors import SettingsError
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.senml import SenmlParser

if TYPE_CHECKING:
    from stepstream.settings import InputSettings, RegistrySettings

__all__ = ["CborParser", "JsonParser", "MsgpackParser", "Parser", "make_parser"]

_SHOWN = 200


class Parser(Protocol):
    """How the bytes of messages encode documents; see `Layout` for what those are."""

    def parse(self, value: bytes) -> Any:
        """Make a document of a message's value.

        Raises
        ------
        InvalidMessage
            The bytes are no document.
        """


def make_parser(settings: InputSettings, registry: RegistrySettings) -> Parser:
    """The parser of a format.

    Raises
    ------
    SettingsError
        A package that it needs isn't installed; the message says which.
    """
    if settings.format == "json":
        return JsonParser()
    if settings.format == "msgpack":
        return MsgpackParser()
    if settings.format == "cbor":
        return CborParser()
    if settings.format == "senml":
        return SenmlParser(JsonParser())
    # They need the parsers of this module.
    from stepstream.inputs.schema_parsers import (  # noqa: PLC0415
        JsonSchemaParser,
        make_schema_parser,
    )

    if settings.format == "json-schema":
        return JsonSchemaParser(JsonParser())
    return make_schema_parser(settings, registry)


class JsonParser:
    """JSON; NaN and Infinity are accepted as numbers, which is then said of the field."""

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            if b"NaN" in value or b"Infinity" in value:
                try:
                    return json.loads(value)
                except (ValueError, RecursionError):
                    pass  # the first error says it better
            raise _invalid(error, ErrorCode.INVALID_JSON) from None


class MsgpackParser:
    """MessagePack."""

    def __init__(self) -> None:
        self._decode = msgspec.msgpack.Decoder().decode

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        try:
            return self._decode(value)
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise _invalid(error) from None


class CborParser:
    """CBOR, with typed arrays (RFC 8746) as arrays of NumPy.

    Raises
    ------
    SettingsError
        The package isn't installed.
    """

    def __init__(self) -> None:
        if find_spec("cbor2") is None:
            raise SettingsError(
                "input.format: cbor needs the package cbor2: pip install 'stepstream[cbor]'"
            )
        import cbor2  # noqa: PLC0415 - an extra

        self._decoder = cbor2.CBORDecoder
        self.encode = cbor2.dumps
        """The inverse of `parse`."""

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        file = io.BytesIO(value)
        try:
            document = self._decoder(file, tag_hook=_typed_array).decode()
        except Exception as error:  # noqa: BLE001 - of many kinds, from decimals to regular expressions
            raise _invalid(error) from None
        left = len(value) - file.tell()
        if left:
            raise InvalidMessage(
                ErrorCode.INVALID_ENCODING, f"{left} bytes are left over behind the CBOR"
            )
        return document


_TYPED_ARRAYS = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip


def _typed_array(tag: Any, _immutable: object) -> Any:
    kind = _TYPED_ARRAYS.get(tag.tag)
    if kind is None or not isinstance(tag.value, bytes):
        return tag
    return np.frombuffer(tag.value, kind)


def _invalid(error: Exception, code: ErrorCode = ErrorCode.INVALID_ENCODING) -> InvalidMessage:
    text = str(error).split("\n", 1)[0][:_SHOWN]
    return InvalidMessage(code, text or type(error).__name__)
