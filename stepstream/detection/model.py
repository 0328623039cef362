"""The neural network: its file, what it expects and gives, and running it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from msgspec import Meta

from stepstream.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AXES",
    "CHANNELS",
    "METADATA_FILE",
    "Model",
    "ModelMetadata",
    "default_model_path",
    "write_metadata",
]

AXES = 6
"""Axes of a reading: acceleration x, y, z, angular velocity x, y, z."""
CHANNELS = 8
"""Channels of the model: the axes, scaled, and the two magnitudes."""
METADATA_FILE = "stepstream.json"
"""The metadata's name in the archive at the end of the model file."""

DEFAULT_MODEL = "stepstream-walk-2.0.tflite"

_US = 1_000_000
_LARGEST_BATCH = 64
"""More windows at a time leave the processor's second cache, and cost more each."""

_WINDOW_FIELDS = (
    "rate_hz",
    "window",
    "hop",
    "delay",
    "accel_scale",
    "gyro_scale",
    "refractory",
    "longest_step",
)

_Positive = Annotated[int, Meta(gt=0)]
_Probability = Annotated[float, Meta(gt=0, lt=1)]


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
        A window of ``window`` samples is judged every ``hop`` samples; the model gives
        probabilities for the ``hop`` samples that end ``delay`` samples before the window does.
    accel_scale, gyro_scale
        Acceleration (m/s^2) and angular velocity (rad/s) are divided by these.
    start_threshold, end_threshold
        Least probability of a heel lift and of a toe strike.
    refractory
        Least distance of two ends.
    settling
        Samples after an end that must not exceed it before it counts, at most ``hop``.
    shortest_step, longest_step
        Bounds on the time from a step's start to its end.
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

    @property
    def period_us(self) -> int:
        """Time between two samples, microseconds."""
        return _US // self.rate_hz

    def require_same_windows(self, other: ModelMetadata) -> None:
        """Refuse a model that can't go on with the windows of this one.

        Raises
        ------
        ModelError
            Something that shapes windows, or what is remembered of them, differs.
        """
        for name in _WINDOW_FIELDS:
            own, given = getattr(self, name), getattr(other, name)
            if own != given:
                raise ModelError(
                    f"{other.label}: its {name} is {given}, that of {self.label} {own}; "
                    "changing it needs a restart"
                )

    @property
    def label(self) -> str:
        """The model's name and version, as events carry it."""
        return f"{self.name}-{self.version}"


def write_metadata(path: Path, metadata: ModelMetadata) -> None:
    """Append ``metadata`` to a bare ``.tflite`` file, as the zip archive that TFLite metadata uses.

    LiteRT ignores what stands behind the network; ``unzip -p FILE stepstream.json`` prints it.
    """
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


class Model:
    """A network and its metadata, ready to run.

    Parameters
    ----------
    path
        A ``.tflite`` file with metadata behind it.
    threads
        Threads of one inference call; the result doesn't depend on it.

    Raises
    ------
    ModelError
        The file is missing, not a model, of another shape than its metadata says, or without
        metadata.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.metadata = _read_metadata(path)
        try:
            self._content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"model {path}: {error.strerror}") from None
        self._threads = threads
        self._runners: dict[int, _Runner] = {}
        try:
            self._runner(1)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"model {path}: {error}") from None

    def _runner(self, size: int) -> _Runner:
        runner = self._runners.get(size)
        if runner is None:
            runner = _Runner(self._content, size, self._threads, self.metadata)
            self._runners[size] = runner
        return runner

    def predict(self, blocks: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Probabilities for windows that are gathered from blocks of samples.

        Parameters
        ----------
        blocks : (m, hop * 8) float32
            Samples, ``hop`` in a row.
        rows : (n, window // hop) intp
            For each window, the rows of ``blocks`` that it is made of, oldest first.

        Returns
        -------
        (n, hop, 2) float32
            Start and end probability of the samples that lie ``delay`` back. A row doesn't
            depend on the others.
        """
        out = np.empty((len(rows), self.metadata.hop, 2), np.float32)
        begin = 0
        while begin < len(rows):
            # A call costs about as much as one window, so that padding would seldom pay.
            size = min(_LARGEST_BATCH, 1 << ((len(rows) - begin).bit_length() - 1))
            chunk = slice(begin, begin + size)
            out[chunk] = self._runner(size).run(blocks, rows[chunk])
            begin += size
        return out


class _Runner:
    """One interpreter for one batch size: resizing costs more than several of them."""

    def __init__(self, content: bytes, size: int, threads: int, metadata: ModelMetadata) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError("expected one input and one output")
        self._input = inputs[0]["index"]
        self._output = outputs[0]["index"]
        for name, details in (("input", inputs[0]), ("output", outputs[0])):
            if details["dtype"] is not np.float32:
                raise ValueError(f"its {name} is {details['dtype'].__name__}, expected float32")
        expected = (1, metadata.window, CHANNELS)
        if tuple(inputs[0]["shape"])[1:] != expected:
            raise ValueError(f"its input is {inputs[0]['shape']}, expected (n, *{expected})")
        self._interpreter.resize_tensor_input(self._input, (size, *expected))
        self._interpreter.allocate_tensors()
        shape = tuple(self._interpreter.get_tensor(self._output).shape)
        if shape != (size, metadata.hop, 2):
            raise ValueError(f"its output is {shape}, expected {(size, metadata.hop, 2)}")
        self._blocks = metadata.window // metadata.hop

    def run(self, blocks: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        # The views must not outlive the call: the interpreter refuses to run while they exist.
        window = self._interpreter.tensor(self._input)().reshape(-1, self._blocks, blocks.shape[1])
        np.take(blocks, rows, axis=0, out=window, mode="clip")
        del window
        self._interpreter.invoke()
        result: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return result


def _read_metadata(path: Path) -> ModelMetadata:
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
