"""Messages to look at: some of a topic, or those of a file."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from stepstream.errors import RecordingError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_FILE_BYTES", "Excerpt", "FoundMessage", "read_file", "read_whole_file"]

MAX_FILE_BYTES = 64 << 20
ENVELOPE = {"topic", "partition", "offset", "payload"}
"""What a line of ``kcat -J`` has at least."""


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A message, and where it is.

    Attributes
    ----------
    place
        In words, for people.
    record_ms
        Time of its record, milliseconds since the epoch; None if it is not known.
    partition
        None if it is not known.
    """

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    record_ms: int | None = None
    partition: int | None = None
    place: str = ""


@dataclass(frozen=True)
class Excerpt:
    """Some messages that have the same settings.

    Attributes
    ----------
    name
        Of the topic or of the file.
    has_keys
        Whether the keys are known. Without them, what a message has as ``device_id`` stands for its
        key, or else the file's name.
    """

    name: str
    messages: list[FoundMessage] = field(default_factory=list)
    has_keys: bool = True

    def __len__(self) -> int:
        return len(self.messages)

    def with_header(self, name: str) -> Excerpt:
        """The same messages, with a header that names their partition and is never wrong."""
        changed = [
            replace(message, headers=((name, f"partition-{message.partition}".encode()),))
            for message in self.messages
        ]
        return replace(self, messages=changed)


def read_file(path: Path, most: int | None = None, max_bytes: int | None = None) -> Excerpt:
    """Read a file of messages.

    It has a message in each line: JSON, alone or behind its key and a tab as Kafka's console
    consumer prints it, or what ``kcat -J`` prints. Any other file is one message.

    Parameters
    ----------
    path
        The file, may be compressed with gzip.
    most
        The last messages are taken, at most this many; all without it.
    max_bytes
        Larger files are refused, also those that are larger when unpacked.

    Raises
    ------
    RecordingError
        The file can't be read, is empty or too large.
    """
    content = _read(path, max_bytes)
    if not content.strip():
        raise RecordingError(f"{path}: the file is empty")
    name = _name(path)
    lines = [(n, line) for n, line in enumerate(content.splitlines(), 1) if line.strip()]
    messages = None
    # A line of a document over several lines may be JSON, too.
    is_whole = len(lines) > 1 and _is_json(content)
    if not is_whole and (len(lines) > 1 or b"\t" in content or _is_json(lines[0][1])):
        messages = _read_lines(lines if most is None else lines[-most:])
    if messages is None:
        messages = [FoundMessage(content, place="the file")]
    # A message that is a whole line, or the file, came without a key.
    whole = {content, *(line for _, line in lines)}
    if all(message.value in whole for message in messages):
        messages = [
            FoundMessage(one.value, _named_device(one.value) or name.encode(), place=one.place)
            for one in messages
        ]
        return Excerpt(str(path), messages, has_keys=False)
    return Excerpt(str(path), messages)


def read_whole_file(path: Path, max_bytes: int | None = None) -> Excerpt:
    """Read a file that is one message, whatever it looks like; see `read_file`."""
    content = _read(path, max_bytes)
    if not content.strip():
        raise RecordingError(f"{path}: the file is empty")
    key = _name(path).encode()
    return Excerpt(str(path), [FoundMessage(content, key, place="the file")], has_keys=False)


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _read(path: Path, max_bytes: int | None) -> bytes:
    try:
        if max_bytes is not None and path.stat().st_size > max_bytes:
            raise _too_large(path, max_bytes, "")
        content = path.read_bytes()
        if content[:2] != b"\x1f\x8b":
            return content
        with gzip.open(path) as unpacked:
            content = unpacked.read() if max_bytes is None else unpacked.read(max_bytes + 1)
    except (OSError, EOFError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RecordingError(f"{path}: {text}") from None
    if max_bytes is not None and len(content) > max_bytes:
        raise _too_large(path, max_bytes, " unpacked")
    return content


def _too_large(path: Path, max_bytes: int, how: str) -> RecordingError:
    return RecordingError(f"{path}: over {max_bytes >> 20} MiB{how}; give a part of it")


def _read_lines(lines: list[tuple[int, bytes]]) -> list[FoundMessage] | None:
    """A message of each line; None if not one line is JSON."""
    messages = []
    found = False
    for number, line in lines:
        place = f"line {number}"
        key, tab, value = line.partition(b"\t")
        if tab and not _is_json(line):
            message = FoundMessage(value, None if key == b"null" else key, place=place)
        else:
            message = _from_envelope(line) or FoundMessage(line, place=place)
        found = found or (message.value is not None and _is_json(message.value))
        messages.append(message)
    return messages if found else None


def _from_envelope(line: bytes) -> FoundMessage | None:
    """The message in a line of ``kcat -J``, or None if it isn't one."""
    if b'"payload"' not in line:
        return None
    try:
        envelope = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(envelope, dict) or not envelope.keys() >= ENVELOPE:
        return None
    names = envelope.get("headers") or []
    headers = tuple(
        (str(name), _bytes(value)) for name, value in zip(names[::2], names[1::2], strict=False)
    )
    at, partition = envelope.get("ts"), envelope["partition"]
    return FoundMessage(
        _bytes(envelope["payload"]),
        _bytes(envelope.get("key")),
        headers,
        at if isinstance(at, int) else None,
        partition if isinstance(partition, int) else None,
        f"partition {partition}, offset {envelope['offset']}",
    )


def _named_device(value: bytes | None) -> bytes | None:
    try:
        document = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    named = document.get("device_id") if isinstance(document, dict) else None
    return named.encode() if isinstance(named, str) else None


def _bytes(content: Any) -> bytes | None:
    if content is None:
        return None
    return content.encode() if isinstance(content, str) else orjson.dumps(content)


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(orjson.loads(text), dict | list)
    except orjson.JSONDecodeError:
        return False
