"""``stepstream quantize``."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field
from pydantic_settings import CliPositionalArg

from stepstream.commands.train import require_tensorflow
from stepstream.detection import Model
from stepstream.detection.resampling import scale_channels
from stepstream.errors import ModelError
from stepstream.settings import CommandSettings
from stepstream.training.sets import load_people

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.detection import ModelMetadata
    from stepstream.training.data import LabelledRecording

__all__ = ["Quantize", "draw_windows"]


class Quantize(CommandSettings):
    """Convert a trained model to int8, calibrated on real windows."""

    network: CliPositionalArg[Path]
    """The `.keras` file that `stepstream train` wrote; the `.tflite` file must be beside it."""
    data: CliPositionalArg[list[Path]] = Field(min_length=1)
    """Folders of recordings, as for `stepstream train`."""
    out: Path | None = None
    """Model file to write; the network's name with `-int8.tflite` if not set."""
    windows: int = Field(500, ge=1)
    """Number of windows to measure the ranges of all activations on, the same for each placement and activity."""
    prune: float = Field(0.0, ge=0, lt=1)
    """Share of the weights, the smallest, that are set to 0 first. The file compresses better; LiteRT gets no faster."""
    seed: int = 1
    """Seed of the choice of windows."""

    def execute(self) -> int:
        """Quantize, write the file, and print its size."""
        require_tensorflow()
        import keras  # noqa: PLC0415 - an extra

        from stepstream.training.export import prune, quantize  # noqa: PLC0415 - TensorFlow

        metadata = Model(self.network.with_suffix(".tflite")).metadata
        try:
            network = keras.models.load_model(self.network)
        except (OSError, ValueError) as error:
            raise ModelError(f"network {self.network}: {error}") from None
        if self.prune:
            prune(network, self.prune)
        random = np.random.default_rng(self.seed)
        windows = draw_windows(load_people(self.data), metadata, self.windows, random)
        out = self.out or self.network.with_name(f"{self.network.stem}-int8.tflite")
        named = msgspec.structs.replace(metadata, name=f"{metadata.name}-int8")
        quantize(network, out, named, windows)
        packed = len(gzip.compress(out.read_bytes(), mtime=0))
        sys.stdout.write(
            f"{out}: {Model(out).metadata.label}, {out.stat().st_size:,} bytes, "
            f"{packed:,} with gzip\n"
        )
        return 0


def draw_windows(
    recordings: Sequence[LabelledRecording],
    metadata: ModelMetadata,
    count: int,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Real windows (n, 1, window, 8), about the same number for each placement and activity."""
    groups: dict[tuple[str, int], list[NDArray[np.float32]]] = {}
    for recording in recordings:
        channels = scale_channels(
            np.asarray(recording.axes), metadata.accel_scale, metadata.gyro_scale
        )
        windows = sliding_window_view(channels, metadata.window, axis=0)[:: metadata.window]
        activity = recording.activity[metadata.window // 2 :: metadata.window][: len(windows)]
        for kind in np.unique(activity).tolist():
            groups.setdefault((recording.placement, kind), []).append(
                windows[: len(activity)][activity == kind]
            )
    share = -(-count // max(1, len(groups)))
    drawn = []
    for parts in groups.values():
        windows = np.concatenate(parts)
        drawn.append(random.permutation(windows)[:share])
    return np.concatenate(drawn).transpose(0, 2, 1)[:, np.newaxis].astype(np.float32)
