"""The network: depthwise separable convolutions over hops, trained whole, served hop by hop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from stepstream.detection.model import ModelMetadata

__all__ = ["MEMORY", "build_cell", "build_network", "layer_count"]

STEM = 16
MEMORY = 5
"""Earlier hops that each layer sees beside the newest."""


def layer_count(metadata: ModelMetadata) -> int:
    """Layers over hops that see a whole window, and nothing before it."""
    return (metadata.window // metadata.hop - 1) // MEMORY


def build_network(metadata: ModelMetadata, width: int = 64) -> keras.Model:
    """Untrained network from samples to probabilities, in the form in which it is trained.

    Two convolutions without overlap make one vector of every hop; each of the layers that follow
    makes one of the newest hop's vector and the `MEMORY` before it, which are 0 before the first.
    So a long stretch gives probabilities for every hop, the first ones as where a device's
    window begins; neighbouring windows share their work.

    Parameters
    ----------
    metadata
        Window and hop.
    width
        Channels behind the stem.

    Returns
    -------
    keras.Model
        From (n, 1, length, 8), any number of hops and the delay, to (n, 1, hops, 2 * hop): start
        and end probability in turn of each hop's samples.
    """
    samples = layers.Input((1, None, 8), name="samples")
    x = _stem(samples, metadata.hop, width)
    for _ in range(layer_count(metadata)):
        x = _layer(layers.ZeroPadding2D(((0, 0), (MEMORY, 0)))(x), width)
    x = layers.Cropping2D(((0, 0), (metadata.delay // metadata.hop, 0)))(x)
    return keras.Model(samples, _head(x, metadata.hop))


def build_cell(metadata: ModelMetadata, width: int) -> keras.Model:
    """The same network, with the same weights, for one hop after the other.

    What each layer saw of the hops before is given to it, so that nothing is computed twice.

    Returns
    -------
    keras.Model
        From samples (n, 1, hop, 8) and, layer by layer, the vectors that went into it for the
        last hops, oldest first, (n, 1, layers * MEMORY, width); to (n, 1, 1, 2 * hop)
        probabilities, and the vector that went into each layer now, (n, 1, layers, width).
    """
    samples = layers.Input((1, metadata.hop, 8), name="samples")
    past = layers.Input((1, layer_count(metadata) * MEMORY, width), name="past")
    x = _stem(samples, metadata.hop, width)
    latest = []
    for layer in range(layer_count(metadata)):
        latest.append(x)
        seen = past[:, :, layer * MEMORY : (layer + 1) * MEMORY]
        x = _layer(layers.Concatenate(axis=2)([seen, x]), width)
    outputs = [_head(x, metadata.hop), layers.Concatenate(axis=2)(latest)]
    return keras.Model([samples, past], outputs)


def _stem(samples: keras.KerasTensor, hop: int, width: int) -> keras.KerasTensor:
    """A vector of every hop: by products, for which LiteRT needs no copy of what it multiplies."""
    x = _normalised(layers.Conv2D(STEM, (1, 1), use_bias=False)(_join(samples, hop // 2)))
    return _normalised(layers.Conv2D(width, (1, 1), use_bias=False)(_join(x, 2)))


def _join(x: keras.KerasTensor, count: int) -> keras.KerasTensor:
    """Each ``count`` neighbours (n, 1, length, channels) as one."""
    length, channels = x.shape[2:]
    if length is None:
        return layers.Reshape((1, -1, count * channels))(x)
    # A shape that is computed would cut the network into pieces for LiteRT.
    return keras.ops.reshape(x, (-1, 1, length // count, count * channels))


def _layer(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """Depthwise separable, with a bypass from the middle of what it sees."""
    y = _normalised(layers.DepthwiseConv2D((1, MEMORY + 1), use_bias=False)(x))
    y = _normalised(layers.Conv2D(width, (1, 1), use_bias=False)(y))
    return layers.Add()([y, layers.Cropping2D(((0, 0), (2, MEMORY - 2)))(x)])


def _head(x: keras.KerasTensor, hop: int) -> keras.KerasTensor:
    x = layers.Dropout(0.1)(x)
    # Probabilities stay in full precision where the rest is mixed.
    return layers.Conv2D(
        2 * hop, (1, 1), activation="sigmoid", dtype="float32", name="probabilities"
    )(x)


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization(momentum=0.97)(x))
