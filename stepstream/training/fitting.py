"""Training a network."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from stepstream.training.augmentation import Variation
from stepstream.training.counting import learn_from
from stepstream.training.data import Labels
from stepstream.training.network import build_network
from stepstream.training.pipeline import count_stretches, make_dataset, scale
from stepstream.training.sampling import read_passes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stepstream.detection.model import ModelMetadata
    from stepstream.training.data import LabelledRecording

__all__ = ["Recipe", "fit", "predict_series", "prepare_devices"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEPT_BYTES = 256 << 20
LARGEST_KEPT_BYTES = 32 << 20

TEACHERS = (
    ({Labels.STEPS}, {Labels.CONTACTS}),
    ({Labels.STEPS, Labels.CONTACTS}, {Labels.ROUGH_CONTACTS, Labels.SWINGS, Labels.COUNTS}),
)
"""What each teacher is trained on, and what it places."""

TRAINING_VARIATION = Variation(
    rotate=True,
    tempo=(-0.45, 0.3),
    rates=0.4,
    whole_tempo=(-0.25, 0.25),
    whole_rates=0.2,
    amplitude=0.4,
    gyroscope_amplitude=0.2,
    noise=0.6,
    bias=0.3,
    drop_gyroscope=0.3,
    negatives=0.1,
)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs
        Passes over the recordings, each with other variations.
    alignment_epochs
        Passes over the recordings from which a teacher learns.
    batch_size
        Stretches of 9.6 s in a step of the optimiser.
    learning_rate
        The largest learning rate; it falls to zero along half a cosine.
    patience
        Epochs without a lower validation loss after which training ends, if people are held out.
    seed
        Seed of everything random.
    precision
        "float32", or "mixed": half precision where it does no harm.
    accumulate
        Batches whose gradients are added up for a step.
    remat
        Compute activations again for their gradients, in place of keeping them.
    width
        Channels of the network.
    balance
        How much sets, people and placements are balanced, see `read_passes`.
    whole
        Least share of what has whole steps, see `read_passes`.
    stepless
        How much samples at which nobody steps count in the loss, in multiples of the others.
    """

    epochs: int = 40
    alignment_epochs: int = 10
    batch_size: int = 24
    learning_rate: float = 6e-3
    patience: int = 15
    seed: int = 1
    precision: Literal["float32", "mixed"] = "float32"
    accumulate: int = 1
    remat: bool = False
    width: int = 64
    balance: float = 0.0
    whole: float = 0.0
    stepless: float = 1.0


