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


def layer_count(metadata: ModelMetadata) -> int:
    """Layers over hops that see a whole window, and nothing before it."""
    return (metadata.window // metadata.hop - 1) // MEMORY


def build_network(metadata: ModelMetadata, width: int = 64) -> keras.Model:
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

    Returns
    -------
    keras.Model
        From (n, 1, length, 8), any number of hops and the delay, to (n, 1, hops, 2 * hop): start
        and end probability in turn of each hop's samples.
    """
    samples = layers.Input((1, None, 8), name="samples")
    x = _stem(samples, metadata.hop, width, _join_by_product)
    for _ in range(layer_count(metadata)):
        x = _layer(layers.ZeroPadding2D(((0, 0), (MEMORY, 0)))(x), width)
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
    x = _stem(samples, metadata.hop, width, _join_by_stride)
    latest = []
    for layer in range(layer_count(metadata)):
        latest.append(x)
        seen = past[:, :, layer * MEMORY : (layer + 1) * MEMORY]
        x = _layer(layers.Concatenate(axis=2)([seen, x]), width)
    outputs = [_head(x, metadata.hop), layers.Concatenate(axis=2)(latest)]
    return keras.Model([samples, past], outputs)


def _stem(samples: keras.KerasTensor, hop: int, width: int, join: Join) -> keras.KerasTensor:
    """A vector of every hop."""
    x = _normalised(join(samples, hop // 2, STEM))
    return _normalised(join(x, 2, width))


def _join_by_product(x: keras.KerasTensor, count: int, width: int) -> keras.KerasTensor:
    """A vector of each ``count`` neighbours (n, 1, length, channels), put behind one another."""
    x = layers.Reshape((1, -1, count * x.shape[3]))(x)
    return layers.Conv2D(width, (1, 1), use_bias=False)(x)


def _join_by_stride(x: keras.KerasTensor, count: int, width: int) -> keras.KerasTensor:
    """The same by a convolution: where a shape is computed, LiteRT divides the network."""
    return layers.Conv2D(width, (1, count), strides=(1, count), use_bias=False)(x)


def _layer(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """A depthwise separable layer, with a bypass from the middle of its input."""
    y = _normalised(layers.DepthwiseConv2D((1, MEMORY + 1), use_bias=False)(x))
    y = _normalised(layers.Conv2D(width, (1, 1), use_bias=False)(y))
    return layers.Add()([y, layers.Cropping2D(((0, 0), (2, MEMORY - 2)))(x)])


def _head(x: keras.KerasTensor, hop: int) -> keras.KerasTensor:
    x = layers.Dropout(0.1)(x)
    # Probabilities are in full precision, even if the rest is mixed.
    return layers.Conv2D(
        2 * hop, (1, 1), activation="sigmoid", dtype="float32", name="probabilities"
    )(x)


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization(momentum=0.97)(x))
