"""What goes around a record's value: key, headers and time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stepstream.outputs.records import OutputRecord

if TYPE_CHECKING:
    import msgspec

    from stepstream.outputs.encoding import Encoding
    from stepstream.settings import OutputKind, OutputSettings

    Headers = tuple[tuple[str, bytes | None], ...]

__all__ = ["Envelope"]

_TOPIC = "stepstream-topic"


class Envelope:
    """Makes the records of one kind of output.

    Every record says the type of its content and the topic of the readings that it was made from:
    a device of two topics is two devices. With ``output.cloudevents``, it is a CloudEvent in the
    binary mode of the Kafka protocol binding, version 1.0.

    Parameters
    ----------
    topic
        Where the records are published.
    kind
        What a record is: ``step``, ``minute``, ``walk`` or ``count``.
    encoding
        How the values are written.
    settings
        Whether they are CloudEvents, and what their time is.
    """

    def __init__(
        self, topic: str, kind: OutputKind, encoding: Encoding, settings: OutputSettings
    ) -> None:
        self.topic = topic
        self._kind = kind
        self._content_type = encoding.content_type.encode()
        self._headers: dict[str, Headers] = {}
        """Those that all records of a topic of readings have."""
        self._encode = encoding.encode
        self._is_cloudevent = settings.cloudevents
        self._has_event_time = settings.record_time == "event"

    def record(
        self,
        key: bytes,
        value: msgspec.Struct,
        *,
        source: str,
        name: str,
        time_us: int,
        device_id: str,
    ) -> OutputRecord:
        """A record.

        Parameters
        ----------
        key, value
            Its content.
        source
            The topic of the readings.
        name
            Names it among all records of this kind and source; the same however often it is made.
        time_us
            When the step, minute or walk ended, microseconds since the epoch.
        device_id
            The device.
        """
        headers = self._headers.get(source) or self._make_headers(source)
        if self._is_cloudevent:
            headers += (
                ("ce_id", f"{self._kind}/{name}".encode()),
                ("ce_time", _rfc3339(time_us).encode()),
                ("ce_subject", device_id.encode()),
            )
        time_ms = time_us // 1000 if self._has_event_time else None
        return OutputRecord(self.topic, key, self._encode(value), headers, None, time_ms)

    def tombstone(self, key: bytes, source: str) -> OutputRecord:
        """The record that deletes a key; it has no content, and says whose it was."""
        return OutputRecord(self.topic, key, None, ((_TOPIC, source.encode()),))

    def _make_headers(self, source: str) -> Headers:
        headers: Headers = (
            ("content-type", self._content_type),
            (_TOPIC, source.encode()),
        )
        if self._is_cloudevent:
            headers += (
                ("ce_specversion", b"1.0"),
                ("ce_source", f"/stepstream/{source}".encode()),
                ("ce_type", f"stepstream.{self._kind}".encode()),
            )
        self._headers[source] = headers
        return headers


def _rfc3339(time_us: int) -> str:
    seconds, fraction = divmod(time_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