def prepare_devices(threads: int) -> None:
    """Let TensorFlow allocate a GPU's memory as needed, and use this many threads.

    Call it before anything is computed.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def fit(
    training: Sequence[LabelledRecording],
    validation: Sequence[LabelledRecording],
    metadata: ModelMetadata,
    recipe: Recipe,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    logs: Path | None = None,
) -> keras.Model:
    """Train a network; earlier ones are teachers that place steps whose times aren't known.

    A first one, trained on whole steps, aligns contacts; a second one, trained on both, places the
    steps of which only the number is known. A first one is not needed if all is aligned already.

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
    logs
        Folder to write TensorBoard's logs to.

    Raises
    ------
    ValueError
        There are too few recordings, or the loss is not a number.

    Returns
    -------
    keras.Model
        For series of any length, in float32.
    """
    whole = [r for r in training if r.labels is Labels.STEPS]
    if not count_stretches(whole, metadata):
        raise ValueError("no recordings with whole steps, or all too short to train on")
    first = replace(recipe, epochs=recipe.alignment_epochs)
    training, validation = list(training), list(validation)
    for known, taught in TEACHERS:
        if any(r.needs_teacher and r.labels in taught for r in training):
            lesson = [r for r in training if r.labels in known]
            predict = _predictor(_fit(lesson, [], metadata, first, on_epoch, None), metadata)
            training = learn_from(training, predict, taught)
            validation = learn_from(validation, predict, taught)
    return _fit(training, validation, metadata, recipe, on_epoch, logs)


def predict_series(
    network: keras.Model, axes: NDArray[np.float32], metadata: ModelMetadata
) -> NDArray[np.float32]:
    """Probabilities (n, 2) of a whole series of axes (n, 6); 0 where there is no prediction."""
    given = np.zeros((len(axes), 2), np.float32)
    if len(axes) >= metadata.delay + metadata.hop:
        whole = axes[: len(axes) - len(axes) % metadata.hop]
        channels = scale(tf.constant(whole), metadata)[tf.newaxis, tf.newaxis]
        probabilities = np.reshape(network(channels, training=False), (-1, 2))
        given[: len(probabilities)] = probabilities
    return given


def _predictor(
    network: keras.Model, metadata: ModelMetadata
) -> Callable[[LabelledRecording], NDArray[np.float32]]:
    return lambda recording: predict_series(network, recording.axes, metadata)


def _masked_crossentropy(wanted: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
    wanted, known = tf.split(tf.cast(wanted, tf.float32), 2, axis=-1)
    given = tf.clip_by_value(tf.cast(given, tf.float32), 1e-6, 1 - 1e-6)
    loss = wanted * tf.math.log(given) + (1 - wanted) * tf.math.log(1 - given)
    return -tf.reduce_sum(loss * known) / tf.maximum(tf.reduce_sum(known), 1.0)


def _keep_memory() -> None:
    """Let the allocator keep freed memory, of which each batch needs as much again.

    TensorFlow's datasets from generators let glibc return all but 128 KiB. Then the kernel clears
    half a gigabyte of pages a second: half of the time of a training.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _fit(
    training: Sequence[LabelledRecording],
    validation: Sequence[LabelledRecording],
    metadata: ModelMetadata,
    recipe: Recipe,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
    logs: Path | None,
) -> keras.Model:
    keras.utils.set_random_seed(recipe.seed)
    stretches = count_stretches(training, metadata) * (1 + TRAINING_VARIATION.negatives)
    batches = max(1, round(stretches / recipe.batch_size))
    network = _build(metadata, recipe)
    steps = -(-recipe.epochs * batches // recipe.accumulate)
    schedule = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 10,
        steps,
        warmup_target=recipe.learning_rate,
        warmup_steps=max(1, steps // 20),
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=1e-4,
        use_ema=True,
        ema_momentum=0.99,
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
    )
    network.compile(optimizer, _masked_crossentropy, jit_compile=False)
    callbacks: list[Any] = [
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        # TensorFlow changes the setting when the first epoch begins.
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: _keep_memory()),
    ]
    held_out = None
    if validation:
        held_out = make_dataset(validation, metadata, Variation(), recipe.batch_size, recipe.seed)
        callbacks.append(
            keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=True)
        )
    if on_epoch is not None:
        report = on_epoch
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, losses: report(epoch + 1, dict(losses))
            )
        )
    if logs is not None:
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    data = make_dataset(
        training,
        metadata,
        TRAINING_VARIATION,
        recipe.batch_size,
        recipe.seed,
        read_passes(training, recipe.balance, recipe.whole)
        if recipe.balance or recipe.whole
        else None,
        recipe.stepless,
    )
    history = network.fit(
        data.repeat(),
        epochs=recipe.epochs,
        steps_per_epoch=batches,
        validation_data=held_out and held_out.repeat(),
        validation_steps=max(1, count_stretches(validation, metadata) // recipe.batch_size),
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    if math.isnan(history.history["loss"][-1]):
        raise ValueError("the loss is not a number; lower the learning rate")
    trained = build_network(metadata, recipe.width)
    trained.set_weights(network.get_weights())
    return trained


def _build(metadata: ModelMetadata, recipe: Recipe) -> keras.Model:
    policy = keras.config.dtype_policy()
    half = "mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16"
    try:
        if recipe.precision == "mixed":
            keras.config.set_dtype_policy(half)
        return build_network(metadata, recipe.width, remat=recipe.remat)
    finally:
        keras.config.set_dtype_policy(policy)
