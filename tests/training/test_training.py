from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from stepstream.detection import Model, ModelMetadata, Steps
from stepstream.detection.model import METADATA_FILE
from stepstream.errors import ModelError, RecordingError
from stepstream.training.augmentation import Variation, make_windows, random_rotations
from stepstream.training.data import LabelledRecording, load_people
from stepstream.training.evaluation import match, score, score_recordings
from tests.conftest import missing
from tests.detection.builders import METADATA

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = sorted((Path(__file__).resolve().parents[2] / "models").glob("*.tflite"))


def recording(length: int = 4000, person: str = "p") -> LabelledRecording:
    """A device that swings in step, every 44 samples."""
    samples = np.arange(length)
    axes = np.zeros((length, 6), np.float32)
    axes[:, 2] = 9.81 + 3 * np.cos(2 * np.pi * samples / 44)
    axes[:, 3] = np.sin(2 * np.pi * samples / 88)
    ends = np.arange(200, length - 100, 44)
    return LabelledRecording(person, "r", axes, np.zeros(length, np.bool_), ends - 69, ends)


def test_recordings_are_read_with_their_steps_in_the_order_of_their_ends(tmp_path: Path) -> None:
    folder = tmp_path / "anna"
    folder.mkdir()
    rows = ["activity,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z"]
    rows += [f"{i % 2},1,2,3,4,5,6" for i in range(4)]
    (folder / "one.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    (folder / "one.steps.csv").write_text("start,end,foot\n1,3,0\n0,2,1\n")
    (read,) = load_people(tmp_path)
    assert (read.person, read.name) == ("anna", "one")
    assert read.axes.tolist() == [[1, 2, 3, 4, 5, 6]] * 4
    assert read.standing.tolist() == [True, False, True, False]
    assert (read.starts.tolist(), read.ends.tolist()) == ([0, 1], [2, 3])


def test_a_folder_without_recordings_or_without_a_column_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"no <person>"):
        load_people(tmp_path)
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "one.csv.gz").write_bytes(gzip.compress(b"activity,accel_x\n0,1\n"))
    (tmp_path / "anna" / "one.steps.csv").write_text("start,end\n")
    with pytest.raises(RecordingError, match="accel_y"):
        load_people(tmp_path)


def test_targets_stand_where_the_model_answers() -> None:
    made = recording()
    windows, targets = make_windows([made], METADATA, Variation(), np.random.default_rng(1))
    assert windows.shape[1:] == (1, 128, 8)
    assert targets.shape[1:] == (8, 2)
    for window in range(len(targets)):
        judged = window * 8 + 96 + np.arange(8)
        assert (targets[window, :, 1] == 1).tolist() == np.isin(judged, made.ends).tolist()
        assert (targets[window, :, 0] == 1).tolist() == np.isin(judged, made.starts).tolist()
    assert windows[:, 0, :, 2] * METADATA.accel_scale == pytest.approx(
        np.stack([made.axes[8 * w : 8 * w + 128, 2] for w in range(len(windows))]), abs=1e-5
    )


def test_rotation_turns_the_axes_and_keeps_the_magnitudes() -> None:
    still, turned = (
        make_windows([recording()], METADATA, Variation(rotate=rotate), np.random.default_rng(1))[0]
        for rotate in (False, True)
    )
    assert turned[..., 6:] == pytest.approx(still[..., 6:], abs=1e-5)
    assert np.abs(turned[..., :6] - still[..., :6]).max() > 0.1


def test_random_rotations_are_rotations_in_all_directions() -> None:
    turns = random_rotations(np.random.default_rng(1), 4000)
    assert turns @ turns.transpose(0, 2, 1) == pytest.approx(
        np.broadcast_to(np.eye(3), turns.shape), abs=1e-5
    )
    assert np.linalg.det(turns) == pytest.approx(np.ones(len(turns)), abs=1e-5)
    assert np.abs(turns.mean(axis=0)).max() < 0.05


def test_the_gyroscope_is_dropped_from_its_share_of_windows() -> None:
    windows, _ = make_windows(
        [recording(40_000)], METADATA, Variation(drop_gyroscope=0.3), np.random.default_rng(1)
    )
    dropped = (windows[:, 0, :, [3, 4, 5, 7]] == 0).all(axis=(0, 2))
    assert dropped.mean() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("true", "found", "tolerance", "expected"),
    [
        ([10, 20, 30], [10, 20, 30], 0, 3),
        ([10, 20, 30], [12, 18, 41], 2, 2),
        ([10, 12], [11], 5, 1),
        ([10], [9, 11], 5, 1),
        ([10, 14], [13, 15], 3, 2),
        ([], [5], 5, 0),
        ([5], [], 5, 0),
    ],
)
def test_moments_are_matched_one_to_one(
    true: list[int], found: list[int], tolerance: float, expected: int
) -> None:
    assert match(np.array(true, np.int64), np.array(found, np.int64), tolerance) == expected


