"""From a trained network to model files: float32, and int8 for processors that gain by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from stepstream.detection.model import ModelMetadata, write_metadata
from stepstream.training.network import build_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

__all__ = ["export", "prune", "quantize"]


def export(network: keras.Model, path: Path, metadata: ModelMetadata) -> None:
    """Write ``network`` as float32 model file."""
    _write(_converter(network, metadata), path, metadata)


def quantize(
    network: keras.Model, path: Path, metadata: ModelMetadata, windows: NDArray[np.float32]
) -> None:
    """Write ``network`` as model file that computes in int8, with float32 input and output.

    Parameters
    ----------
    windows : (n, 1, window, 8) float32
        Real windows, from which the ranges of all activations are taken.
    """
    converter = _converter(network, metadata)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for window in windows:
            yield [window[np.newaxis]]

    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    _write(converter, path, metadata)


def prune(network: keras.Model, share: float) -> None:
    """Set the smallest weights of each dense or pointwise kernel to 0, in place.

    Parameters
    ----------
    share
        Of the weights that become 0.
    """
    for weight in network.trainable_weights:
        # Depthwise kernels and biases are few and carry much.
        if len(weight.shape) == 4 and weight.shape[3] > 1:
            values = weight.numpy().copy()
            values[np.abs(values) < np.quantile(np.abs(values), share)] = 0
            weight.assign(values)


def _converter(network: keras.Model, metadata: ModelMetadata) -> tf.lite.TFLiteConverter:
    window = build_network(metadata, network.layers[-1].input.shape[-1], metadata.window)
    window.set_weights(network.get_weights())
    signature = tf.TensorSpec((None, 1, metadata.window, 8), tf.float32, name="window")

    @tf.function(input_signature=[signature])  # type: ignore[untyped-decorator]
    def probabilities(samples: tf.Tensor) -> tf.Tensor:
        return tf.reshape(window(samples, training=False), (-1, metadata.hop, 2))

    # Given the network as well, the converter would keep its weights as variables.
    return tf.lite.TFLiteConverter.from_concrete_functions([probabilities.get_concrete_function()])


def _write(converter: tf.lite.TFLiteConverter, path: Path, metadata: ModelMetadata) -> None:
    path.write_bytes(converter.convert())
    write_metadata(path, metadata)
