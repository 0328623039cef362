from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st

from stepstream.commands.train import Train
from stepstream.detection import Model, ModelMetadata
from stepstream.detection.model import METADATA_FILE, Hops
from stepstream.detection.resampling import scale_channels
from stepstream.errors import ModelError, RecordingError
from stepstream.streaming.ledger import Ledger
from stepstream.training.augmentation import Variation, retime
from stepstream.training.contacts import align, estimate_lag
from stepstream.training.data import LabelledRecording, Labels
from stepstream.training.evaluation import (
    Moments,
    Result,
    detect_with,
    evaluate_recording,
    match,
    predict_recording,
    score,
)
from stepstream.training.negatives import handle
from stepstream.training.peaks import fit_peaks
from stepstream.training.sets import load_people
from stepstream.training.thresholds import choose_constants, find_steps, rate_constants
from tests.conftest import missing
from tests.detection.builders import METADATA
from tests.training.builders import moments, recording, write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.training.evaluation import Score

pytestmark = pytest.mark.slow

MODELS = sorted((Path(__file__).resolve().parents[2] / "models").glob("*.tflite"))


def bumps(length: int, moments: NDArray[np.float64]) -> NDArray[np.float32]:
    distance = np.arange(length)[:, np.newaxis] - moments
    given: NDArray[np.float32] = np.exp(-0.5 * (distance / 3) ** 2).max(axis=1).astype(np.float32)
    return given


def test_recordings_are_read_with_their_steps_in_the_order_of_their_ends(tmp_path: Path) -> None:
    header = "activity,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z"
    write(tmp_path / "anna", "one.csv.gz", header, [f"{i % 2},1,2,3,4,5,6" for i in range(4)])
    write(tmp_path / "anna", "one.steps.csv", "start,end,foot", ["1,3,0", "0,2,1"])
    (read,) = load_people([tmp_path])
    assert (read.origin, read.person) == (tmp_path.name, f"{tmp_path.name}/anna")
    assert (read.name, read.placement) == ("one", "hand")
    assert read.axes.tolist() == [[1, 2, 3, 4, 5, 6]] * 4
    assert read.standing.tolist() == [True, False, True, False]
    assert (read.starts.tolist(), read.ends.tolist()) == ([0, 1], [2, 3])
    assert read.counts == (2, 2)


def test_a_recording_with_times_comes_to_the_grid_and_its_steps_with_it(tmp_path: Path) -> None:
    rows = [f"{10 + i / 100},{i / 100},0,9.81" for i in range(400)]
    write(tmp_path / "anna", "walk.csv", "time,accel_x,accel_y,accel_z", rows)
    write(tmp_path / "anna", "walk.steps.csv", "start,end", ["11.0,12.0"])
    (read,) = load_people([tmp_path])
    assert len(read.axes) == pytest.approx(4 * 80, abs=1)
    assert read.axes[:, 0] == pytest.approx(np.arange(len(read.axes)) / 80, abs=1e-3)
    assert read.starts == pytest.approx([80])
    assert read.ends == pytest.approx([160])


def test_contacts_lose_their_bounces_and_say_where_nobody_steps(tmp_path: Path) -> None:
    rows = [f"{i / 80},0,0,9.81" for i in range(2400)]
    write(tmp_path / "b", "phone_floor_purse_1.csv", "time,accel_x,accel_y,accel_z", rows)
    left, right = np.arange(6, 20, 1.0), np.arange(6.5, 20, 1.0)
    contacts = [f"{t},0" for t in left] + [f"{t},1" for t in right] + ["8.2,0"]
    write(tmp_path / "b", "phone_floor_purse_1.contacts.csv", "time,foot", contacts)
    (read,) = load_people([tmp_path])
    assert read.placement == "purse"
    assert read.labels is Labels.CONTACTS
    assert read.counts == (29, 30)
    assert len(read.ends) == 28
    assert read.ends[0] == pytest.approx(480, abs=1)
    assert read.end_known[[0, 1000, 2300]].all()
    assert not read.end_known[430]
    assert read.start_known[[0, 2300]].all()
    assert not read.start_known[1000]


