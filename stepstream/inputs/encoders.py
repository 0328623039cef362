"""Encoders: from a document to the bytes of a message; the inverse of parsers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from stepstream.errors import SettingsError
from stepstream.inputs.schemas import RegistryAwayError, SchemaError
from stepstream.inputs.senml import encode_pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepstream.settings import InputSettings, RegistrySettings

    Encode = Callable[[Any], bytes]

__all__ = ["make_encoder"]


def make_encoder(settings: InputSettings, registry: RegistrySettings, topic: str) -> Encode:
    """What encodes the documents of a topic.

    Parameters
    ----------
    settings
        How its messages are written.
    registry
        The schema registry. A schema file that the settings name is registered there, under the
        name that Confluent's serializers use; without one, the newest schema there is taken.
    topic
        Its name.

    Raises
    ------
    SettingsError
        A package isn't installed, or there is no schema that can be used.
    """
    if settings.format == "json":
        return msgspec.json.Encoder().encode
    if settings.format == "msgpack":
        return msgspec.msgpack.Encoder().encode
    if settings.format == "cbor":
        from stepstream.inputs.parsers import CborParser  # noqa: PLC0415 - an extra

        return CborParser().encode
    if settings.format == "senml":
        return encode_pack
    from stepstream.inputs.schema_encoders import make_schema_encoder  # noqa: PLC0415

    with _explain_errors(settings, topic):
        encode = make_schema_encoder(settings, registry, f"{topic}-value")

    def encode_or_explain(document: Any) -> bytes:
        with _explain_errors(settings, topic):
            return encode(document)

    return encode_or_explain


@contextmanager
def _explain_errors(settings: InputSettings, topic: str) -> Iterator[None]:
    try:
        yield
    except RegistryAwayError as error:
        raise SettingsError(f"registry.url: {error}") from None
    except (SchemaError, TypeError, ValueError, OverflowError) as error:
        what = settings.schema_ or f"the schema of {topic}-value"
        raise SettingsError(f"input.schema: {what}: {error}") from None
