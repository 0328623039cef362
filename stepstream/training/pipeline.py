"""Stretches to train on, as a stream with a bounded number of them in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from stepstream.training.augmentation import Labelled, Variation, retime
from stepstream.training.negatives import handle
from stepstream.training.sampling import choose_passes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from stepstream.detection.model import ModelMetadata
    from stepstream.training.data import LabelledRecording

__all__ = ["count_stretches", "make_dataset", "scale"]

HOPS = 96
"""Hops of a stretch that the network predicts: 9.6 s. All have the same rotation and scale."""
SHUFFLED = 1024
"""Stretches from which the next one is chosen at random; 25 KB each."""
HANDLED = 8
"""Synthetic pieces that are made together."""


def count_stretches(recordings: Sequence[LabelledRecording], metadata: ModelMetadata) -> int:
    """Approximate number of stretches in a pass over some recordings."""
    length = HOPS * metadata.hop
    return sum(max(1, (len(r.axes) - metadata.delay) // length) for r in recordings)


def make_dataset(  # noqa: PLR0913, PLR0917 - what to read, and how
    recordings: Sequence[LabelledRecording],
    metadata: ModelMetadata,
    variation: Variation,
    batch_size: int,
    seed: int,
    passes: NDArray[np.float64] | None = None,
    stepless: float = 1.0,
) -> tf.data.Dataset:
    """Batches of stretches, shuffled and varied differently in every pass.

    Recordings are read one at a time, cut into stretches, and these shuffled over a bounded
    number. In a pass, each is read once, or as often as ``passes`` says, see `read_passes`.

    Returns
    -------
    tf.data.Dataset
        Windows (n, 1, length, 8) and the wanted output (n, 1, HOPS, 4 * hop): first the
        probabilities of the hop's samples, then how much each counts, see `retime`.
    """
    random = np.random.default_rng(seed)
    length = HOPS * metadata.hop + metadata.delay
    shape = (HOPS, 2 * metadata.hop)

    def generate() -> Iterator[Labelled]:
        share = variation.negatives * count_stretches(recordings, metadata)
        negatives = round(share * HOPS * metadata.hop / 2000)
        chosen = np.arange(len(recordings)) if passes is None else choose_passes(passes, random)
        order = random.permutation(len(chosen) + -(-negatives // HANDLED))
        for place in order:
            if place < len(chosen):
                labelled = retime(recordings[chosen[place]], variation, random, stepless)
                yield _padded(labelled, length)
                continue
            for axes in handle(random, HANDLED):
                none = np.zeros((len(axes), 2), np.float32)
                yield Labelled(axes, none, none + 1)

    def cut(axes: tf.Tensor, wanted: tf.Tensor, known: tf.Tensor) -> tf.data.Dataset:
        step = HOPS * metadata.hop
        room = tf.maximum(tf.shape(axes)[0] - length, 0) % step
        first = tf.random.uniform((), 0, room + 1, tf.int32) if variation != Variation() else 0

        def frames(values: tf.Tensor, size: int) -> tf.Tensor:
            return tf.signal.frame(values[first:], size, step, axis=0)

        stretches = frames(axes, length)
        count = tf.shape(stretches)[0]
        given = [
            tf.reshape(frames(values, step)[:count], (count, *shape)) for values in (wanted, known)
        ]
        return tf.data.Dataset.from_tensor_slices((stretches, tf.concat(given, axis=-1)))

    def finish(axes: tf.Tensor, wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return scale(_vary(axes, variation), metadata)[:, tf.newaxis], wanted[:, tf.newaxis]

    two = tf.TensorSpec((None, 2), tf.float32)
    signature = Labelled(tf.TensorSpec((None, 6), tf.float32), two, two)
    stretches = tf.data.Dataset.from_generator(generate, output_signature=tuple(signature))
    stretches = stretches.flat_map(cut)
    if variation != Variation():
        stretches = stretches.shuffle(SHUFFLED, seed=seed)
    return stretches.batch(batch_size).map(finish).prefetch(1)


def scale(axes: tf.Tensor, metadata: ModelMetadata) -> tf.Tensor:
    """Channels of the model from axes (..., 6), as the detector makes them."""
    accel, gyro = axes[..., :3] / metadata.accel_scale, axes[..., 3:] / metadata.gyro_scale
    magnitudes = [tf.norm(sensor, axis=-1, keepdims=True) for sensor in (accel, gyro)]
    return tf.concat([accel, gyro, *magnitudes], axis=-1)


def _padded(labelled: Labelled, length: int) -> Labelled:
    """At least ``length`` samples: of a short recording, the last one stays, and nothing is known.

    A whole stretch of it is learned from then, and none of what is added.
    """
    missing = max(0, length - len(labelled.axes))
    added = ((0, missing), (0, 0))
    return Labelled(
        np.pad(labelled.axes, added, "edge"),
        np.pad(labelled.wanted, added),
        np.pad(labelled.known, added),
    )


def _vary(axes: tf.Tensor, variation: Variation) -> tf.Tensor:
    """Stretches (n, length, 6), each varied at random."""
    count = tf.shape(axes)[0]
    accel, gyro = axes[..., :3], axes[..., 3:]

    def draw(limit: float, *shape: int) -> tf.Tensor:
        return tf.random.uniform((count, *(shape or (1, 1))), -limit, limit)

    if variation.amplitude:
        factor = tf.exp(draw(variation.amplitude))
        rest = tf.reduce_mean(accel, axis=1, keepdims=True)
        accel = rest + (accel - rest) * factor
        gyro *= factor * tf.exp(draw(variation.gyroscope_amplitude))
    if variation.rotate:
        rotation = _rotations(tf.random.normal((count, 4)))
        accel, gyro = tf.matmul(accel, rotation), tf.matmul(gyro, rotation)
        # With a rotation this gives any mirror image: acceleration changes its sign, the angular
        # velocity, a pseudovector, doesn't.
        accel *= tf.where(tf.random.uniform((count, 1, 1)) < 0.5, -1.0, 1.0)
    if variation.noise:
        # Squared, so that most values are small: sensors differ by orders of magnitude.
        width = tf.square(draw(1.0)) * variation.noise
        accel += tf.random.normal(tf.shape(accel)) * width
        gyro += tf.random.normal(tf.shape(gyro)) * width / 10
    if variation.bias:
        accel += draw(variation.bias, 1, 3)
        gyro += draw(variation.bias / 10, 1, 3)
    if variation.drop_gyroscope:
        gyro *= tf.cast(tf.random.uniform((count, 1, 1)) >= variation.drop_gyroscope, tf.float32)
    return tf.concat([accel, gyro], axis=-1)


def _rotations(quaternions: tf.Tensor) -> tf.Tensor:
    """Rotations (n, 3, 3), uniform if the quaternions (n, 4) are normal deviates.

    After Shoemake, "Uniform random rotations", Graphics Gems III, 1992.
    """
    w, x, y, z = tf.unstack(tf.math.l2_normalize(quaternions, axis=-1), axis=1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return tf.stack([tf.stack(row, axis=1) for row in rows], axis=1)