def test_a_folder_without_recordings_or_without_a_column_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"no <person>"):
        load_people([tmp_path])
    write(tmp_path / "anna", "one.csv.gz", "activity,accel_x", ["0,1"])
    write(tmp_path / "anna", "one.steps.csv", "start,end", [])
    with pytest.raises(RecordingError, match="accel_y"):
        load_people([tmp_path])


@pytest.mark.parametrize("lag", [-12, 0, 9])
def test_the_lag_of_contacts_is_found_and_they_move_to_the_likeliest_places(lag: int) -> None:
    made = recording()
    jitter = np.random.default_rng(1).uniform(-4, 4, len(made.ends))
    given = bumps(4000, made.ends)
    late = replace(
        made, starts=np.empty(0), ends=made.ends - lag + jitter, labels=Labels.CONTACTS,
        start_known=made.start_known & (np.arange(4000) < 100),
    )  # fmt: skip
    assert estimate_lag(late.ends, given) == pytest.approx(lag, abs=1)
    aligned = align(late, given)
    assert np.abs(aligned.ends - made.ends).max() <= 1
    assert not aligned.start_known[1000:3000].any()


def test_a_recording_at_another_tempo_keeps_its_targets_on_its_events() -> None:
    made = recording()
    variation = Variation(whole_tempo=(-0.2, 0.2), whole_rates=1.0)
    varied = retime(made, variation, np.random.default_rng(3))
    tempo = len(made.axes) / len(varied.axes)
    assert 0.8 <= tempo <= 1.2
    assert tempo != pytest.approx(1, abs=0.01)
    peaks = np.flatnonzero(find_maxima(varied.wanted[:, 1]))
    assert peaks == pytest.approx(made.ends / tempo, abs=1.5)
    # Each bump of the signal is where it was, relative to the ends.
    inner = varied.axes[100:-100, 2] - 9.81
    wave = 3 * np.cos(2 * np.pi * np.arange(100, len(varied.axes) - 100) * tempo / 44)
    assert np.corrcoef(inner, wave)[0, 1] > 0.9


def test_at_half_the_tempo_a_turn_is_half_and_an_acceleration_a_quarter() -> None:
    made = recording()
    half = Variation(whole_tempo=(math.log(0.5), math.log(0.5)))
    varied = retime(made, half, np.random.default_rng(1))
    assert len(varied.axes) == pytest.approx(2 * len(made.axes), abs=2)
    assert varied.axes.mean(axis=0) == pytest.approx(made.axes.mean(axis=0), abs=0.02)
    assert varied.axes[:, 2].std() == pytest.approx(made.axes[:, 2].std() / 4, rel=0.05)
    turning = replace(made, axes=made.axes + np.sin(np.arange(4000) / 7, dtype=np.float32)[:, None])
    slower = retime(turning, half, np.random.default_rng(1)).axes[:, 3:]
    assert slower.std() == pytest.approx(turning.axes[:, 3:].std() / 2, rel=0.05)


def test_half_of_the_slow_sensors_smooth_what_they_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.training.augmentation.RATES_HZ", (12.5, 12.5))
    made = recording()
    random = np.random.default_rng(1)
    noisy = replace(made, axes=random.standard_normal(made.axes.shape).astype(np.float32))
    varied = [retime(noisy, Variation(whole_rates=1.0), random) for _ in range(60)]
    smoothed = [float(one.axes[:, :3].std()) < 0.65 for one in varied]
    assert 20 <= sum(smoothed) <= 40
    assert all(one.axes.mean() == pytest.approx(noisy.axes.mean(), abs=0.1) for one in varied)


