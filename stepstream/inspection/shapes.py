"""Where in documents the readings seem to be, by well-known names and by what is there."""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from stepstream.inputs.paths import MISSING, Path
from stepstream.inspection import names
from stepstream.settings.paths import EACH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Shape", "epoch_unit", "find_packed_text", "find_shape"]

Parts = tuple[str | int, ...]

MAX_DEPTH = 6
MAX_LEAVES = 500
MAX_ITEMS = 100
"""Items of a message's list that are looked at."""
AXES = tuple(f"{sensor}_{axis}" for sensor in ("accel", "gyro") for axis in "xyz")
EPOCHS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""How many are in a second."""
EARLIEST_S, LATEST_S = 1e9, 4e9
"""2001 to 2096: times of two units never overlap."""


class Leaf(NamedTuple):
    """A value in a document that is no object, and where it is."""

    parts: Parts
    value: Any


@dataclass
class Shape:
    """Settings of `input` that say where the readings are.

    Attributes
    ----------
    fields
        Paths by field.
    settings
        All others.
    lacks
        What isn't there and can't be told by settings, in words.
    """

    fields: dict[str, Path]
    settings: dict[str, Any] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)


def find_shape(documents: Sequence[Any]) -> Shape | None:
    """Find the readings in documents of one topic; None if nothing looks like readings."""
    shape = _of_lists(documents)
    if shape is not None:
        return shape
    # A message that is a reading comes before a list somewhere in it.
    for where, lists in _places(documents):
        shape = _of_names(where, lists, documents) or _of_places(where, lists, documents)
        if shape is not None:
            return shape
    return None


def find_packed_text(document: Any) -> Path | None:
    """Where a document has text with another document in it, as JSON, perhaps in base64."""
    for parts, value in _leaves(document):
        if isinstance(value, str) and (_is_json(value.encode()) or _is_json(_from_base64(value))):
            return Path(parts)
    return None


def _from_base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode(), strict_mode=True)
    except ValueError:
        return b""


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(orjson.loads(text), dict | list)
    except orjson.JSONDecodeError:
        return False


def epoch_unit(number: float) -> str | None:
    """The unit in which a number is a time between 2001 and 2096, if there is one."""
    for unit, per_second in EPOCHS.items():
        if EARLIEST_S <= number / per_second <= LATEST_S:
            return unit
    return None


def _places(documents: Sequence[Any]) -> Iterator[tuple[Parts | None, list[list[Any]]]]:
    """Where readings may be: a path to lists of them, and what is there in each document."""
    if any(isinstance(document, dict) for document in documents):
        yield None, [[document] for document in documents if isinstance(document, dict)]
    lists: dict[Parts, list[list[Any]]] = {}
    for document in documents:
        for parts, items in _lists(document, ()):
            lists.setdefault(parts, []).append(items[:MAX_ITEMS])
    for parts, found in sorted(lists.items(), key=lambda place: len(place[0])):
        yield parts or None, found
    numbers = [[document] for document in documents if _numbers(document) is not None]
    if numbers:
        yield None, numbers


def _lists(node: Any, parts: Parts) -> Iterator[tuple[Parts, list[Any]]]:
    """All lists of objects or of lists in a document."""
    if _is_list(node):
        yield parts, node
    elif isinstance(node, dict) and len(parts) < MAX_DEPTH:
        for name, inner in _named(node):
            yield from _lists(inner, (*parts, name))


def _named(node: dict[Any, Any]) -> list[tuple[str | int, Any]]:
    """What is in an object under names that a path can have."""
    return [
        (name, inner) for name, inner in node.items() if isinstance(name, str | int) and name != ""
    ]


def _leaves(node: Any) -> list[Leaf]:
    found: list[Leaf] = []

    def walk(node: Any, parts: Parts) -> None:
        if len(found) >= MAX_LEAVES:
            return
        if isinstance(node, dict) and len(parts) < MAX_DEPTH:
            for name, inner in _named(node):
                walk(inner, (*parts, name))
        elif parts and node is not None:
            found.append(Leaf(parts, node))

    walk(node, ())
    return found


def _numbers(value: Any) -> list[float] | None:
    """A list of numbers, which may be written as text; None if it is something else."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list) or not value:
        return None
    numbers = [_number(one) for one in value]
    return None if None in numbers else numbers  # type: ignore[return-value]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _of_names(
    where: Parts | None, lists: list[list[Any]], documents: Sequence[Any]
) -> Shape | None:
    items = [item for items in lists for item in items if isinstance(item, dict)]
    if not items:
        return None
    leaves = [_leaves(item) for item in items]
    fields = _axes(leaves)
    settings: dict[str, Any] = {}
    if "accel_x" not in fields:
        split = _split(leaves) or _split(_with_outer_names(where, lists, documents))
        if split is None:
            return None
        fields, settings = split
    if where is not None:
        settings["readings"] = str(Path(where))
    first = next(own for own in leaves if _at(own, fields["accel_x"]) is not None)
    value = _at(first, fields["accel_x"])
    is_column = _numbers(value) is not None
    if isinstance(value[0] if is_column else value, str):
        settings["numeric_strings"] = True
    shape = Shape({name: Path(parts) for name, parts in fields.items()}, settings)
    beside = _leaves(documents[0]) if where is not None else []
    _add_times(shape, first, beside, is_batch=is_column or where is not None)
    _add_id(shape, documents, lists)
    return shape