def steps(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Steps:
    zero = np.zeros(len(ends))
    return Steps(
        zero.astype(np.intp),
        starts * 12_500,
        ends * 12_500,
        zero.astype(np.float32),
        zero.astype(np.float32),
        zero.astype(np.int64),
    )


def test_a_score_counts_hits_misses_and_false_steps_while_standing() -> None:
    made = recording()
    still = LabelledRecording(
        "p", "s", made.axes[:2400], np.ones(2400, np.bool_), made.starts[:0], made.ends[:0]
    )
    perfect = score([(made, steps(made.starts, made.ends))], 12_500)
    assert (perfect.f1_start, perfect.f1_end_tight, perfect.count_error) == (1, 1, 0)
    late = score([(made, steps(made.starts, made.ends + 10))], 12_500)
    assert (late.f1_end, late.f1_end_tight) == (1, 0)
    half = score([(made, steps(made.starts[::2], made.ends[::2]))], 12_500)
    assert half.f1_end == pytest.approx(2 / 3, abs=0.01)
    assert half.count_error == pytest.approx(0.5, abs=0.01)
    false = score([(still, steps(np.array([100]), np.array([170])))], 12_500)
    assert false.false_per_standing_minute == pytest.approx(2.0)


def test_a_short_training_learns_and_exports_what_it_learned(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    try:
        import tensorflow as tf  # noqa: F401, PLC0415 - an extra
    except ImportError:
        missing(pytestconfig, "tensorflow (extra train)")
    from stepstream.training.export import export, quantize  # noqa: PLC0415
    from stepstream.training.fitting import Recipe, fit  # noqa: PLC0415

    people = [recording(person=name) for name in "abc"]
    recipe = Recipe(epochs=4, batch_size=128, learning_rate=1e-2)
    losses: list[float] = []
    network = fit(people, [], METADATA, recipe, lambda _, logs: losses.append(logs["loss"]))
    assert losses[-1] < 0.6 * losses[0]

    windows, _ = make_windows(people, METADATA, Variation(), np.random.default_rng(1))
    wanted = network.predict(windows, verbose=0)
    for write, tolerance in ((export, 1e-5), (quantize, 0.1)):
        path = tmp_path / f"{write.__name__}.tflite"
        write(network, path, METADATA, *([windows[:100]] if write is quantize else []))
        model = Model(path)
        assert model.metadata == METADATA
        given = model.predict(windows.reshape(-1, 64), np.arange(len(windows) * 16).reshape(-1, 16))
        assert np.abs(given - wanted).max() < tolerance


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_gives_the_same_row_in_any_batch(path: Path) -> None:
    random = np.random.default_rng(1)
    blocks = random.normal(0, 1, (300 * 16, 64)).astype(np.float32)
    rows = random.permutation(300 * 16).reshape(300, 16)
    whole = Model(path).predict(blocks, rows)
    assert np.isfinite(whole).all()
    for threads in (1, 2):
        model = Model(path, threads)
        for size in (1, 3, 16, 100, 256):
            pieces = [model.predict(blocks, rows[i : i + size]) for i in range(0, 300, size)]
            assert (np.concatenate(pieces) == whole).all()


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_says_what_it_is_and_finds_the_steps_of_a_recording(
    path: Path, recordings: Path
) -> None:
    model = Model(path)
    assert path.stem in {model.metadata.label, "stepstream-hand-1.0-int8"}
    assert model.metadata.training["licence"] == "CC BY-SA 4.0"
    card = path.with_name("stepstream-hand-1.0.md").read_text()
    assert path.name in card
    assert "CC BY-SA 4.0" in card
    people = [r for r in load_people(recordings / "simul-hand") if r.person == "person-08"]
    found = score_recordings(model, people)["person-08"]
    assert min(found.f1_start, found.f1_end) > 0.95
    assert found.count_error < 0.05


def test_model_files_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        Model(tmp_path / "none.tflite")
    bare = tmp_path / "bare.tflite"
    content = MODELS[0].read_bytes()
    bare.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with pytest.raises(ModelError, match="no metadata"):
        Model(bare)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(b"\x00" * 100 + content[content.rindex(b"PK\x03\x04") :])
    with pytest.raises(ModelError, match=r"cut\.tflite"):
        Model(cut)


def test_metadata_must_fit_the_network_and_itself(tmp_path: Path) -> None:
    import zipfile  # noqa: PLC0415

    def with_metadata(metadata: ModelMetadata | dict[str, object]) -> Path:
        path = tmp_path / "model.tflite"
        content = MODELS[0].read_bytes()
        path.write_bytes(content[: content.rindex(b"PK\x03\x04")])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(METADATA_FILE, msgspec.json.encode(metadata))
        return path

    with pytest.raises(ModelError, match="its input is"):
        Model(with_metadata(msgspec.structs.replace(METADATA, window=120)))
    for change, reason in (
        ({"rate_hz": 77}, "rate_hz"),
        ({"settling": 9}, "settling"),
        ({"shortest_step": 100}, "shortest_step"),
        ({"end_threshold": 1.5}, "end_threshold"),
        ({"colour": 1}, "colour"),
    ):
        with pytest.raises(ModelError, match=reason):
            Model(with_metadata({**msgspec.to_builtins(METADATA), **change}))