def find_maxima(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (values > 0.5) & (values >= np.roll(values, 1)) & (values > np.roll(values, -1))


def test_what_is_handled_has_gravity_turns_and_no_labels() -> None:
    axes = handle(np.random.default_rng(1), 6)
    assert axes.shape == (6, 2000, 6)
    assert np.median(np.linalg.norm(axes[:, :, :3], axis=2)) == pytest.approx(9.81, abs=0.5)
    assert np.abs(axes[:, :, 3:]).max() > 1


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
    pairs = match(np.array(true, np.int64), np.array(found, np.int64), tolerance)
    assert len(pairs) == expected
    assert all(abs(true[a] - found[b]) <= tolerance for a, b in pairs)


def scored(made: LabelledRecording, found: Moments) -> Score:
    return score([evaluate_recording(made, found)])


def test_a_score_counts_hits_misses_timing_and_false_steps_while_standing() -> None:
    made = recording()
    perfect = scored(made, moments(made.starts, made.ends))
    assert (perfect.f1_start, perfect.f1_end_tight, perfect.count_error) == (1, 1, 0)
    assert (perfect.recordings, perfect.people, perfect.counted_recordings) == (1, 1, 1)
    late = scored(made, moments(made.starts, made.ends + 10))
    assert (late.f1_end, late.f1_end_tight) == (1, 0)
    assert late.bias_end_ms == pytest.approx(125)
    assert late.spread_end_ms == pytest.approx(0)
    assert (late.bias_start_ms, late.signed_count_error) == (0, 0)
    half = scored(made, moments(made.starts[::2], made.ends[::2]))
    assert half.f1_end == pytest.approx(2 / 3, abs=0.01)
    assert half.count_error == pytest.approx(0.5, abs=0.01)
    assert half.signed_count_error == -half.count_error
    still = replace(
        made, activity=np.zeros(4000, np.int8), starts=np.empty(0), ends=np.empty(0), counts=(0, 0)
    )
    false = scored(still, moments(np.array([100.0]), np.array([170.0])))
    assert false.false_per_standing_minute == pytest.approx(1.2)
    assert np.isnan(false.count_error)


def test_any_count_between_both_feet_and_twice_the_larger_is_right() -> None:
    made = replace(recording(), labels=Labels.CONTACTS, counts=(80, 84))
    for found, error in ((84, 0.0), (80, 0.0), (76, 0.05), (105, 0.25)):
        places = np.linspace(100, 3900, found)
        assert scored(made, moments(places, places)).count_error == pytest.approx(error)


@given(st.lists(st.integers(0, 60), max_size=40))
def test_the_evaluated_steps_are_those_that_a_stream_counts(gaps: list[int]) -> None:
    ends = np.cumsum(np.array(gaps, np.float64))
    ledger = Ledger("group", "topic", "model", METADATA.refractory, 10_000)
    counts = [ledger.count("d", row, [int(end)])[0] for row, end in enumerate(ends)]
    counted = [int(end) for end, count in zip(ends, counts, strict=True) if count]
    assert moments(ends, ends).spaced(METADATA.refractory).ends.tolist() == counted


def test_a_peak_detector_finds_the_swings() -> None:
    made = recording()
    result: Result = evaluate_recording(made, fit_peaks([made])(made))
    assert score([result]).f1_end_tight > 0.95


def test_constants_are_chosen_that_find_the_steps() -> None:
    made = recording()
    given = np.stack([bumps(4000, made.starts), 0.22 * bumps(4000, made.ends)], axis=1)
    chosen = choose_constants(rate_constants([(made, given)], METADATA))
    assert chosen.end_threshold < 0.22
    assert len(find_steps(given, METADATA).ends) == 0
    found = find_steps(given, chosen)
    assert np.isin(found.ends, made.ends).all()
    assert len(found.ends) >= len(made.ends) - 1


def test_constants_are_chosen_by_those_who_are_not_left_out() -> None:
    weak, strong = recording(person="a"), recording(person="b")
    weak_given = np.stack([bumps(4000, weak.starts), 0.22 * bumps(4000, weak.ends)], axis=1)
    doubtful = 0.35 * bumps(4000, strong.ends - 22)
    strong_given = np.stack(
        [bumps(4000, strong.starts), np.maximum(bumps(4000, strong.ends), doubtful)], axis=1
    )
    ratings = rate_constants([(weak, weak_given), (strong, strong_given)], METADATA)
    assert choose_constants(ratings, {"b"}).least_end < 0.22
    assert choose_constants(ratings, {"a"}).least_end > 0.35


def test_a_short_training_learns_and_exports_what_it_learned(tmp_path: Path) -> None:
    try:
        import tensorflow as tf  # noqa: PLC0415 - an extra
    except ImportError:
        missing("tensorflow (extra train)")
    from stepstream.training.export import export, prune, quantize  # noqa: PLC0415
    from stepstream.training.fitting import Recipe, fit, predict_series  # noqa: PLC0415
    from stepstream.training.pipeline import make_dataset  # noqa: PLC0415

    people = [recording(person=name) for name in "ab"]
    late = [
        replace(r, starts=r.starts[:0], ends=r.ends + 5, labels=Labels.CONTACTS) for r in people
    ]
    for batch, _ in make_dataset(people, METADATA, Variation(rotate=True), 4, 1).take(1):
        turned = batch.numpy()
        assert np.linalg.norm(turned[..., :3], axis=-1) == pytest.approx(turned[..., 6], abs=1e-5)
        # Turned about a random axis, gravity is everywhere.
        assert np.abs(turned[:, 0, :, 2] * METADATA.accel_scale - 9.81).max() > 4

    recipe = Recipe(
        epochs=6, alignment_epochs=1, batch_size=4, learning_rate=1e-2, width=8, accumulate=2,
        precision="mixed",
    )  # fmt: skip
    losses: list[float] = []
    network = fit(
        [*people, *late], people[:1], METADATA, recipe,
        lambda _, given: losses.append(given["loss"]),
    )  # fmt: skip
    assert losses[-1] < 0.9 * losses[1]

    random = np.random.default_rng(1)
    axes = random.normal(0, 1, (500 * 8, 6)).astype(np.float32)
    axes *= np.repeat(np.array([METADATA.accel_scale, METADATA.gyro_scale], np.float32), 3)
    wanted = predict_series(network, axes, METADATA)
    channels = scale_channels(axes, METADATA.accel_scale, METADATA.gyro_scale)
    tf.config.run_functions_eagerly(False)
    for name, tolerance in (("float", 1e-5), ("int8", 0.02)):
        path = tmp_path / f"{name}.tflite"
        if name == "int8":
            quantize(network, path, METADATA, channels[:3200].reshape(-1, 1, 128, 8))
        else:
            export(network, path, METADATA)
        model = Model(path)
        assert model.metadata == METADATA
        assert probabilities_of_zeros(path).shape == (1, 8, 2)
        check_any_number_of_hops(path)
        given = predict_recording(model, replace(people[0], axes=axes))
        difference = np.abs(given - wanted)
        # A network this little trained answers near 0.5, where rounding tells most.
        assert difference.mean() < tolerance
        assert difference.max() < 10 * tolerance
    prune(network, 0.5)
    assert np.mean(network.layers[-1].kernel.numpy() == 0) == pytest.approx(0.5, abs=0.05)


def test_activations_that_are_computed_again_give_the_same_gradients() -> None:
    try:
        import keras  # noqa: PLC0415 - an extra
        import tensorflow as tf  # noqa: PLC0415
    except ImportError:
        missing("tensorflow (extra train)")
    from stepstream.training.network import build_network  # noqa: PLC0415

    networks = []
    for remat in (False, True):
        keras.utils.set_random_seed(1)
        networks.append(build_network(METADATA, 8, remat=remat))
    samples = np.random.default_rng(1).normal(size=(4, 1, 320, 8)).astype(np.float32)
    for network in networks:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network(samples, training=True)))
        gradients = tape.gradient(loss, network.trainable_variables)
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
            variable.assign_sub(gradient)
    # Running means too: a batch that is computed twice counts twice, each time half as much.
    for one, other in zip(*(network.get_weights() for network in networks), strict=True):
        assert np.abs(one - other).max() < 1e-5 * max(1, np.abs(one).max())


