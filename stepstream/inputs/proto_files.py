"""Protobuf schemas as text, as registries have them, and messages that name their type by place."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.framing import read_indexes
from stepstream.inputs.protobuf import Protobuf, load_descriptors
from stepstream.inputs.schemas import SchemaError
from stepstream.inputs.varints import write_varint

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from google.protobuf.descriptor import Descriptor

    from stepstream.inputs.strides import ItemLayout

__all__ = ["IndexedProtobuf", "compile_files", "indexes_of"]

MAIN = "message.proto"
FILE_NAME = re.compile(r"[\w+-][\w+./-]*")
"""Of an imported file; the compiler takes other characters for more than a name."""
TIMEOUT_S = 30.0
MAX_TYPES = 100
"""Message types of one schema that are kept ready."""


def compile_files(text: str, references: Mapping[str, str]) -> Any:
    """Compile a schema with Google's compiler.

    Parameters
    ----------
    text
        The schema.
    references
        The files that it imports, by the names that it uses.

    Returns
    -------
    FileDescriptor
        What is in the file of the schema itself.

    Raises
    ------
    SchemaError
        The compiler refuses it.
    """
    described = _described(text, references)
    if described is not None:
        pool, names = load_descriptors(described)
        return pool.FindFileByName(names[0])
    # In a process of its own: what it says is its standard error. Files in memory, because there
    # may be no folder to write to.
    arguments = [sys.executable, "-m", "grpc_tools.protoc", "--include_imports"]
    with ExitStack() as open_files:
        numbers = []
        for name, content in {**references, MAIN: text}.items():
            if not FILE_NAME.fullmatch(name) or ".." in name or name.startswith("-"):
                raise SchemaError(f"it imports {name[:80]!r}, which is no name of a file")
            file = open_files.enter_context(os.fdopen(os.memfd_create("proto"), "wb"))
            file.write(content.encode())
            file.flush()
            numbers.append(file.fileno())
            arguments.append(f"-I{name}=/proc/self/fd/{file.fileno()}")
        try:
            done = subprocess.run(  # noqa: S603 - its arguments are numbers and names of files
                [*arguments, "--descriptor_set_out=/dev/stdout", MAIN],
                check=False,
                capture_output=True,
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise SchemaError(f"the Protobuf compiler can't run: {error}"[:200]) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SchemaError(f"not a Protobuf schema: {'; '.join(said)[:200]}")
    pool, _ = load_descriptors(done.stdout)
    return pool.FindFileByName(MAIN)


def _described(text: str, references: Mapping[str, str]) -> bytes | None:
    """The descriptor set of a schema that is compiled already, as Confluent's clients register it.

    They write the description of each file in base 64. None if it is text.
    """
    files = FileDescriptorSet()
    try:
        for name, content in {MAIN: text, **references}.items():
            file = files.file.add()
            file.ParseFromString(base64.b64decode(content, validate=True))
            if name != MAIN:
                file.name = name
    except (ValueError, DecodeError):
        return None
    return files.SerializeToString()


def indexes_of(descriptor: Any) -> bytes:
    """The place of a message type in its file, as `read_indexes` reads it."""
    indexes: list[int] = []
    while descriptor is not None:
        outer = descriptor.containing_type
        types = outer.nested_types if outer else descriptor.file.message_types_by_name.values()
        indexes.insert(0, [one.full_name for one in types].index(descriptor.full_name))
        descriptor = outer
    if indexes == [0]:
        return b"\0"
    return b"".join(write_varint(2 * number) for number in (len(indexes), *indexes))


class IndexedProtobuf:
    """Parses messages that begin with the place of their type in the schema.

    Parameters
    ----------
    file
        The schema, as `compile_files` returns it.
    names, unit_ns
        See `Protobuf`.
    message_type
        Full name of the only type to accept; None for any.
    """

    def __init__(
        self, file: Any, names: Collection[str], unit_ns: int, message_type: str | None
    ) -> None:
        self._file = file
        self._names = names
        self._unit_ns = unit_ns
        self._message_type = message_type
        self._parsers: dict[tuple[int, ...], Protobuf] = {}

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        parser, position = self._parser(value)
        return parser.parse(value[position:])

    def _parser(self, value: bytes) -> tuple[Protobuf, int]:
        """The parser of the message's type, and where the message begins."""
        if value[:1] == b"\0":
            indexes: tuple[int, ...] = (0,)
            position = 1
        else:
            indexes, position = read_indexes(value)
        parser = self._parsers.get(indexes)
        if parser is None:
            parser = Protobuf(self._find(indexes), self._names, self._unit_ns)
            if len(self._parsers) < MAX_TYPES:
                self._parsers[indexes] = parser
        return parser, position

    def find_layout(self, value: bytes) -> ItemLayout | None:
        """See `Alike.find_layout`."""
        try:
            parser, position = self._parser(value)
        except InvalidMessage:
            return None
        found = parser.find_layout(value[position:])
        return None if found is None else found.behind(value[:position])

    def _find(self, indexes: tuple[int, ...]) -> Descriptor:
        types: Any = list(self._file.message_types_by_name.values())
        found = None
        for index in indexes:
            if not 0 <= index < len(types):
                raise InvalidMessage(
                    ErrorCode.INVALID_ENCODING, f"the schema has no message type at {indexes}"
                )
            found = types[index]
            types = found.nested_types
        if found is None or (self._message_type and found.full_name != self._message_type):
            name = found.full_name if found else "none"
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE, f"the message is a {name}, not a {self._message_type}"
            )
        descriptor: Descriptor = found
        return descriptor
