from __future__ import annotations

import gzip
import importlib.util
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import fastavro
import msgspec
import numpy as np
import pytest

from stepstream.cli import main
from stepstream.detection import series
from stepstream.inputs import ACCELEROMETER
from stepstream.simulation.walkers import Walker
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_walk(path: Path, seed: int = 1, seconds: float = 20.0) -> Path:
    time_s, axes = Walker(seed, 100.0, gyroscope=False).read(seconds)
    table = np.column_stack([time_s, axes[:, :3]])
    header = "time,accel_x,accel_y,accel_z"
    np.savetxt(path, table, fmt="%.6f", delimiter=",", header=header, comments="")
    return path


def detect(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    assert main(["detect", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_steps_are_printed_like_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = detect(capsys, write_walk(tmp_path / "phone-1.csv"))
    true = [s for s in Walker(1, 100.0).steps_until(19.4) if s[0] > 1.4]
    assert len(steps) == pytest.approx(len(true), rel=0.1)
    assert list(steps[0]) == [
        "device_id", "step_count", "started_at", "ended_at", "start_probability",
        "end_probability", "model",
    ]  # fmt: skip
    assert [step["step_count"] for step in steps] == list(range(1, len(steps) + 1))
    assert {step["device_id"] for step in steps} == {"phone-1"}
    ends = [step["ended_at"] for step in steps]
    assert ends == sorted(ends)


def test_every_file_is_a_device_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write_walk(tmp_path / "a.csv"), write_walk(tmp_path / "b.csv", seed=2)
    both = detect(capsys, first, second)
    alone = [*detect(capsys, first), *detect(capsys, second)]
    assert both == alone
    assert {step["device_id"] for step in both} == {"a", "b"}


def test_the_size_of_the_pieces_does_not_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_walk(tmp_path / "a.csv")
    whole = detect(capsys, path)
    monkeypatch.setattr(series, "CHUNK", 37)
    assert detect(capsys, path) == whole


def test_a_plot_is_drawn_for_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        missing("matplotlib (extra plot)")
    first, second = write_walk(tmp_path / "a.csv"), write_walk(tmp_path / "b.csv", seconds=6.0)
    detect(capsys, first, "--plot", tmp_path / "one.png")
    detect(capsys, first, second, "--plot", tmp_path / "two.png")
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == ["one.png", "two-a.png", "two-b.png"]
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_shows_the_moments_that_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        missing("matplotlib (extra plot)")
    walk = write_walk(tmp_path / "a.csv")
    for name, moments in (("one", "[4]"), ("same", "[4]"), ("other", "[9]"), ("two", "[4, 9]")):
        detect(capsys, walk, "--plot", tmp_path / f"{name}.png", "--around-s", moments)
    one, same, other, two = (
        (tmp_path / f"{name}.png").read_bytes() for name in ("one", "same", "other", "two")
    )
    assert one == same
    assert len({one, other, two}) == 3


def test_what_cannot_be_read_ends_with_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(tmp_path / "none.csv")]) == 1
    assert "none.csv: No such file" in capsys.readouterr().err
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    walk = write_walk(tmp_path / "a.csv")
    assert main(["detect", str(walk), "--model.path", str(tmp_path / "bad.tflite")]) == 1
    assert "no metadata" in capsys.readouterr().err


def test_files_of_messages_are_read_as_the_settings_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_walk(tmp_path / "phone.csv")
    expected = detect(capsys, table)
    rows = np.loadtxt(table, delimiter=",", skiprows=1).tolist()
    messages = [
        {"id": "phone", "t": round(t * 1e6), "acc": {"x": x, "y": y, "z": z}} for t, x, y, z in rows
    ]
    monkeypatch.setenv("STEPSTREAM_INPUT__TIME_UNIT", "us")
    monkeypatch.setenv("STEPSTREAM_INPUT__DEVICE_ID", "id")
    fields = {"timestamp": "t", **{f"accel_{axis}": f"acc.{axis}" for axis in "xyz"}}
    monkeypatch.setenv("STEPSTREAM_INPUT__FIELDS", json.dumps(fields))
    lines = tmp_path / "messages.jsonl.gz"
    lines.write_bytes(gzip.compress("\n".join(map(json.dumps, messages)).encode()))
    assert detect(capsys, lines) == expected
    packed = tmp_path / "messages.msgpack"
    packed.write_bytes(msgspec.msgpack.encode(messages))
    monkeypatch.setenv("STEPSTREAM_INPUT__FORMAT", "msgpack")
    assert detect(capsys, packed) == expected
    packed.write_bytes(msgspec.msgpack.encode([*messages[:3], {"id": "phone", "t": 1}]))
    assert main(["detect", str(packed)]) == 1
    assert "the file: missing-field: acc.x is missing" in capsys.readouterr().err


def walk_messages(tmp_path: Path) -> list[dict[str, float]]:
    """The readings of a walk, which is also in ``phone.csv``."""
    rows = np.loadtxt(write_walk(tmp_path / "phone.csv"), delimiter=",", skiprows=1)
    rows[:, 0] += 1_700_000_000
    header = ",".join(("time", *ACCELEROMETER))
    np.savetxt(tmp_path / "phone.csv", rows, "%.6f", delimiter=",", header=header, comments="")
    names = ("timestamp", *ACCELEROMETER)
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def packs(messages: list[dict[str, float]]) -> str:
    """A SenML pack in each line."""
    return "\n".join(
        json.dumps(
            [
                {"bn": "phone", "bt": one["timestamp"], "n": name, "v": one[f"accel_{name}"]}
                for name in "xyz"
            ]
        )
        for one in messages
    )


def kcat(messages: list[dict[str, float]]) -> str:
    """As ``kcat -J`` prints them; the time is that of the record only."""
    envelope = {"topic": "readings", "partition": 0, "key": "phone"}
    return "\n".join(
        json.dumps(
            {
                **envelope,
                "offset": offset,
                "ts": round(one["timestamp"] * 1000),
                "payload": json.dumps({name: one[name] for name in ACCELEROMETER}),
            }
        )
        for offset, one in enumerate(messages)
    )


FILES: dict[str, tuple[Callable[[list[dict[str, float]]], str], dict[str, str]]] = {
    "the id in the message": (
        lambda messages: "\n".join(json.dumps({"device_id": "phone", **one}) for one in messages),
        {},
    ),
    "behind their keys": (
        lambda messages: "\n".join(f'"phone"\t{json.dumps(one)}' for one in messages),
        {"KEY": "json"},
    ),
    "columns over several lines": (
        lambda messages: json.dumps(
            {name: [one[name] for one in messages] for name in messages[0]}, indent=1
        ),
        {},
    ),
    "a list with an object in each line": (
        lambda messages: "[\n" + ",\n".join(map(json.dumps, messages)) + "\n]\n",
        {"FIELDS": '{"timestamp": "timestamp"}'},
    ),
    "SenML": (
        packs,
        {
            "FORMAT": "senml",
            "DEVICE_ID": "bn",
            "FIELDS": '{"timestamp": "t", "accel_x": "x", "accel_y": "y", "accel_z": "z"}',
        },
    ),
    "kcat": (kcat, {"TIME_UNIT": "record"}),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_as_check_reads_them(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = walk_messages(tmp_path)
    expected = detect(capsys, tmp_path / "phone.csv")
    write, settings = FILES[name]
    (tmp_path / "phone.json").write_text(write(messages))
    for setting, value in settings.items():
        monkeypatch.setenv(f"STEPSTREAM_INPUT__{setting}", value)
    found = detect(capsys, tmp_path / "phone.json")
    assert [step["device_id"] for step in found] == ["phone"] * len(expected)
    ends = [np.array([step["ended_at"] for step in steps]) for steps in (found, expected)]
    assert np.abs(ends[0] - ends[1]).max() < 0.02
    assert main(["check", str(tmp_path / "phone.json")]) == 0
    capsys.readouterr()


class Registry(BaseHTTPRequestHandler):
    """A schema registry with one schema."""

    schema: ClassVar[str] = ""

    def do_GET(self) -> None:
        body = json.dumps({"schema": self.schema}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are no log of the tests."""


def test_a_message_is_read_with_the_schema_of_the_registry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = walk_messages(tmp_path)
    expected = detect(capsys, tmp_path / "phone.csv")
    fields = [{"name": name, "type": "double"} for name in messages[0]]
    schema = {
        "type": "array",
        "items": {"type": "record", "name": "Reading", "fields": fields},
    }
    Registry.schema = json.dumps(schema)
    file = io.BytesIO(b"\0" + (7).to_bytes(4))
    file.seek(0, io.SEEK_END)
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), messages)
    (tmp_path / "phone.avro").write_bytes(file.getvalue())
    monkeypatch.setenv("STEPSTREAM_INPUT__FORMAT", "avro")
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("STEPSTREAM_REGISTRY__URL", url)
        assert detect(capsys, tmp_path / "phone.avro") == expected
        server.shutdown()
        thread.join()
    assert main(["detect", str(tmp_path / "phone.avro")]) == 1
    assert "the schema registry can't be asked" in capsys.readouterr().err


def test_messages_of_one_sensor_each_give_the_joined_steps_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        missing("matplotlib (extra plot)")
    # It ends while no step is about to be known: the gyroscope stops a little earlier.
    time_s, axes = Walker(1, 100.0).read(20.2)
    table = tmp_path / "phone.csv"
    header = "time,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z"
    rows = np.column_stack([time_s, axes])
    np.savetxt(table, rows, fmt="%.6f", delimiter=",", header=header, comments="")
    joined = detect(capsys, table)
    rows = np.loadtxt(table, delimiter=",", skiprows=1)
    # The gyroscope sends some readings later than the accelerometer, and less often.
    sent = [(row[0], "acc", row[1:4]) for row in rows]
    sent += [(row[0] + 0.05, "gyro", (*row[4:], row[0])) for row in rows[::2]]
    lines = [
        {"t": values[3] if of == "gyro" else at, "of": of, "v": list(values[:3])}
        for at, of, values in sorted(sent, key=lambda one: one[0])
    ]
    monkeypatch.setenv(
        "STEPSTREAM_INPUT__SENSOR",
        json.dumps({"path": "of", "accelerometer": "acc", "gyroscope": "gyro"}),
    )
    axis_of = {
        f"{sensor}_{a}": f"v.{n}" for sensor in ("accel", "gyro") for n, a in enumerate("xyz")
    }
    monkeypatch.setenv("STEPSTREAM_INPUT__FIELDS", json.dumps({"timestamp": "t", **axis_of}))
    messages = tmp_path / "phone.jsonl"
    messages.write_text("\n".join(map(json.dumps, lines)))
    split = detect(capsys, messages, "--plot", tmp_path / "phone.png")
    assert {step["device_id"] for step in split} == {"phone"}
    ends = [np.array([step["ended_at"] for step in steps]) for steps in (joined, split)]
    assert len(ends[1]) == len(ends[0])
    # An end with two peaks of nearly the same probability may be at the other one.
    off_s = np.abs(ends[1] - ends[0])
    assert off_s.max() < 0.1
    assert np.mean(off_s < 0.0126) > 0.95
    assert (tmp_path / "phone.png").read_bytes().startswith(b"\x89PNG")
