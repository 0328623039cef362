"""The network: a few strided, depthwise separable convolutions over a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from stepstream.detection.model import ModelMetadata

__all__ = ["build_network"]

STEM = 16
REACH = 6


def build_network(
    metadata: ModelMetadata, width: int = 48, length: int | None = None
) -> keras.Model:
    """Untrained network from samples to probabilities.

    Two-dimensional convolutions of height 1 stand for one-dimensional ones: LiteRT runs them as
    one piece at any batch size. Two layers without overlap make one vector of every hop; what
    follows works on these, an eighth of the samples, which is what keeps it cheap. Nothing is
    padded: over a window the last layer is left with one place, over anything longer with one
    for every hop. So it is trained on long stretches, where neighbouring windows share their
    work: ten times as fast as window by window.

    Parameters
    ----------
    metadata
        Window and hop.
    width
        Channels behind the stem.
    length
        Samples of the input; any number of hops, at least a window, if not given.

    Returns
    -------
    keras.Model
        From (n, 1, length, 8) to (n, 1, hops, 2 * hop): start and end probability in turn of the
        samples that each window judges.
    """
    hop = metadata.hop
    samples = layers.Input((1, length, 8), name="window")
    x = _normalised(layers.Conv2D(STEM, (1, hop // 2), (1, hop // 2), use_bias=False)(samples))
    x = _normalised(layers.Conv2D(width, (1, 2), (1, 2), use_bias=False)(x))
    for _ in range(2):
        y = _normalised(layers.DepthwiseConv2D((1, REACH), use_bias=False)(x))
        y = _normalised(layers.Conv2D(width, (1, 1), use_bias=False)(y))
        x = layers.Add()([y, layers.Cropping2D(((0, 0), (2, 3)))(x)])
    left = metadata.window // hop - 2 * (REACH - 1)
    x = layers.Dropout(0.1)(x)
    x = _normalised(layers.Conv2D(width, (1, left), use_bias=False)(x))
    # Probabilities stay in full precision where the rest is mixed.
    head = layers.Conv2D(
        2 * hop, (1, 1), activation="sigmoid", dtype="float32", name="probabilities"
    )
    return keras.Model(samples, head(x))


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization(momentum=0.97)(x))
