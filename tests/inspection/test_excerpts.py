from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from stepstream.errors import RecordingError
from stepstream.inspection import read_file
from stepstream.inspection.excerpts import FoundMessage

if TYPE_CHECKING:
    from pathlib import Path

    from stepstream.inspection import Excerpt


def read(folder: Path, content: bytes, name: str = "phone-17.jsonl") -> Excerpt:
    path = folder / name
    path.write_bytes(content)
    return read_file(path, 100)


def test_lines_without_keys_are_of_the_device_that_they_or_the_file_name(tmp_path: Path) -> None:
    excerpt = read(tmp_path, b'{"a": 1}\n\n{"device_id": "x", "a": 2}\n')
    assert not excerpt.has_keys
    assert [(one.key, one.value, one.place) for one in excerpt.messages] == [
        (b"phone-17", b'{"a": 1}', "line 1"),
        (b"x", b'{"device_id": "x", "a": 2}', "line 3"),
    ]


def test_keys_stand_before_a_tab(tmp_path: Path) -> None:
    excerpt = read(tmp_path, b'phone-1\t{"a": "\\t"}\nnull\t[[1]]\n{"a":\t1}\n')
    assert excerpt.has_keys
    assert [(one.key, one.value) for one in excerpt.messages] == [
        (b"phone-1", b'{"a": "\\t"}'),
        (None, b"[[1]]"),
        (None, b'{"a":\t1}'),
    ]


def test_keys_that_are_all_null_are_known(tmp_path: Path) -> None:
    excerpt = read(tmp_path, b'null\t{"a": 1}\nnull\t{"a": 2}\n')
    assert excerpt.has_keys
    assert [one.key for one in excerpt.messages] == [None, None]


def test_lines_of_kcat_have_everything(tmp_path: Path) -> None:
    line = {
        "topic": "readings", "partition": 2, "offset": 17, "tstype": "create", "ts": 1_700,
        "headers": ["device", "x"], "key": "k", "payload": '{"a": 1}',
    }  # fmt: skip
    empty = {**line, "key": None, "payload": None, "headers": []}
    content = f"{json.dumps(line)}\n{json.dumps(empty)}\n".encode()
    first, second = read(tmp_path, content).messages
    assert first == FoundMessage(
        b'{"a": 1}', b"k", (("device", b"x"),), 1_700, 2, "partition 2, offset 17"
    )
    assert (second.key, second.value, second.headers) == (None, None, ())


@pytest.mark.parametrize(
    "content",
    [b'{\n  "a": [1,\n 2]\n}\n', b"\x81\xa1a\x0a\x01", b"\0\0\0\0\x07\t\n\x0a\t"],
    ids=["JSON over lines", "MessagePack", "Avro"],
)
def test_any_other_file_is_one_message(tmp_path: Path, content: bytes) -> None:
    for name, packed in (("one.bin", content), ("one.bin.gz", gzip.compress(content))):
        (message,) = read(tmp_path, packed, name).messages
        assert (message.key, message.value) == (b"one", content)


def test_the_last_messages_are_taken(tmp_path: Path) -> None:
    excerpt = read(tmp_path, b"".join(b"[[%d]]\n" % number for number in range(150)))
    assert [one.value for one in excerpt.messages] == [b"[[%d]]" % n for n in range(50, 150)]


@pytest.mark.parametrize(
    ("content", "text"), [(b" \n", "empty"), (b"\x1f\x8b\x08\0", "ended"), (None, "No such file")]
)
def test_a_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RecordingError, match=rf"a\.json: .*{text}"):
        read_file(tmp_path / "a.json", 100)
