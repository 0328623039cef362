"""The network: depthwise separable convolutions over hops, trained whole, run hop by hop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepstream.detection.model import ModelMetadata

    Join = Callable[[keras.KerasTensor, int, int], keras.KerasTensor]

__all__ = ["MEMORY", "build_cell", "build_network", "layer_count"]

STEM = 16
MEMORY = 5
"""Earlier hops that each layer sees in addition to the newest."""

MOMENTUM = 0.97
"""How much of the running mean and variance of a normalisation a batch leaves."""
REMAT_MOMENTUM = MOMENTUM**0.5
"""The same where each batch is computed twice, and counted both times."""


def layer_count(metadata: ModelMetadata) -> int:
    """Layers over hops that see a whole window, and nothing before it."""
    return (metadata.window // metadata.hop - 1) // MEMORY


def build_network(metadata: ModelMetadata, width: int = 64, *, remat: bool = False) -> keras.Model:
    """Untrained network from samples to probabilities, in the form in which it is trained.

    Two convolutions without overlap turn every hop into a vector. Each layer after that computes a
    vector from the newest hop's vector and the `MEMORY` vectors before it, which are 0 before the
    first hop. So a long stretch gives probabilities for every hop, and its first hops are computed
    like those at the beginning of a device's window. Neighbouring windows share their work.

    Parameters
    ----------
    metadata
        Window and hop.
    width
        Channels after the first two convolutions.
    remat
        Keep only what goes into each layer, and compute the rest again for its gradient, after
        Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost",
        arXiv 1604.06174, 2016. The weights are the same, in the same order.

    Returns
    -------
    keras.Model
        From (n, 1, length, 8), any number of hops and the delay, to (n, 1, hops, 2 * hop): start
        and end probability in turn of each hop's samples.
    """
    momentum = REMAT_MOMENTUM if remat else MOMENTUM

    def stem(x: keras.KerasTensor) -> keras.KerasTensor:
        return _stem(x, metadata.hop, width, _join_by_product, momentum)

    def layer(x: keras.KerasTensor) -> keras.KerasTensor:
        return _layer(layers.ZeroPadding2D(((0, 0), (MEMORY, 0)))(x), width, momentum)

    samples = layers.Input((1, None, 8), name="samples")
    x = samples
    for part in [stem] + [layer] * layer_count(metadata):
        x = _rematerialised(part, x) if remat else part(x)
    x = layers.Cropping2D(((0, 0), (metadata.delay // metadata.hop, 0)))(x)
    return keras.Model(samples, _head(x, metadata.hop))


def build_cell(metadata: ModelMetadata, width: int) -> keras.Model:
    """The same network, with the same weights, for some hops after others.

    Each layer gets its own inputs of the previous hops, so nothing is computed twice.

    Returns
    -------
    keras.Model
        Weights in the order of those of `build_network`, but for the shape of the first kernels.
        From samples of k hops (n, 1, k * hop, 8) and, layer by layer, the vectors that went into
        it for the last hops, oldest first, (n, 1, layers * MEMORY, width); to (n, 1, k, 2 * hop)
        probabilities, and the vectors that went into each layer now, (n, 1, layers * k, width).
    """
    samples = layers.Input((1, None, 8), name="samples")
    past = layers.Input((1, layer_count(metadata) * MEMORY, width), name="past")
    x = _stem(samples, metadata.hop, width, _join_by_stride, MOMENTUM)
    latest = []
    for layer in range(layer_count(metadata)):
        latest.append(x)
        seen = past[:, :, layer * MEMORY : (layer + 1) * MEMORY]
        x = _layer(layers.Concatenate(axis=2)([seen, x]), width, MOMENTUM)
    outputs = [_head(x, metadata.hop), layers.Concatenate(axis=2)(latest)]
    return keras.Model([samples, past], outputs)


class _Rematerialised(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A part of a network whose inner values are computed again for its gradient."""

    def __init__(self, part: keras.Model) -> None:
        super().__init__()
        self.part = part

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        return keras.remat(lambda given: self.part(given, training=training))(x)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        computed: tuple[int | None, ...] = self.part.compute_output_shape(shape)
        return computed


def _rematerialised(
    part: Callable[[keras.KerasTensor], keras.KerasTensor], x: keras.KerasTensor
) -> keras.KerasTensor:
    given = layers.Input(x.shape[1:])
    return _Rematerialised(keras.Model(given, part(given)))(x)


def _stem(
    samples: keras.KerasTensor, hop: int, width: int, join: Join, momentum: float
) -> keras.KerasTensor:
    """A vector of every hop."""
    x = _normalised(join(samples, hop // 2, STEM), momentum)
    return _normalised(join(x, 2, width), momentum)


def _join_by_product(x: keras.KerasTensor, count: int, width: int) -> keras.KerasTensor:
    """A vector of each ``count`` neighbours (n, 1, length, channels), put behind one another."""
    x = layers.Reshape((1, -1, count * x.shape[3]))(x)
    return layers.Conv2D(width, (1, 1), use_bias=False)(x)


def _join_by_stride(x: keras.KerasTensor, count: int, width: int) -> keras.KerasTensor:
    """The same by a convolution: where a shape is computed, LiteRT divides the network."""
    return layers.Conv2D(width, (1, count), strides=(1, count), use_bias=False)(x)


def _layer(x: keras.KerasTensor, width: int, momentum: float) -> keras.KerasTensor:
    """A depthwise separable layer, with a bypass from the middle of its input."""
    y = _normalised(layers.DepthwiseConv2D((1, MEMORY + 1), use_bias=False)(x), momentum)
    y = _normalised(layers.Conv2D(width, (1, 1), use_bias=False)(y), momentum)
    return layers.Add()([y, layers.Cropping2D(((0, 0), (2, MEMORY - 2)))(x)])


def _head(x: keras.KerasTensor, hop: int) -> keras.KerasTensor:
    x = layers.Dropout(0.1)(x)
    # Probabilities are in full precision, even if the rest is mixed.
    return layers.Conv2D(
        2 * hop, (1, 1), activation="sigmoid", dtype="float32", name="probabilities"
    )(x)


def _normalised(x: keras.KerasTensor, momentum: float) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization(momentum=momentum)(x))
