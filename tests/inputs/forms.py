"""Messages as devices, gateways and their libraries write them, and the settings that read them."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import cbor2
import msgspec
import numpy as np

from tests.streaming.records import FakeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
BATCH = 40
DEVICE = "17"
UUID = uuid.UUID("6fa459ea-ee8a-4ca4-894e-db77e160355e")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
G = 9.80665


class Row(NamedTuple):
    """One reading: microseconds since the epoch, m/s^2, rad/s."""

    time_us: int
    accel: tuple[float, float, float]
    gyro: tuple[float, float, float]


@dataclass(frozen=True)
class Form:
    """One way to write messages.

    Attributes
    ----------
    write
        The values of some readings' messages: one reading a message, or `BATCH`.
    settings
        What reads them.
    key, headers, device_id
        Of each message, and the device that it is of.
    encode
        From a document to bytes.
    time_step_us, accel_step
        Times and accelerations are multiples of these.
    """

    write: Callable[[list[Row]], Any]
    settings: dict[str, Any]
    batch: int = 1
    key: bytes | None = DEVICE.encode()
    headers: tuple[tuple[str, bytes], ...] = ()
    device_id: str = DEVICE
    encode: Callable[[Any], bytes] = lambda document: json.dumps(document).encode()
    time_step_us: int = 1
    accel_step: float | None = None

    def rows(self, time_us: NDArray[np.int64], axes: NDArray[np.float64]) -> list[Row]:
        """A recording as this form can express it."""
        time_us = time_us // self.time_step_us * self.time_step_us
        accel = axes[:, :3]
        if self.accel_step:
            accel = np.rint(accel / self.accel_step) * self.accel_step
        return [
            Row(time, tuple(a), tuple(g))
            for time, a, g in zip(
                time_us.tolist(), accel.tolist(), axes[:, 3:].tolist(), strict=True
            )
        ]

    def records(self, rows: list[Row]) -> Iterator[FakeRecord]:
        """The messages."""
        for offset, begin in enumerate(range(0, len(rows), self.batch)):
            these = rows[begin : begin + self.batch]
            value = self.encode(self.write(these))
            time_ms = these[-1].time_us // 1000
            yield FakeRecord(self.key, value, offset, time_ms, list(self.headers))


def fields(*paths: str, timestamp: str = "timestamp", **more: str) -> dict[str, str]:
    """Paths of the axes, by name."""
    return {"timestamp": timestamp, **dict(zip(AXES, paths, strict=False)), **more}


def vector(values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip("xyz", values, strict=True))


def iso(time_us: int) -> str:
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


def plain(row: Row) -> dict[str, Any]:
    return {
        "timestamp": row.time_us / 1e6,
        **dict(zip(AXES, (*row.accel, *row.gyro), strict=True)),
    }


def nested(row: Row) -> dict[str, Any]:
    return {"ts": row.time_us / 1e6, "acc": vector(row.accel), "gyro": vector(row.gyro)}


def columns(rows: list[Row]) -> dict[str, Any]:
    return {name: [plain(row)[name] for row in rows] for name in ("timestamp", *AXES)}


def without_times(rows: list[Row]) -> dict[str, Any]:
    return {name: numbers for name, numbers in columns(rows).items() if name != "timestamp"}


NESTED = fields("acc.x", "acc.y", "acc.z", "gyro.x", "gyro.y", "gyro.z", timestamp="ts")
ARRAYS = fields("acc.0", "acc.1", "acc.2", "gyro.0", "gyro.1", "gyro.2", timestamp="ts")
PLACES = fields("1", "2", "3", "4", "5", "6", timestamp="0")
CAMEL = fields("accelX", "accelY", "accelZ", "gyroX", "gyroY", "gyroZ", timestamp="eventTime")
BY_KEY = {"fields": NESTED}
MILLI_G = G / 1000


def by_sensor(rows: list[Row]) -> dict[str, Any]:
    """Items of one sensor each, as phone apps send them."""
    return {
        "payload": [
            {"name": name, "time": row.time_us * 1000, "values": vector(values)}
            for name, of_row in (("accelerometer", "accel"), ("gyroscope", "gyro"))
            for row in rows
            for values in [getattr(row, of_row)]
        ]
    }


FORMS = {
    "items of one sensor each": Form(
        by_sensor,
        {
            "readings": "payload",
            "time_unit": "ns",
            "sensor": {
                "path": "name",
                "accelerometer": "accelerometer",
                "gyroscope": "gyroscope",
            },
            "fields": fields(*(f"values.{axis}" for axis in "xyzxyz"), timestamp="time"),
        },
        BATCH,
    ),
    "nested objects": Form(lambda rows: nested(rows[0]), {"fields": NESTED}),
    "nested deeply, among other things": Form(
        lambda rows: {"v": 2, "payload": {"imu": nested(rows[0]), "temp": None}, "tags": ["a", {}]},
        {"fields": {name: f"payload.imu.{path}" for name, path in NESTED.items()}},
    ),
    "names with dots": Form(
        lambda rows: {f"imu.{name}": number for name, number in plain(rows[0]).items()},
        {"fields": {name: f"imu\\.{name}" for name in ("timestamp", *AXES)}},
    ),
    "arrays of three": Form(
        lambda rows: {
            "ts": rows[0].time_us / 1e6,
            "acc": list(rows[0].accel),
            "gyro": list(rows[0].gyro),
        },
        {"fields": ARRAYS},
    ),
    "a list of numbers": Form(
        lambda rows: [rows[0].time_us / 1e6, *rows[0].accel, *rows[0].gyro], {"fields": PLACES}
    ),
    "objects in a field": Form(
        lambda rows: {"device": {"model": "x"}, "data": [nested(row) for row in rows]},
        {"readings": "data", "fields": NESTED},
        BATCH,
    ),
    "objects in a field of a field": Form(
        lambda rows: {"payload": {"samples": [plain(row) for row in rows]}},
        {"readings": "payload.samples"},
        BATCH,
    ),
    "objects as the whole message": Form(
        lambda rows: [nested(row) for row in rows], {"fields": NESTED}, BATCH
    ),
    "lists in a field": Form(
        lambda rows: {"data": [[row.time_us / 1e6, *row.accel, *row.gyro] for row in rows]},
        {"readings": "data", "fields": PLACES},
        BATCH,
    ),
    "lists as the whole message": Form(
        lambda rows: [[row.time_us / 1e6, *row.accel, *row.gyro] for row in rows],
        {"fields": PLACES},
        BATCH,
    ),
    "columns with other names": Form(
        lambda rows: {
            "t": [row.time_us / 1e6 for row in rows],
            "acc": {axis: [row.accel[i] for row in rows] for i, axis in enumerate("xyz")},
            "gyro": {axis: [row.gyro[i] for row in rows] for i, axis in enumerate("xyz")},
        },
        {"fields": {**NESTED, "timestamp": "t"}},
        BATCH,
    ),
    "a list of triples and times beside them": Form(
        lambda rows: {
            "t": [row.time_us / 1e6 for row in rows],
            "samples": [[*row.accel, *row.gyro] for row in rows],
        },
        {"readings": "samples", "fields": fields("0", "1", "2", "3", "4", "5", timestamp="t")},
        BATCH,
    ),
    "a list of objects for each sensor": Form(
        lambda rows: {
            "t": [row.time_us / 1e6 for row in rows],
            "data": {
                "arrayAcc": [vector(row.accel) for row in rows],
                "arrayGyro": [vector(row.gyro) for row in rows],
            },
        },
        {
            "fields": fields(
                *(f"data.array{name}.*.{axis}" for name in ("Acc", "Gyro") for axis in "xyz"),
                timestamp="t",
            )
        },
        BATCH,
    ),
    "a list of triples for each sensor": Form(
        lambda rows: {
            "ts": [row.time_us // 1000 for row in rows],
            "acc": [list(row.accel) for row in rows],
            "gyr": [list(row.gyro) for row in rows],
        },
        {
            "fields": fields(
                *(f"{name}.*.{place}" for name in ("acc", "gyr") for place in range(3)),
                timestamp="ts",
            ),
            "time_unit": "ms",
        },
        BATCH,
        time_step_us=1000,
    ),
    "columns, a first time and a period": Form(
        lambda rows: {**without_times(rows), "t0": rows[0].time_us / 1e6, "dt": 0.0125},
        {"fields": {"start": "t0", "period": "dt"}},
        BATCH,
    ),
    "columns, a first time and a rate": Form(
        lambda rows: {**without_times(rows), "meta": {"t0": rows[0].time_us / 1e6, "hz": 80}},
        {"fields": {"start": "meta.t0", "rate": "meta.hz"}},
        BATCH,
    ),
    "objects, a first time and a rate": Form(
        lambda rows: {
            "t0": iso(rows[0].time_us),
            "hz": 80,
            "data": [{"a": list(row.accel), "g": list(row.gyro)} for row in rows],
        },
        {
            "readings": "data",
            "time_unit": "iso8601",
            "fields": {
                **dict(zip(AXES, ("a.0", "a.1", "a.2", "g.0", "g.1", "g.2"), strict=True)),
                "start": "t0",
                "rate": "hz",
            },
        },
        BATCH,
    ),
    "batches in a list": Form(
        lambda rows: {"parts": [columns(rows[:15]), columns(rows[15:])]},
        {"readings": "parts"},
        BATCH,
    ),
    "camel case": Form(
        lambda rows: dict(zip(CAMEL.values(), plain(rows[0]).values(), strict=True)),
        {"fields": CAMEL},
    ),
    "numbers as strings": Form(
        lambda rows: {name: str(number) for name, number in plain(rows[0]).items()},
        {"numeric_strings": True},
    ),
    "columns of strings": Form(
        lambda rows: {name: list(map(str, numbers)) for name, numbers in columns(rows).items()},
        {"numeric_strings": True},
        BATCH,
    ),
    "ISO 8601": Form(
        lambda rows: {**plain(rows[0]), "timestamp": iso(rows[0].time_us)},
        {"time_unit": "iso8601"},
    ),
    "ISO 8601 with a zone": Form(
        lambda rows: {
            **plain(rows[0]),
            "timestamp": datetime.fromisoformat(iso(rows[0].time_us))
            .astimezone(tz=None)
            .isoformat(),
        },
        {"time_unit": "iso8601"},
    ),
    "integer milliseconds": Form(
        lambda rows: {**nested(rows[0]), "ts": rows[0].time_us // 1000},
        {"fields": NESTED, "time_unit": "ms"},
        time_step_us=1000,
    ),
    "integer microseconds": Form(
        lambda rows: {**nested(rows[0]), "ts": rows[0].time_us},
        {"fields": NESTED, "time_unit": "us"},
    ),
    "integer nanoseconds": Form(
        lambda rows: {**nested(rows[0]), "ts": rows[0].time_us * 1000},
        {"fields": NESTED, "time_unit": "ns"},
    ),
    "the record's time": Form(
        lambda rows: {name: number for name, number in plain(rows[0]).items() if name in AXES},
        {"time_unit": "record"},
        time_step_us=1000,
    ),
    "integers of a thousandth g": Form(
        lambda rows: {
            "ts": rows[0].time_us / 1e6,
            "acc": [round(one / MILLI_G) for one in rows[0].accel],
            "gyro": list(rows[0].gyro),
        },
        {"fields": ARRAYS, "accel_unit": "mg"},
        accel_step=MILLI_G,
    ),
    "raw counts": Form(
        lambda rows: {
            "ts": rows[0].time_us / 1e6,
            "acc": [round(one / G * 8192) for one in rows[0].accel],
            "gyro": [one * 180 / np.pi * 131 for one in rows[0].gyro],
        },
        {"fields": ARRAYS, "accel_unit": "g/8192", "gyro_unit": "deg/s/131"},
        accel_step=G / 8192,
    ),
    "a null gyroscope in some messages": Form(
        lambda rows: {
            **nested(rows[0]),
            "gyro": None if rows[0].gyro == (0, 0, 0) else nested(rows[0])["gyro"],
        },
        {"fields": NESTED},
    ),
    "a key that is a JSON string": Form(
        lambda rows: nested(rows[0]), {**BY_KEY, "key": "json"}, key=b'"17"'
    ),
    "a key that is a JSON number": Form(
        lambda rows: nested(rows[0]), {**BY_KEY, "key": "json"}, key=b"17"
    ),
    "a key of four bytes": Form(
        lambda rows: nested(rows[0]), {**BY_KEY, "key": "int32"}, key=bytes([0, 0, 0, 17])
    ),
    "a key of eight bytes": Form(
        lambda rows: nested(rows[0]), {**BY_KEY, "key": "int64"}, key=(17).to_bytes(8, "big")
    ),
    "a key that is a UUID": Form(
        lambda rows: nested(rows[0]),
        {**BY_KEY, "key": "uuid"},
        key=UUID.bytes,
        device_id=str(UUID),
    ),
    "the id in a header": Form(
        lambda rows: plain(rows[0]),
        {"device_id": "header:device"},
        key=None,
        headers=(("traceparent", b"00-1"), ("device", b"17")),
    ),
    "the id in the value": Form(
        lambda rows: {"device": {"id": "17"}, **nested(rows[0])},
        {**BY_KEY, "device_id": "device.id"},
        key=None,
    ),
    "the id in the value, an integer": Form(
        lambda rows: {"id": 17, **nested(rows[0])}, {**BY_KEY, "device_id": "id"}, key=b"any"
    ),
    "the id in each reading": Form(
        lambda rows: [{"id": "17", **nested(row)} for row in rows],
        {**BY_KEY, "device_id": "id"},
        BATCH,
        key=None,
    ),
    "the id beside the readings": Form(
        lambda rows: {"id": "17", "data": [nested(row) for row in rows]},
        {**BY_KEY, "device_id": "id", "readings": "data"},
        BATCH,
        key=None,
    ),
    "MessagePack": Form(
        lambda rows: nested(rows[0]), {**BY_KEY, "format": "msgpack"}, encode=msgspec.msgpack.encode
    ),
    "MessagePack in columns": Form(
        columns, {"format": "msgpack"}, BATCH, encode=msgspec.msgpack.encode
    ),
    "MessagePack, a list": Form(
        lambda rows: [nested(row) for row in rows],
        {**BY_KEY, "format": "msgpack"},
        BATCH,
        encode=msgspec.msgpack.encode,
    ),
    "MessagePack's own times": Form(
        lambda rows: {**nested(rows[0]), "ts": EPOCH + timedelta(microseconds=rows[0].time_us)},
        {**BY_KEY, "format": "msgpack"},
        encode=msgspec.msgpack.encode,
    ),
    "CBOR": Form(lambda rows: nested(rows[0]), {**BY_KEY, "format": "cbor"}, encode=cbor2.dumps),
    "CBOR with numbers as names": Form(
        lambda rows: dict(enumerate(plain(rows[0]).values())),
        {"fields": PLACES, "format": "cbor"},
        encode=cbor2.dumps,
    ),
    "CBOR with typed arrays": Form(
        lambda rows: {
            name: cbor2.CBORTag(86, np.array(numbers, "<f8").tobytes())
            for name, numbers in columns(rows).items()
        },
        {"format": "cbor"},
        BATCH,
        encode=cbor2.dumps,
    ),
}