@pytest.mark.timeout(300)
def test_folds_are_trained_side_by_side_each_without_its_people(tmp_path: Path) -> None:
    if find_spec("tensorflow") is None:
        missing("tensorflow (extra train)")
    made = recording(2400)
    rows = [f"1,{','.join(f'{value:.3f}' for value in row)}" for row in made.axes]
    steps = [f"{start:g},{end:g}" for start, end in zip(made.starts, made.ends, strict=True)]
    for person in "ab":
        folder = tmp_path / "ours" / person
        header = "activity,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z"
        write(folder, "walk.csv", header, rows)
        write(folder, "walk.steps.csv", "start,end", steps)
    # TensorFlow takes its number of threads once in a process.
    options = ["--folds=2", "--epochs=1", "--width=8", "--batch-size=4", "--out=own.tflite"]
    command = [sys.executable, "-m", "stepstream", "train", "ours", *options]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    folds = [Model(tmp_path / "own-folds" / f"{number}.tflite") for number in (1, 2)]
    left_out = {fold.metadata.training["left out"] for fold in folds}
    assert left_out == {"ours/a", "ours/b"}
    own = Model(tmp_path / "own.tflite").metadata
    assert own.training["recordings"] == "2 of 2 people"
    assert own.label in ran.stdout


def test_each_fold_gets_the_calibration_of_the_others(tmp_path: Path) -> None:
    train = Train.model_validate({"data": ["x"], "folds": 2, "out": tmp_path / "own.tflite"})
    (tmp_path / "own-folds").mkdir()
    for number in (1, 2):
        copyfile(MODELS[0], tmp_path / "own-folds" / f"{number}.tflite")
    predicted = []
    for person, false in (("a", 3), ("b", 30)):
        made = recording(20_000, person)
        standing = made.ends > 10_000
        true = made.ends[~standing]
        made = replace(made, starts=true - 69, ends=true, counts=(len(true), len(true)))
        made.activity[10_000:] = 0
        given = np.zeros((20_000, 2), np.float32)
        random = np.random.default_rng(1)
        for ends, high in ((true, 0.95), (standing.nonzero()[0][:false] * 44 + 200, 0.75)):
            for end in ends.astype(int):
                given[end - 69, 0], given[end, 1] = 0.9, random.uniform(0.6, high)
        predicted.append((made, given))
    ratings = rate_constants(
        predicted, msgspec.structs.replace(METADATA, end_calibration=(1.0, 0.0))
    )
    total = train._evaluate_folds(predicted, [{"a"}, {"b"}], ratings)
    files = [Model(tmp_path / "own-folds" / f"{number}.tflite").metadata for number in (1, 2)]
    (by_b, by_a) = (one.end_calibration for one in files)
    assert len({by_a, by_b, total, (1.0, 0.0)}) == 4
    # The other's steps are right more often, so the same probability says more.
    assert by_a[0] * 0.4 + by_a[1] > by_b[0] * 0.4 + by_b[1]
    assert {one.training["left out"] for one in files} == {
        Model(MODELS[0]).metadata.training["left out"]
    }


