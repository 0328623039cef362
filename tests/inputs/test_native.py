"""The compiled decoder gives what Python's decoders give, bit by bit, or leaves it to them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stepstream import native
from stepstream.inputs import Decoded, Messages, make_format
from stepstream.inputs.layout import Layout
from stepstream.inputs.native_json import NativeJson
from stepstream.settings import InputSettings
from tests.builders import decode_with, python_format
from tests.conftest import missing
from tests.inputs.forms import NESTED, PLACES, fields

NOW_US = 1_800_000_000_000_000
TIME = b"1700000000.0125"
TIMELESS = {name: path for name, path in PLACES.items() if name != "timestamp"}
IN_LISTS = fields(*"123456", timestamp="0")
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"time_unit": "ms", "accel_unit": "g"},
    {"fields": NESTED},
    {"fields": NESTED, "time_unit": "ms", "device_id": "id"},
    {"fields": TIMELESS, "time_unit": "record"},
    {"fields": {**NESTED, "timestamp": "head.0.time"}, "device_id": "head.1"},
    {"fields": NESTED, "readings": "data", "device_id": "id"},
    {"fields": IN_LISTS, "readings": "d.list", "device_id": "id"},
    {"fields": IN_LISTS},
    {"fields": NESTED, "device_id": "header:device"},
    {"fields": NESTED, "key": "json"},
]
MADE = [
    (make_format(made), python_format(made)) for made in map(InputSettings.model_validate, LAYOUTS)
]
USUAL = [b"1", b"0.25", b"-12.5", b"0.1e1", b"1E-3", b"2.2250738585072011e-308", b"-0.0"]
ODD = [
    b"-0", b"01", b"1.", b".5", b"+1", b"-", b"NaN", b"1e400", b"1e200", b"9007199254740993",
    b"true", b"null", b'"2"', b"[1]", b"[]", b"{}", b"9" * 40, b"1e19", b"-1", b'"\\u0031"',
    b'"\xff"', b"0x1", '"ä"'.encode(), b'"' + b"x" * 300 + b'"', b"17", b"1e", b"1.5.", b"1 2",
    b"[[1]]", b"401",
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _is_there() -> None:
    if native.find_native() is None:
        missing("stepstream-native, the compiled decoder: make builds it if cargo is there")


def document(layout: Layout, form: str, leaves: list[Any], count: int) -> Any:
    """A message of a layout: one reading, arrays, or a list of readings."""
    names = [name for name in layout.fields if "gyro" not in name or "no gyroscope" not in form]
    paths = {name: layout.fields[name].parts for name in names}
    if "arrays" in form:
        item = nested({path: [leaves.pop() for _ in range(count)] for path in paths.values()})
    else:
        item = [
            nested({path: leaves.pop() for path in paths.values()})
            for _ in range(count if "list" in form else 1)
        ]
        item = item[0] if "list" not in form and layout.readings is None else item
    around = {} if layout.device_id is None else {layout.device_id.parts: "phone"}
    if layout.readings is not None:
        return nested({layout.readings.parts: item, **around})
    return merged(item, nested(around)) if around and isinstance(item, dict) else item


def nested(paths: dict[tuple[str | int, ...], Any]) -> Any:
    """Objects and lists with something at each path."""
    if () in paths:
        return paths[()]
    inner: dict[str | int, dict[tuple[str | int, ...], Any]] = {}
    for (part, *rest), content in paths.items():
        inner.setdefault(part, {})[tuple(rest)] = content
    made = {part: nested(content) for part, content in inner.items()}
    numbers = [part for part in made if isinstance(part, int)]
    return [made.get(place) for place in range(max(numbers) + 1)] if numbers else made


def merged(one: Any, other: Any) -> Any:
    """Both of two objects; of two lists, what one lacks from the other."""
    if isinstance(one, list):
        both = [*one, *[None] * (len(other) - len(one))]
        return [
            b if a is None else a for a, b in zip(both, [*other, *both[len(other) :]], strict=True)
        ]
    return {**one, **{k: merged(one[k], v) if k in one else v for k, v in other.items()}}


@st.composite
def messages(draw: st.DrawFn, layout: Layout) -> bytes:
    """The text of a message that is usual but for a few things, or for none."""
    form = draw(st.sampled_from(["", "", "no gyroscope", "arrays", "arrays, no gyroscope", "list"]))
    count = draw(st.integers(0, 3))
    whole = document(layout, form, [f"@{place}" for place in range(30)], count)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,\t", "\r: ")]))
    text = json.dumps(whole, separators=separators).encode()
    texts = draw(st.lists(st.sampled_from(USUAL) | FLOATS, min_size=30, max_size=30))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        texts[draw(st.integers(0, 29))] = draw(st.sampled_from(ODD))
    for place, one in enumerate(texts):
        text = text.replace(b'"@%d"' % place, one)
    more = draw(st.sampled_from([*[b""] * 12, *[UNWANTED] * 12, *DOUBLES]))
    if more and b"}" in text:
        place = text.rindex(b"}")
        text = text[:place] + more + text[place:]
    for _ in range(draw(st.sampled_from([*[0] * 8, 1, 2]))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.binary(max_size=2)) + text[place + draw(st.integers(0, 2)) :]
    begin, end = draw(st.sampled_from(AROUND))
    return bytes(begin + text + end)


FLOATS = st.floats(0, 99).map(lambda one: repr(one).encode())
UNWANTED = b',"x":{"y":[1,null,true,false,"z"],"e":{}}'
AROUND = [*[(b"", b"")] * 20, (b" ", b"\n"), (b"[", b"]"), (b"", b"{}"), (b"\xef\xbb\xbf", b"\0")]
DOUBLES = [
    b',"accel_x":2', b',"acc":{"x":1}', b',"gyro":null', b',"device_id":"other"', b',"device_id":1',
    b',"id":"b"', b',"ts":1', b',"data":[]', b',"timestamp":"1"', b',"s":"\\n"', b',"s":"\xff"',
]  # fmt: skip


@st.composite
def polls(draw: st.DrawFn) -> tuple[int, list[bytes | None]]:
    """The number of a layout, and messages of it."""
    number = draw(st.integers(0, len(LAYOUTS) - 1))
    layout = Layout.of(InputSettings.model_validate(LAYOUTS[number]))
    return number, draw(st.lists(messages(layout), min_size=1, max_size=5))


@example((0, [None, b'{"accel_x":1,"accel_y":2,"accel_z":3,"timestamp":-0}']))
@given(polls())
def test_both_give_the_same_bits_and_errors(poll: tuple[int, list[bytes | None]]) -> None:
    number, values = poll
    same(number, values)


def same(number: int, values: list[bytes | None]) -> Decoded:
    """Decode messages of a layout by both decoders."""
    times = 1_700_000_000_000 + np.arange(len(values))
    ids = ["17", "phone", '"a"', "phone", "x" * 257][: len(values)]
    one, other = (decode_with(made, values, ids, times, NOW_US) for made in MADE[number])
    assert one.message.tolist() == other.message.tolist()
    assert one.time_us.tolist() == other.time_us.tolist()
    assert one.axes.tobytes() == other.axes.tobytes()
    errors, expected = (
        {row: (str(error), error.time_us) for row, error in decoded.invalid.items()}
        for decoded in (one, other)
    )
    assert errors == expected
    return one


SINGLE = ["", "no gyroscope"]
ARRAYS = ["arrays", "arrays, no gyroscope"]
READ: dict[int, list[str]] = {
    0: [*SINGLE, *ARRAYS],
    2: [*SINGLE, *ARRAYS, "list"],
    3: [*SINGLE, *ARRAYS],
    4: SINGLE,
    5: [*SINGLE, *ARRAYS],
    6: ["", "list"],
    7: ["", "list"],
    8: [*SINGLE, "list"],
    9: [*SINGLE, *ARRAYS, "list"],
}
"""Forms of each layout's messages that it has to read itself."""


