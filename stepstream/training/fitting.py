"""Training a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from stepstream.training.augmentation import Variation, make_windows
from stepstream.training.network import build_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stepstream.detection.model import ModelMetadata
    from stepstream.training.data import LabelledRecording

__all__ = ["Recipe", "fit"]

TRAINING_VARIATION = Variation(
    rotate=True, tempo=0.2, amplitude=0.3, noise=0.4, bias=0.3, drop_gyroscope=0.3
)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs
        Passes over the recordings, each varied anew.
    batch_size
        Windows in a step of the optimiser.
    learning_rate
        Its largest value; it falls to zero along half a cosine.
    patience
        Epochs without a lower validation loss after which training ends, if people are held out.
    seed
        Of everything random.
    """

    epochs: int = 30
    batch_size: int = 512
    learning_rate: float = 4e-3
    patience: int = 10
    seed: int = 1


class _VariedWindows(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of windows, made anew for every epoch."""

    def __init__(
        self, recordings: Sequence[LabelledRecording], metadata: ModelMetadata, recipe: Recipe
    ) -> None:
        super().__init__()
        self._recordings = recordings
        self._metadata = metadata
        self._batch_size = recipe.batch_size
        self._random = np.random.default_rng(recipe.seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._windows) // self._batch_size

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._windows[rows], self._targets[rows]

    def on_epoch_end(self) -> None:
        """Vary the windows anew."""
        self._windows, self._targets = make_windows(
            self._recordings, self._metadata, TRAINING_VARIATION, self._random
        )
        self._order = self._random.permutation(len(self._windows))


def fit(
    training: Sequence[LabelledRecording],
    validation: Sequence[LabelledRecording],
    metadata: ModelMetadata,
    recipe: Recipe,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> keras.Model:
    """Train a network.

    Parameters
    ----------
    training
        Recordings to learn from.
    validation
        Recordings of other people, for stopping early; may be empty.
    metadata
        Window, hop and scales.
    recipe
        How to train.
    on_epoch
        Called after each epoch with its number, from 1, and the losses.
    """
    keras.utils.set_random_seed(recipe.seed)
    windows = _VariedWindows(training, metadata, recipe)
    if not len(windows):
        raise ValueError("fewer windows than one batch; give longer recordings")
    network = build_network(metadata)
    schedule = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 10,
        recipe.epochs * len(windows),
        warmup_target=recipe.learning_rate,
        warmup_steps=len(windows),
    )
    network.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4), "binary_crossentropy")
    callbacks: list[Any] = [keras.callbacks.TerminateOnNaN()]
    if on_epoch is not None:
        report = on_epoch
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: report(epoch + 1, dict(logs))
            )
        )
    held_out = None
    if validation:
        random = np.random.default_rng(recipe.seed)
        held_out = make_windows(validation, metadata, Variation(), random)
        callbacks.append(
            keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=True)
        )
    history = network.fit(
        windows,
        epochs=recipe.epochs,
        validation_data=held_out,
        validation_batch_size=4096,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    if math.isnan(history.history["loss"][-1]):
        raise ValueError("the loss is not a number; lower the learning rate")
    return network
