"""Protobuf types for tests: compiled from text, or random; and random messages of them."""

from __future__ import annotations

import struct
import tempfile
from functools import lru_cache
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import FieldDescriptor as Kind
from grpc_tools import protoc
from hypothesis import strategies as st

from stepstream.inputs.protobuf import find_message, load_descriptors
from stepstream.inputs.varints import write_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

FIELDS = ("a", "b", "c", "d")
_SCALARS = [
    Kind.TYPE_DOUBLE, Kind.TYPE_FLOAT, Kind.TYPE_INT64, Kind.TYPE_UINT64, Kind.TYPE_INT32,
    Kind.TYPE_FIXED64, Kind.TYPE_FIXED32, Kind.TYPE_BOOL, Kind.TYPE_STRING, Kind.TYPE_BYTES,
    Kind.TYPE_UINT32, Kind.TYPE_SFIXED32, Kind.TYPE_SFIXED64, Kind.TYPE_SINT32, Kind.TYPE_SINT64,
]  # fmt: skip
_NEVER_PACKED = {Kind.TYPE_STRING, Kind.TYPE_BYTES, Kind.TYPE_MESSAGE}
_BOUNDS = {
    Kind.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Kind.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Kind.CPPTYPE_UINT32: (0, 2**32 - 1),
    Kind.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@lru_cache
def compile_set(*sources: str) -> bytes:
    """The descriptor set of files ``0.proto``, ``1.proto`` and so on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, source in enumerate(sources):
            (folder / f"{number}.proto").write_text(source)
        target = folder / "set"
        known = files("grpc_tools") / "_proto"
        arguments = ["protoc", f"-I{folder}", f"-I{known}", f"--descriptor_set_out={target}"]
        if protoc.main([*arguments, "--include_imports", f"{len(sources) - 1}.proto"]):
            raise ValueError("protoc refuses the source")
        return target.read_bytes()


def message_type(source: str, name: str = "Message") -> Descriptor:
    pool, _ = load_descriptors(compile_set(source))
    return find_message(pool, name)


def new(descriptor: Descriptor, **fields: Any) -> Any:
    """A message of Google's own class."""
    return message_factory.GetMessageClass(descriptor)(**fields)


@st.composite
def types(draw: st.DrawFn) -> Descriptor:
    """A message type with up to four fields of any kinds."""
    syntax = draw(st.sampled_from(["proto2", "proto3"]))
    file = descriptor_pb2.FileDescriptorProto(name="random.proto", syntax=syntax)
    enum = file.enum_type.add(name="Side")
    for number, side in enumerate(["NONE", "LEFT", "RIGHT"]):
        enum.value.add(name=side, number=number)
    _add_type(draw, file, count(), 2)
    pool, _ = load_descriptors(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    return find_message(pool, "M0")


def _add_type(  # noqa: C901 - one case for each kind of field
    draw: st.DrawFn, file: descriptor_pb2.FileDescriptorProto, numbers: Iterator[int], depth: int
) -> str:
    message = descriptor_pb2.DescriptorProto(name=f"M{next(numbers)}")
    names = draw(st.lists(st.sampled_from(FIELDS), min_size=1, unique=True))
    tags = draw(st.permutations([1, 2, 3, 4, 16, 2047, 2**29 - 1]))
    oneof = draw(st.sampled_from([(), (), tuple(names[:2])]))
    if oneof:
        message.oneof_decl.add(name="one")
    for name, tag in zip(names, tags[: len(names)], strict=True):
        inner = [Kind.TYPE_MESSAGE] * 4 * depth
        kind: Any = draw(st.sampled_from([*_SCALARS, Kind.TYPE_ENUM, *inner]))
        field: Any = message.field.add(name=name, number=tag, label=Kind.LABEL_OPTIONAL)
        field.type = kind
        if name in oneof:
            field.oneof_index = 0
        elif draw(st.booleans()):
            field.label = Kind.LABEL_REPEATED
            if kind not in _NEVER_PACKED and draw(st.booleans()):
                field.options.packed = draw(st.booleans())
        elif file.syntax == "proto3" and draw(st.booleans()):
            field.proto3_optional = True
        if kind == Kind.TYPE_ENUM:
            field.type_name = ".Side"
        if kind == Kind.TYPE_MESSAGE:
            field.type_name = "." + _add_type(draw, file, numbers, depth - 1)
    for field in message.field:
        if field.proto3_optional:
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")
    file.message_type.append(message)
    return message.name


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Any:
    """A message of a type."""
    message = new(descriptor)
    _fill(draw, message)
    return message


def _fill(draw: st.DrawFn, message: Any) -> None:
    for field in message.DESCRIPTOR.fields:
        if draw(st.integers(0, 4)) == 0:
            continue
        if field.is_repeated:
            target = getattr(message, field.name)
            for _ in range(draw(st.integers(0, 8))):
                if field.type == Kind.TYPE_MESSAGE:
                    _fill(draw, target.add())
                else:
                    target.append(draw(_scalars(field)))
        elif field.type == Kind.TYPE_MESSAGE:
            getattr(message, field.name).SetInParent()
            _fill(draw, getattr(message, field.name))
        else:
            setattr(message, field.name, draw(_scalars(field)))


def _scalars(field: Any) -> st.SearchStrategy[Any]:
    if field.type == Kind.TYPE_STRING:
        return st.text(max_size=3)
    if field.type == Kind.TYPE_BYTES:
        return st.binary(max_size=3)
    if field.type == Kind.TYPE_BOOL:
        return st.booleans()
    if field.type == Kind.TYPE_ENUM:
        return st.integers(0, 2)
    if field.cpp_type in _BOUNDS:
        least, most = _BOUNDS[field.cpp_type]
        return st.one_of(st.integers(max(least, -3), 3), st.integers(least, most))
    if field.type == Kind.TYPE_FLOAT:
        return st.floats(width=32)
    return st.floats()


def doubles(number: int, *values: float) -> bytes:
    """A field of doubles that are not packed."""
    return b"".join(write_varint(number << 3 | 1) + struct.pack("<d", value) for value in values)