@pytest.mark.parametrize(
    ("number", "form"), [(n, form) for n, forms in READ.items() for form in forms]
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_it_reads_the_usual_messages_itself(
    number: int, form: str, separators: tuple[str, str]
) -> None:
    layout = Layout.of(InputSettings.model_validate(LAYOUTS[number]))
    made = NativeJson.plain() if layout.is_plain else NativeJson.of(layout)
    assert made is not None
    numbers = [1_700_000_000 + place / 80 for place in range(30)]
    value = json.dumps(document(layout, form, numbers, 3), separators=separators).encode()
    read = made.decode([value, value])
    assert not read.others
    assert read.device_ids == ([b"phone"] * 2 if layout.device_id else [])
    many = form in {*ARRAYS, "list"}
    assert read.columns.message.tolist() == ([0, 0, 0, 1, 1, 1] if many else [0, 1])


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18))
def test_numbers_have_the_bits_of_python(number: float) -> None:
    check_bits(repr(number))


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)
def test_texts_of_numbers_have_the_bits_of_python(text: str) -> None:
    check_bits(text)


def check_bits(text: str) -> None:
    made = NativeJson.plain()
    assert made is not None
    value = f'{{"accel_x":{text},"accel_y":{text} ,"accel_z":{text}}}'.encode()
    read = made.decode([value])
    expected = float(text)
    if read.others:
        assert abs(expected) > 1e18 or (expected == 0 and text.startswith("-") and "." not in text)
    else:
        assert read.columns.columns[1:4].tobytes() == np.full(3, expected).tobytes()


def test_a_message_that_is_not_to_be_read_gives_nothing() -> None:
    made = make_format(InputSettings(fields=NESTED, device_id="header:device"))
    value = b'{"ts":1,"acc":{"x":1,"y":2,"z":3}}'
    opened = made.open([None] * 3, [value] * 3, lambda row: [("device", b"a")] if row % 2 else [])
    assert list(opened.invalid) == [0, 2]
    times = np.full(3, 1_700_000_000_000)
    decoded = made.decode(Messages(opened.values, ["", "a", ""], times, NOW_US))
    assert decoded.message.tolist() == [1]
    with pytest.raises(RuntimeError, match="opened together"):
        made.decode(Messages(opened.values[1:], ["a", ""], times[1:], NOW_US))


@pytest.mark.parametrize(
    "settings",
    [
        {"numeric_strings": True},
        {"time_unit": "iso8601"},
        {"fields": NESTED, "readings": "data", "device_id": "data.0.id"},
        {"fields": {**NESTED, "gyro_x": 'a"b'}},
        {"fields": {**NESTED, "gyro_x": "list.-1"}},
        {"fields": {**NESTED, "gyro_x": "list.64"}},
    ],
)
def test_other_layouts_are_for_python(settings: dict[str, Any]) -> None:
    assert NativeJson.of(Layout.of(InputSettings.model_validate(settings))) is None


def test_what_is_left_to_python_leaves_nothing_in_the_columns() -> None:
    made = NativeJson.plain()
    assert made is not None
    unequal = b'{"timestamp":[1,2],"accel_x":[1,2],"accel_y":[1,2],"accel_z":[1]}'
    single = b'{"accel_x":1,"accel_y":2,"accel_z":3}'
    read = made.decode([unequal, single, b"[", None, single])
    assert read.others == [0, 2, 3]
    assert read.columns.message.tolist() == [1, 4]