def test_samples_without_a_step_count_as_much_as_asked() -> None:
    try:
        from stepstream.training.pipeline import make_dataset  # noqa: PLC0415 - an extra
    except ImportError:
        missing("tensorflow (extra train)")
    none = np.empty(0)
    still = replace(
        recording(), starts=none, ends=none, counts=(0, 0), activity=np.zeros(4000, np.int8)
    )
    counted = set()
    for _, batch in make_dataset([recording(), still], METADATA, Variation(), 1, 1, stepless=4):
        wanted, weight = np.split(batch.numpy(), 2, axis=-1)
        (one,) = np.unique(weight)
        counted.add((bool(wanted.max() > 0.5), float(one)))
    assert counted == {(True, 1.0), (False, 4.0)}


def test_steps_that_are_only_counted_are_placed_by_a_teacher_that_knows_contacts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        from stepstream.training import fitting  # noqa: PLC0415 - an extra
    except ImportError:
        missing("tensorflow (extra train)")
    made = recording()
    ends = replace(made, starts=made.starts[:0], start_known=~made.start_known)
    contacts = replace(ends, name="c", labels=Labels.CONTACTS, ends=made.ends + 5)
    counted = replace(
        ends, name="n", labels=Labels.COUNTS, ends=made.ends[:0], end_known=~made.end_known
    )
    right = np.stack([bumps(4000, made.starts), bumps(4000, made.ends)], axis=1)
    lessons: list[dict[str, LabelledRecording]] = []

    def learn(lesson: list[LabelledRecording], *_: object) -> None:
        lessons.append({one.name: one for one in lesson})

    monkeypatch.setattr(fitting, "_fit", learn)
    monkeypatch.setattr(fitting, "_predictor", lambda *_: lambda _: right)
    fitting.fit([made, contacts, counted], [], METADATA, fitting.Recipe())
    assert [sorted(lesson) for lesson in lessons] == [["r"], ["c", "r"], ["c", "n", "r"]]
    assert lessons[1]["c"].ends == pytest.approx(made.ends, abs=2)
    assert lessons[2]["n"].ends == pytest.approx(made.ends, abs=6)


