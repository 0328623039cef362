"""The neural network: its file, what it expects and gives, and running it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from msgspec import Meta

from stepstream.detection.native_output import first_output_as_warnings
from stepstream.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "AXES",
    "CHANNELS",
    "LARGEST_BATCH",
    "MAGNITUDES",
    "METADATA_FILE",
    "PROBABILITIES",
    "Hops",
    "MemoryShape",
    "Model",
    "ModelMetadata",
    "Predict",
    "default_model_path",
    "read_metadata",
    "write_metadata",
]

AXES = 6
"""Axes of a reading: acceleration x, y, z, angular velocity x, y, z."""
CHANNELS = 8
"""Channels of the model: the axes, scaled, and the two magnitudes."""
MAGNITUDES = slice(6, 8)
"""Channels of the magnitudes: of the acceleration and of the angular velocity."""
PROBABILITIES = 2
"""Probabilities of a sample: that it is a heel lift, and that it is a toe strike."""
INPUTS = ("samples", "past")
"""Names of the input tensors: samples of the hop, and what the network remembers."""
OUTPUTS = ("Identity", "Identity_1")
"""Names of the output tensors: probabilities, and what the network remembers of the hop.

TensorFlow's converter gives these names to the first and the second value that a function returns.
"""
METADATA_FILE = "stepstream.json"
"""The metadata's name in the archive at the end of the model file."""

DEFAULT_MODEL = "stepstream-walk-5.2.tflite"

_US = 1_000_000
LARGEST_BATCH = 128
"""More hops at a time leave the processor's second cache, and cost more each."""
MOST_HOPS = 8
"""Hops of one device in a call, if the network takes more than one. Those after the first cost two
thirds: what is remembered is gathered once, and matrix products find more rows."""
_SPARE = 16
"""Hops that cost about as much as a call does."""

_Positive = Annotated[int, Meta(gt=0)]
_Probability = Annotated[float, Meta(gt=0, lt=1)]
_Reach = Annotated[int, Meta(ge=0)]
_Slope = Annotated[float, Meta(gt=0, le=20)]
_Offset = Annotated[float, Meta(ge=-50, le=50)]


class ModelMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model file says of itself.

    All lengths are counted in samples at ``rate_hz`` and are multiples of ``hop`` where they
    cut the signal into windows.

    Attributes
    ----------
    name, version
        Together, joined by a hyphen, they name the model in every event.
    rate_hz
        Samples a second; divides 1,000,000.
    window, hop, delay
        The model is run once every ``hop`` samples and sees the last ``window`` samples. It gives
        probabilities for the ``hop`` samples that end ``delay`` samples before the window does.
    accel_scale, gyro_scale
        Acceleration (m/s^2) and angular velocity (rad/s) are divided by these.
    start_threshold, end_threshold
        Least probability of a heel lift and of a toe strike.
    walking_threshold
        Least probability of a toe strike within ``longest_step`` after one that reaches
        ``end_threshold``, or of one with support; the same as ``end_threshold`` if not given.
    support
        How much the toe strikes before one support it, the last one first. If it is given,
        ``end_threshold`` is the least sum of its probability and of theirs, so weighted.
    supporting
        Samples before a toe strike in which others support it.
    start_reach, end_reach
        Samples before and after the most probable one whose probabilities place a start and an
        end; none if not given.
    refractory
        Least distance of two ends.
    settling
        Samples after an end that must not exceed it before it counts, at most ``hop``.
    shortest_step, longest_step
        Bounds on the time from a step's start to its end, as the most probable samples have it.
    waiting
        Samples for which a toe strike of too low a probability, or without a likely heel lift,
        waits for a sure step; 0 if none waits.
    end_calibration
        Slope and offset of the log odds that make the probability of a toe strike, once it is an
        end, the share of such ends that are right (Platt, "Probabilistic outputs for support vector
        machines", 1999). Events have the result; thresholds are on what the network gives.
    training
        How the model was made, for people.
    """

    name: str
    version: str
    rate_hz: _Positive
    window: _Positive
    hop: _Positive
    delay: Annotated[int, Meta(ge=0)]
    accel_scale: Annotated[float, Meta(gt=0)]
    gyro_scale: Annotated[float, Meta(gt=0)]
    start_threshold: _Probability
    end_threshold: _Probability
    refractory: _Positive
    settling: _Positive
    shortest_step: _Positive
    longest_step: _Positive
    walking_threshold: _Probability | None = None
    support: tuple[_Probability, ...] = ()
    supporting: Annotated[int, Meta(ge=0)] = 0
    start_reach: tuple[_Reach, _Reach] = (0, 0)
    end_reach: tuple[_Reach, _Reach] = (0, 0)
    waiting: Annotated[int, Meta(ge=0)] = 0
    end_calibration: tuple[_Slope, _Offset] = (1.0, 0.0)
    training: dict[str, str] = {}

    def __post_init__(self) -> None:
        if _US % self.rate_hz:
            raise ValueError("rate_hz must divide 1,000,000")
        if self.window % self.hop or self.delay % self.hop or self.delay + self.hop > self.window:
            raise ValueError("window and delay must be multiples of hop, delay within the window")
        if self.settling > self.hop:
            raise ValueError("settling must not exceed hop")
        if self.shortest_step >= self.longest_step:
            raise ValueError("shortest_step must be below longest_step")
        if self.least_end > self.end_threshold:
            raise ValueError("walking_threshold must not exceed end_threshold")
        if bool(self.support) != bool(self.supporting):
            raise ValueError("support and supporting are given together")
        if self.waiting > max(self.longest_step, self.supporting) + self.refractory:
            raise ValueError("waiting must not exceed refractory and longest_step or supporting")
        largest = min(self.refractory, self.shortest_step // 2)
        if max(*self.start_reach, self.end_reach[0]) > largest:
            raise ValueError("reaches must not exceed refractory and half of shortest_step")
        if self.end_reach[1] > self.settling:
            raise ValueError("the end's reach must not exceed settling")

    @property
    def period_us(self) -> int:
        """Time between two samples, microseconds."""
        return _US // self.rate_hz

    @property
    def least_end(self) -> float:
        """Least probability that a toe strike can have."""
        return self.end_threshold if self.walking_threshold is None else self.walking_threshold

    @property
    def label(self) -> str:
        """The model's name and version, as events carry it."""
        return f"{self.name}-{self.version}"


def write_metadata(path: Path, metadata: ModelMetadata) -> None:
    """Put ``metadata`` behind the network in a ``.tflite`` file, in place of what is there.

    It is a zip archive, as TFLite metadata is; LiteRT ignores it, and
    ``unzip -p FILE stepstream.json`` prints it.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            end = min(entry.header_offset for entry in archive.infolist())
        with path.open("r+b") as file:
            file.truncate(end)
    text = msgspec.json.format(msgspec.json.encode(metadata), indent=2)
    entry = zipfile.ZipInfo(METADATA_FILE, date_time=(1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, text)


def default_model_path() -> Path:
    """The model that ships with stepstream.

    An installed package carries the models; in a checkout they stand beside it.
    """
    package = Path(__file__).resolve().parent.parent
    folders = (package / "models", package.parent / "models")
    found = (path for folder in folders if (path := folder / DEFAULT_MODEL).is_file())
    return next(found, folders[0] / DEFAULT_MODEL)


class MemoryShape(NamedTuple):
    """What a network remembers of a device, so that it computes nothing twice.

    It remembers ``layers * hops`` vectors of ``width`` numbers: the input of each layer for the
    last ``hops`` hops, oldest first. A vector depends on nothing before the window.
    """

    layers: int
    hops: int
    width: int


class Hops(NamedTuple):
    """The next k hops of n devices, and what is remembered of them.

    Attributes
    ----------
    samples : (m, hop * 8) float32
        Samples of hops, one hop a row.
    rows : (n, k) intp
        The rows of ``samples`` that are the next hops of each device, oldest first.
    memory : (v, width) float32
        Vectors that are remembered, of any devices.
    past : (n, layers * hops) intp
        The rows of ``memory`` that the network sees, in the order of `MemoryShape`.
    latest : (n, layers, min(k, hops)) intp
        The rows of ``memory`` that its newest vectors are written to, oldest first.
    """

    samples: NDArray[np.float32]
    rows: NDArray[np.intp]
    memory: NDArray[np.float32]
    past: NDArray[np.intp]
    latest: NDArray[np.intp]

    def take(self, some: slice) -> Hops:
        """The hops of some of the devices."""
        return self._replace(rows=self.rows[some], past=self.past[some], latest=self.latest[some])


Predict: TypeAlias = "Callable[[Hops], NDArray[np.float32]]"
"""A function like `Model.predict`."""


class Model:
    """A network and its metadata, ready to run.

    The network takes samples of one hop or more, and what it remembers of the device. It gives
    probabilities and what to remember of these hops.

    Parameters
    ----------
    path
        A ``.tflite`` file with metadata behind it.
    threads
        Threads of one inference call; the result doesn't depend on it.

    Attributes
    ----------
    memory
        What it remembers of a device.
    most_hops
        Most hops of a device in a call; a power of 2.

    Raises
    ------
    ModelError
        The file is missing, is not a model, has no metadata, or its tensors have other names,
        types or shapes than expected.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.metadata = read_metadata(path)
        try:
            self._content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"model {path}: {error.strerror}") from None
        self._threads = threads
        self._runners: dict[tuple[int, int], _Runner] = {}
        try:
            with first_output_as_warnings():
                runner = self._runner(1, 1)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"model {path}: {error}") from None
        self.memory = runner.memory
        self.most_hops = MOST_HOPS if runner.takes_more_hops else 1

    def _runner(self, size: int, hops: int) -> _Runner:
        runner = self._runners.get((size, hops))
        if runner is None:
            runner = _Runner(self._content, size, hops, self._threads, self.metadata)
            self._runners[size, hops] = runner
        return runner

    def predict(self, hops: Hops) -> NDArray[np.float32]:
        """Run the network over the next hops of some devices; it updates ``hops.memory``.

        Returns
        -------
        (n, k, hop, 2) float32
            Start and end probability of the samples that lie ``delay`` back. What is given for a
            hop, and remembered of it, doesn't depend on other devices or on k.
        """
        count, at_once = hops.rows.shape
        size = _batch_size(count, at_once)
        if size >= count:
            return self._runner(size, at_once).run(hops)
        out = np.empty((count, at_once, self.metadata.hop, PROBABILITIES), np.float32)
        begin = 0
        while begin < count:
            size = _batch_size(count - begin, at_once)
            chunk = slice(begin, begin + size)
            out[chunk] = self._runner(size, at_once).run(hops.take(chunk))
            begin += size
        return out