def _of_lists(documents: Sequence[Any]) -> Shape | None:
    """A list of each sensor's readings, beside each other in a message."""
    fields: dict[str, Path] = {}
    lists: dict[str, Parts] = {}
    document = next((one for one in documents if isinstance(one, dict)), None)
    for where, items in _lists(document, ()):
        sensor = names.sensor_of(where[-1]) if where else None
        if sensor is None or sensor[0] in lists:
            continue
        if isinstance(items[0], dict):
            axes = dict(_single_axes(items[0]))
        else:
            axes = dict(zip("xyz", [(0,), (1,), (2,)], strict=True))
            axes = axes if len(_numbers(items[0]) or []) == len(axes) else {}
        if len(axes) == len("xyz"):
            lists[sensor[0]] = where
            for axis, parts in axes.items():
                fields[f"{sensor[0]}_{axis}"] = Path((*where, EACH, *parts))
    if len(lists) < 2:
        return None
    shape = Shape({name: fields[name] for name in AXES})
    first = Path(lists["accel"]).find(document)[0]
    own = [Leaf((*lists["accel"], EACH, *parts), value) for parts, value in _leaves(first)]
    _add_times(shape, own, _leaves(document), is_batch=True)
    _add_id(shape, documents, [])
    return shape


def _single_axes(item: Any) -> Iterator[tuple[str, Parts]]:
    """Axes without the name of a sensor in an object."""
    for parts, value in _leaves(item):
        axis = names.axis_of(parts)
        if axis is not None and _number(value) is not None:
            yield axis[0], parts


def _with_outer_names(
    where: Parts | None, lists: list[list[Any]], documents: Sequence[Any]
) -> list[list[Leaf]]:
    """The leaves of items, and the text that stands beside their list in the message."""
    if where is None:
        return []
    path = Path(where)
    owners = [document for document in documents if _is_list(path.find(document))]
    return [
        _leaves(item) + [leaf for leaf in _leaves(owner) if isinstance(leaf.value, str)]
        for items, owner in zip(lists, owners, strict=False)
        for item in items
        if isinstance(item, dict)
    ]


def _is_list(node: Any) -> bool:
    """Whether it may be a list of readings."""
    return isinstance(node, list) and bool(node) and isinstance(node[0], dict | list)


def _at(leaves: list[Leaf], parts: Parts) -> Any:
    """What is at a path, a place in a list included."""
    for leaf in leaves:
        if leaf.parts == parts:
            return leaf.value
        if leaf.parts == parts[:-1] and isinstance(parts[-1], int):
            found = Path(parts[-1:]).find(leaf.value)
            return None if found is MISSING else found
    return None


