"""``stepstream quantize``."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
from pydantic import Field
from pydantic_settings import CliPositionalArg

from stepstream.commands.train import require_tensorflow
from stepstream.detection import Model
from stepstream.errors import ModelError
from stepstream.settings import CommandSettings
from stepstream.training.augmentation import Variation, make_windows
from stepstream.training.data import load_people

__all__ = ["Quantize"]


class Quantize(CommandSettings):
    """Make the int8 form of a trained model, calibrated on real windows."""

    network: CliPositionalArg[Path]
    """The `.keras` file that `stepstream train` wrote; the `.tflite` file stands beside it."""
    data: CliPositionalArg[Path]
    """Folder of recordings, as for `stepstream train`."""
    out: Path | None = None
    """Model file to write; the network's name with `-int8.tflite` if not set."""
    windows: int = Field(500, ge=1)
    """Windows from which the ranges of all activations are taken."""
    seed: int = 1
    """Of the windows' choice."""

    def execute(self) -> int:
        """Quantize and write."""
        require_tensorflow()
        import keras  # noqa: PLC0415 - an extra

        from stepstream.training.export import quantize  # noqa: PLC0415 - TensorFlow

        metadata = Model(self.network.with_suffix(".tflite")).metadata
        try:
            network = keras.models.load_model(self.network)
        except (OSError, ValueError) as error:
            raise ModelError(f"network {self.network}: {error}") from None
        random = np.random.default_rng(self.seed)
        windows, _ = make_windows(load_people(self.data), metadata, Variation(), random)
        chosen = random.choice(len(windows), min(self.windows, len(windows)), replace=False)
        out = self.out or self.network.with_name(f"{self.network.stem}-int8.tflite")
        quantize(
            network,
            out,
            msgspec.structs.replace(metadata, name=f"{metadata.name}-int8"),
            windows[chosen],
        )
        sys.stdout.write(f"{out}: {Model(out).metadata.label}, {out.stat().st_size:,} bytes\n")
        return 0