def _batch_size(count: int, hops: int) -> int:
    """Devices of the next call: a power of 2, larger than ``count`` if few are missing to it."""
    size = 1 << (count - 1).bit_length()
    if size * hops > LARGEST_BATCH:
        return LARGEST_BATCH // hops
    return size if (size - count) * hops <= _SPARE else size // 2


class _Runner:
    """One interpreter for so many hops of so many devices: resizing costs more than several."""

    def __init__(
        self, content: bytes, size: int, hops: int, threads: int, metadata: ModelMetadata
    ) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        inputs = _by_name("inputs", self._interpreter.get_input_details(), INPUTS)
        outputs = _by_name("outputs", self._interpreter.get_output_details(), OUTPUTS)
        details = [*inputs, *outputs]
        for one in details:
            if one["dtype"] is not np.float32:
                raise ValueError(f"its {one['name']} is {one['dtype'].__name__}, expected float32")
        self.memory = _memory_shape(inputs[1]["shape"], outputs[1]["shape"])
        self.takes_more_hops = inputs[0]["shape_signature"][2] == -1
        layers, seen, width = self.memory
        past = layers * seen
        if past + 1 != metadata.window // metadata.hop:
            raise ValueError(
                f"it sees {past + 1} hops, its metadata says {metadata.window // metadata.hop}"
            )
        self._samples, self._past, self._probabilities, self._latest = (
            one["index"] for one in details
        )
        expected = [
            (size, 1, hops * metadata.hop, CHANNELS),
            (size, 1, past, width),
            (size * hops, metadata.hop, PROBABILITIES),
            (size * hops, layers, width),
        ]
        # All layers of a device are one after the other, each with its vectors of all hops.
        self._given = (size, layers, hops, width)
        for one, shape in zip(inputs, expected, strict=False):
            self._interpreter.resize_tensor_input(one["index"], shape)
        self._interpreter.allocate_tensors()
        for one, shape in zip(details, expected, strict=True):
            found = tuple(self._interpreter.get_tensor(one["index"]).shape)
            if found != shape:
                raise ValueError(f"its {one['name']} is {found}, expected {shape}")

    def run(self, hops: Hops) -> NDArray[np.float32]:
        """See `Model.predict`; there may be fewer devices than the batch size."""
        # The interpreter refuses to run while a view of its tensors exists.
        view, (count, at_once) = self._interpreter.tensor, hops.rows.shape
        samples = view(self._samples)()
        taken = samples.reshape(len(samples), at_once, -1)[:count]
        hops.samples.take(hops.rows, axis=0, out=taken, mode="clip")
        hops.memory.take(hops.past, axis=0, out=view(self._past)()[:count, 0], mode="clip")
        del samples, taken
        self._interpreter.invoke()
        given = view(self._latest)().reshape(self._given)[:count]
        hops.memory[hops.latest] = given[:, :, -hops.latest.shape[2] :]
        del given
        probabilities = view(self._probabilities)()
        shape = (-1, at_once, *probabilities.shape[1:])
        result: NDArray[np.float32] = probabilities.reshape(shape)[:count].copy()
        return result


def _by_name(
    kind: str, details: list[dict[str, Any]], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Tensors in the order of ``names``."""
    found = {one["name"]: one for one in details}
    if len(details) != len(names) or found.keys() != set(names):
        raise ValueError(
            f"its {kind} are named {', '.join(one['name'] for one in details)}, "
            f"expected {' and '.join(names)}; export it with stepstream train or quantize"
        )
    return [found[name] for name in names]


def _memory_shape(past: NDArray[np.int32], latest: NDArray[np.int32]) -> MemoryShape:
    if len(past) != 4 or len(latest) != 3 or past[2] % latest[1]:
        raise ValueError(
            f"its past is {tuple(past)} and its latest {tuple(latest)}, "
            "expected (n, 1, layers * hops, width) and (n, layers, width)"
        )
    return MemoryShape(int(latest[1]), int(past[2]) // int(latest[1]), int(latest[2]))


def read_metadata(path: Path) -> ModelMetadata:
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(METADATA_FILE)
    except OSError as error:
        raise ModelError(f"model {path}: {error.strerror}") from None
    except (zipfile.BadZipFile, KeyError):
        raise ModelError(
            f"model {path}: no metadata in it; make it with stepstream train or quantize"
        ) from None
    try:
        return msgspec.json.decode(text, type=ModelMetadata)
    except (msgspec.DecodeError, ValueError) as error:
        raise ModelError(f"model {path}: its metadata is wrong: {error}") from None