def _axes(leaves: list[list[Leaf]]) -> dict[str, Parts]:
    """Paths of the axes whose names say which sensor they are of; of all three or of none."""
    found: dict[str, dict[tuple[int, Parts], dict[str, Parts]]] = {"accel": {}, "gyro": {}}
    for own in leaves:
        for stem, axis, parts in _vectors(own):
            sensor = names.sensor_of(stem) if stem is not None else None
            if sensor is not None:
                group = found[sensor[0]].setdefault((-sensor[1], parts[:-1]), {})
                group.setdefault(axis, parts)
    fields: dict[str, Parts] = {}
    for sensor_name, groups in found.items():
        whole = [item for item in groups.items() if len(item[1]) == 3]
        if whole:
            chosen = min(whole, key=lambda item: (item[0][0], len(item[0][1])))[1]
            fields |= {f"{sensor_name}_{axis}": chosen[axis] for axis in "xyz"}
    return fields


def _vectors(leaves: list[Leaf]) -> Iterator[tuple[str | None, str, Parts]]:
    """Name of the sensor, axis and path of each number that may be of an axis."""
    for parts, value in leaves:
        numbers = _numbers(value)
        axis = names.axis_of(parts)
        if axis is not None and (numbers is not None or _number(value) is not None):
            yield axis[1], axis[0], parts
        elif numbers is not None and len(numbers) == 3:
            for place, letter in enumerate("xyz"):
                yield str(parts[-1]), letter, (*parts, place)


def _split(leaves: list[list[Leaf]]) -> tuple[dict[str, Parts], dict[str, Any]] | None:
    """Axes that both sensors have at the same paths, and the field that says which it is."""
    kinds: dict[Parts, dict[str, tuple[int, Any]]] = {}
    for own in leaves:
        for parts, value in own:
            sensor = names.sensor_of(value) if isinstance(value, str) else None
            if sensor is not None:
                known = kinds.setdefault(parts, {})
                if sensor[0] not in known or known[sensor[0]][0] < sensor[1]:
                    known[sensor[0]] = (sensor[1], value)
    for path, by_sensor in kinds.items():
        if "accel" not in by_sensor:
            continue
        chosen = {name: value for name, (_, value) in by_sensor.items()}
        # Without one, its name is a guess, and its axes are where those of the other are.
        named = chosen.get("gyro", chosen["accel"])
        fields: dict[str, Parts] = {}
        for name, value in (("accel", chosen["accel"]), ("gyro", named)):
            own = next(own for own in leaves if Leaf(path, value) in own)
            vector = {axis: parts for _, axis, parts in _vectors(own)}
            if len(vector) < 3:
                break
            fields |= {f"{name}_{axis}": vector[axis] for axis in "xyz"}
        else:
            sensor_setting = {
                "path": str(Path(path)),
                "accelerometer": chosen["accel"],
                "gyroscope": chosen.get("gyro", "gyroscope"),
            }
            return fields, {"sensor": sensor_setting}
    return None


def _add_times(shape: Shape, own: list[Leaf], beside: list[Leaf], *, is_batch: bool) -> None:
    """Find the time of each reading, or the first and a distance."""
    for leaves, is_shared in ((own, False), (beside, True)):
        for parts, value in _times(leaves):
            numbers = _numbers(value)
            unit = _unit(numbers[0] if numbers and not isinstance(value, str) else value)
            if unit is None:
                continue
            shape.settings["time_unit"] = unit
            is_first = numbers is None and (is_shared or _is_column(shape, own))
            if not (is_first and is_batch):
                shape.fields["timestamp"] = Path(parts)
                return
            shape.fields["start"] = Path(parts)
            if not _add_distance(shape, [*own, *beside]):
                shape.lacks.append(
                    f"{Path(parts)} is one time for several readings, and nothing says how far "
                    "they are apart: if you know their rate, set STEPSTREAM_INPUT__RATE"
                )
            return
    if is_batch:
        if not _add_distance(shape, [*own, *beside]):
            shape.lacks.append("the readings of a message have no time")
        shape.settings["time_unit"] = "record"
    elif _times(own):
        shape.settings["time_unit"] = "record"


