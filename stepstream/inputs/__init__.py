"""Readings in: from messages to columns, a module for each format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stepstream.inputs.alike import AlikeReader, has_layouts
from stepstream.inputs.columns import (
    ACCELEROMETER,
    ACCELEROMETER_BIT,
    GYROSCOPE,
    GYROSCOPE_BIT,
    MAX_MESSAGE_BYTES,
    MAX_READINGS,
    Decoded,
    InputFormat,
    Messages,
    Opened,
)
from stepstream.inputs.device_ids import MAX_DEVICE_ID_BYTES, decode_device_id
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.framing import join_headers
from stepstream.inputs.general import GeneralFormat
from stepstream.inputs.identities import KEY_ENCODERS
from stepstream.inputs.layout import Layout
from stepstream.inputs.native_json import NativeJson
from stepstream.inputs.parsers import make_parser
from stepstream.inputs.plain_json import PlainJson
from stepstream.inputs.schemas import RegistryAwayError, SchemaId, Schemas, fetch_lacking
from stepstream.inputs.typed import TypedReader
from stepstream.inputs.validation import MAX_ACCELERATION, MAX_ANGULAR_VELOCITY
from stepstream.inputs.writing import MessageWriter, device_name
from stepstream.settings import RegistrySettings

if TYPE_CHECKING:
    from stepstream.settings import InputSettings

__all__ = [
    "ACCELEROMETER",
    "ACCELEROMETER_BIT",
    "GYROSCOPE",
    "GYROSCOPE_BIT",
    "KEY_ENCODERS",
    "MAX_ACCELERATION",
    "MAX_ANGULAR_VELOCITY",
    "MAX_DEVICE_ID_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_READINGS",
    "Decoded",
    "ErrorCode",
    "InputFormat",
    "InvalidMessage",
    "MessageWriter",
    "Messages",
    "Opened",
    "RegistryAwayError",
    "SchemaId",
    "Schemas",
    "decode_device_id",
    "device_name",
    "fetch_lacking",
    "is_plain",
    "join_headers",
    "make_format",
]


def is_plain(settings: InputSettings) -> bool:
    """Whether messages are as without any setting, but for their units."""
    return settings.format == "json" and Layout.of(settings).is_plain


def make_format(settings: InputSettings, registry: RegistrySettings | None = None) -> InputFormat:
    """The format of a topic's messages.

    Parameters
    ----------
    settings
        How they are written.
    registry
        The schema registry, for the formats that need one.

    Raises
    ------
    SettingsError
        A package that the format needs isn't installed.
    """
    layout = Layout.of(settings)
    if is_plain(settings):
        return PlainJson(layout.units, NativeJson.plain())
    parser = make_parser(settings, registry or RegistrySettings())
    typed: TypedReader | AlikeReader | None
    native = None
    if settings.format == "json":
        native = NativeJson.of(layout)
        typed = TypedReader.of(layout, msgspec.json.Decoder, has_nan=False)
    elif settings.format == "msgpack":
        typed = TypedReader.of(layout, msgspec.msgpack.Decoder, has_nan=True)
    else:
        typed = AlikeReader.of(parser, layout) if has_layouts(parser) else None
    return GeneralFormat(parser, layout, typed, native)
