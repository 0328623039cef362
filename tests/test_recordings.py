from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from stepstream.errors import RecordingError
from stepstream.recordings import read_recording

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "time,accel_x,accel_y,accel_z"


def write(folder: Path, *lines: str, name: str = "walk.csv") -> Path:
    path = folder / name
    content = "\n".join(lines).encode() + b"\n"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["walk.csv", "walk.csv.gz"])
@pytest.mark.parametrize("column", ["time", "timestamp"])
def test_columns_are_found_by_name_in_any_order(tmp_path: Path, name: str, column: str) -> None:
    path = write(
        tmp_path,
        f"activity,gyro_z,gyro_y,gyro_x,accel_z,accel_y,accel_x,{column}",
        "walking,6,5,4,3,2,1,0.5",
        "walking,6,5,4,3,2,1,0.75",
        name=name,
    )
    recording = read_recording(path)
    assert recording.device_id == "walk"
    assert recording.time_s.tolist() == [0.5, 0.75]
    assert recording.axes.tolist() == [[1, 2, 3, 4, 5, 6]] * 2


def test_a_missing_gyroscope_is_zero_and_a_rate_stands_in_for_times(tmp_path: Path) -> None:
    path = write(tmp_path, "accel_x,accel_y,accel_z", "1,2,3", "1,2,3")
    recording = read_recording(path, rate_hz=80)
    assert recording.time_s.tolist() == [0, 0.0125]
    assert recording.axes.tolist() == [[1, 2, 3, 0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["accel_x,accel_y,accel_z", "1,2,3"], "no column timestamp or time"),
        (["time,accel_x,accel_y", "0,1,2"], "no column accel_z"),
        ([HEADER + ",gyro_x", "0,1,2,3,4"], "only some of gyro_x"),
        ([HEADER], "no rows"),
        ([HEADER, "0,1,2,3", "0.1,1,two,3"], "line 3: accel_y is 'two', not a number"),
        ([HEADER, "0,1,2,3", "0.1,1,2"], "line 3: no accel_z"),
        ([HEADER, "0,1,2,3", "0.1,1,nan,3"], "line 3: out of range"),
        ([HEADER, "0,1,2,3", "0.1,1,401,3"], "line 3: out of range"),
        ([HEADER, "-1,1,2,3"], "line 2: out of range"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(RecordingError, match=message):
        read_recording(write(tmp_path, *lines))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"none\.csv: No such file"):
        read_recording(tmp_path / "none.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(RecordingError, match=r"cut\.csv\.gz"):
        read_recording(tmp_path / "cut.csv.gz")
