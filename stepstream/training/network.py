"""The network: a few strided, depthwise separable convolutions over a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from stepstream.detection.model import ModelMetadata

__all__ = ["build_network"]


def build_network(metadata: ModelMetadata, width: int = 32) -> keras.Model:
    """Untrained network from windows to probabilities.

    Two-dimensional convolutions of height 1 stand for one-dimensional ones: LiteRT runs them as
    one piece at any batch size. The first two layers stride by 4 and 2, so that all others work
    on an eighth of the samples, which is what keeps it cheap.

    Parameters
    ----------
    metadata
        Window and hop.
    width
        Channels of the separable layers.
    """
    window = layers.Input((1, metadata.window, 8), name="window")
    x = _normalised(layers.Conv2D(24, (1, 8), (1, 4), "same", use_bias=False)(window))
    x = _separable(x, width, stride=2)
    for _ in range(2):
        x = layers.Add()([x, _separable(x, width, stride=1)])
    x = layers.Dropout(0.1)(x)
    x = layers.Conv2D(2 * metadata.hop, (1, x.shape[2]), padding="valid", activation="sigmoid")(x)
    probabilities = layers.Reshape((metadata.hop, 2), name="probabilities")(x)
    return keras.Model(window, probabilities)


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization()(x))


def _separable(x: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
    # LiteRT's depthwise convolutions know only equal strides; the height of 1 makes them alike.
    x = layers.DepthwiseConv2D((1, 5), (stride, stride), "same", use_bias=False)(x)
    x = _normalised(x)
    return _normalised(layers.Conv2D(width, (1, 1), use_bias=False)(x))