def probabilities_of_zeros(path: Path) -> NDArray[np.float32]:
    """What a program gets of a model file that runs it as it is."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.invoke()
    given: NDArray[np.float32] = min(
        (interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()),
        key=lambda one: one.shape[-1],
    )
    return given


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_runs_without_being_resized(path: Path) -> None:
    assert probabilities_of_zeros(path).shape == (1, 8, 2)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_gives_the_same_of_a_hop_however_many_are_in_a_call(path: Path) -> None:
    check_any_number_of_hops(path)


def check_any_number_of_hops(path: Path) -> None:
    """What is given and remembered of a hop depends on no other hop or device in its call."""
    random = np.random.default_rng(1)
    devices, hops = 40, 12
    samples = random.normal(0, 1, (devices * hops, 64)).astype(np.float32)
    rows = np.arange(devices * hops).reshape(devices, hops)
    layers, seen, width = Model(path).memory
    places = np.arange(devices * layers * seen).reshape(devices, layers, seen)
    begin = random.normal(0, 1, (places.size, width)).astype(np.float32)

    def advance(
        threads: int, size: int, at_once: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """All hops, devices in another order, so many of both in a call; what is remembered."""
        model, memory, order = Model(path, threads), begin.copy(), random.permutation(devices)
        given = np.empty((devices, hops, 8, 2), np.float32)
        for first in range(0, devices, size):
            some = order[first : first + size]
            for hop in range(0, hops, at_once):
                now = slice(hop, hop + at_once)
                age = (hop + np.arange(seen)) % seen
                past = places[some][:, :, age].reshape(len(some), -1)
                stored = np.arange(max(hop, hop + at_once - seen), hop + at_once) % seen
                latest = places[some][:, :, stored]
                given[some, now] = model.predict(
                    Hops(samples, rows[some, now], memory, past, latest)
                )
        return given, memory

    whole, remembered = advance(1, devices, 1)
    assert np.isfinite(whole).all()
    assert (remembered != begin).all()
    most_hops = Model(path).most_hops
    assert most_hops == 8
    for threads in (1, 2):
        for size, at_once in ((1, 1), (3, 1), (16, 1), (1, 4), (7, 2), (40, 4), (40, 6)):
            given, memory = advance(threads, size, at_once)
            assert (given == whole).all()
            assert (memory == remembered).all()


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_says_what_it_is_and_finds_the_steps_of_a_recording(
    path: Path, recordings: Path
) -> None:
    model = Model(path)
    assert path.stem.replace("-int8", "") == model.metadata.label.replace("-int8", "")
    assert path.stem.endswith("-int8") == ("-int8" in model.metadata.label)
    card = path.with_name(f"{path.stem.removesuffix('-int8')}.md").read_text()
    assert path.name in card
    assert "CC BY-SA 4.0" in card
    people = [
        r for r in load_people([recordings / "simul-hand"]) if r.person == "simul-hand/person-08"
    ]
    found = score([evaluate_recording(r, detect_with(model)(r)) for r in people])
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

    with pytest.raises(ModelError, match="it sees 16 hops"):
        Model(with_metadata(msgspec.structs.replace(METADATA, window=120)))
    for change, reason in (
        ({"rate_hz": 77}, "rate_hz"),
        ({"settling": 9}, "settling"),
        ({"shortest_step": 100}, "shortest_step"),
        ({"walking_threshold": 0.7}, "walking_threshold"),
        ({"start_reach": [12, 19]}, "reaches"),
        ({"end_reach": [21, 8]}, "reaches"),
        ({"end_reach": [8, 9]}, "settling"),
        ({"end_threshold": 1.5}, "end_threshold"),
        ({"end_calibration": [0, 0]}, "end_calibration"),
        ({"support": [0.5]}, "supporting"),
        ({"waiting": 121}, "waiting"),
        ({"colour": 1}, "colour"),
    ):
        with pytest.raises(ModelError, match=reason):
            Model(with_metadata({**msgspec.to_builtins(METADATA), **change}))