def _is_column(shape: Shape, own: list[Leaf]) -> bool:
    parts = shape.fields["accel_x"].parts
    return any(leaf.parts == parts and _numbers(leaf.value) is not None for leaf in own)


def _times(leaves: list[Leaf]) -> list[Leaf]:
    """What may be a time, the likeliest first: by its name, or else by its size."""
    ranked = [(names.time_rank(leaf.parts[-1]), leaf) for leaf in leaves]
    known = [(rank, leaf) for rank, leaf in ranked if rank is not None]
    others = [
        leaf
        for rank, leaf in ranked
        if rank is None
        and not (names.is_id(leaf.parts) or isinstance(leaf.value, list | str))
        and _unit(leaf.value)
    ]
    return [leaf for _, leaf in sorted(known, key=itemgetter(0))] + others


def _unit(value: Any) -> str | None:
    if isinstance(value, datetime):
        return "s"
    number = _number(value)
    if number is not None:
        return epoch_unit(number)
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return None
        return "iso8601"
    return None


def _add_distance(shape: Shape, leaves: list[Leaf]) -> bool:
    for name, is_one in (("rate", names.is_rate), ("period", names.is_period)):
        for parts, value in leaves:
            if is_one(parts[-1]) and _number(value):
                shape.fields[name] = Path(parts)
                return True
    return False


def _add_id(shape: Shape, documents: Sequence[Any], lists: list[list[Any]]) -> None:
    """Find the device id in the documents or in the items of lists."""
    inner = [items[0] for items in lists if items]
    for nodes in (documents, inner):
        values: dict[Parts, list[Any]] = {}
        for node in nodes:
            for parts, value in _leaves(node):
                if isinstance(value, str | int) and not isinstance(value, bool):
                    values.setdefault(parts, []).append(value)
        for parts, found in values.items():
            # The ids of messages are all different.
            repeats = len(set(found)) <= len(found) / 2
            if names.is_id(parts) or (names.may_be_id(parts) and repeats):
                shape.settings.setdefault("device_id", str(Path(parts)))
                if names.is_id(parts):
                    shape.settings["device_id"] = str(Path(parts))
                    return


def _of_places(
    where: Parts | None, lists: list[list[Any]], documents: Sequence[Any]
) -> Shape | None:
    rows = [numbers for items in lists for item in items if (numbers := _numbers(item)) is not None]
    if not rows or len({len(row) for row in rows}) > 1 or _name_gyroscope(documents):
        return None
    table = np.array(rows)
    times = [
        (place, unit)
        for place in range(table.shape[1])
        if (unit := epoch_unit(float(np.median(table[:, place])))) is not None
    ]
    others = [place for place in range(table.shape[1]) if not times or place != times[0][0]]
    if len(others) not in {3, 6}:
        return None
    shape = Shape({name: Path((place,)) for name, place in zip(AXES, others, strict=False)})
    if where is not None:
        shape.settings["readings"] = str(Path(where))
    if times:
        shape.fields["timestamp"] = Path((times[0][0],))
        shape.settings["time_unit"] = times[0][1]
    else:
        beside = _leaves(documents[0]) if where is not None else []
        _add_times(shape, [], beside, is_batch=True)
    _add_id(shape, documents, [])
    return shape


def _name_gyroscope(documents: Sequence[Any]) -> bool:
    """Whether some messages say that they are of a gyroscope: places are then not all of both."""
    return any(
        isinstance(leaf.value, str) and names.sensor_of(leaf.value) == ("gyro", 0)
        for document in documents
        for leaf in _leaves(document)
    )
