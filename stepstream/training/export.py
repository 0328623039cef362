"""From a trained network to model files: float32, and int8 for processors that run it faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from stepstream.detection.model import PROBABILITIES, ModelMetadata, write_metadata
from stepstream.errors import ModelError
from stepstream.training.network import MEMORY, build_cell, layer_count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

__all__ = ["export", "prune", "quantize"]


def export(network: keras.Model, path: Path, metadata: ModelMetadata) -> None:
    """Write ``network`` as float32 model file."""
    _write(_converter(_cell(network, metadata), metadata), path, metadata)


def quantize(
    network: keras.Model, path: Path, metadata: ModelMetadata, windows: NDArray[np.float32]
) -> None:
    """Write ``network`` as model file that computes in int8, with float32 input and output.

    Parameters
    ----------
    windows : (n, 1, window, 8) float32
        Real windows, on which the ranges of all activations are measured.
    """
    cell = _cell(network, metadata)
    converter = _converter(cell, metadata)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    hops = np.split(windows, metadata.window // metadata.hop, axis=2)
    samples = _samples(cell, hops)

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        yield from ([hop[np.newaxis], past[np.newaxis]] for hop, past in samples)

    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    _write(converter, path, metadata, unify=True)


def prune(network: keras.Model, share: float) -> None:
    """Set the smallest weights of each dense or pointwise kernel to 0, in place.

    Parameters
    ----------
    share
        Share of the weights that become 0.
    """
    for weight in network.trainable_weights:
        # Depthwise kernels and biases are few and important.
        if len(weight.shape) == 4 and weight.shape[3] > 1:
            values = weight.numpy().copy()
            values[np.abs(values) < np.quantile(np.abs(values), share)] = 0
            weight.assign(values)


def _cell(network: keras.Model, metadata: ModelMetadata) -> keras.Model:
    """The form of a trained network that computes some hops after others."""
    width = network.get_layer("probabilities").kernel.shape[2]
    cell = build_cell(metadata, width)
    kept = zip(network.get_weights(), cell.get_weights(), strict=True)
    cell.set_weights([trained.reshape(own.shape) for trained, own in kept])
    return cell


def _samples(
    cell: keras.Model, hops: list[NDArray[np.float32]]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Hops (1, hop, 8), and what is remembered of those before, to measure ranges on.

    The largest value that is remembered in them is also the largest that is computed, see
    `_unify_memory`: a value that is the largest only in one way is left out with its hop.

    Parameters
    ----------
    hops
        Consecutive hops (n, 1, hop, 8) of each of n windows.
    """
    _, _, places, width = cell.inputs[1].shape
    past = np.zeros((len(hops[0]), 1, places, width), np.float32)
    samples: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    largest = []
    for hop in hops:
        _, latest = cell([hop, past], training=False)
        newest = np.reshape(latest, (len(past), -1, 1, width))
        samples += zip(hop, past, strict=True)
        largest.append([past.max(axis=(1, 2, 3)), newest.max(axis=(1, 2, 3))])
        layers = past.reshape(len(past), -1, MEMORY, width)
        past = np.concatenate([layers[:, :, 1:], newest], axis=2).reshape(past.shape)
    remembered, computed = np.concatenate(largest, axis=1)
    kept = np.arange(len(samples))
    while len(kept) and remembered[kept].max() != computed[kept].max():
        bound = min(remembered[kept].max(), computed[kept].max())
        kept = kept[np.maximum(remembered, computed)[kept] <= bound]
    return [samples[n] for n in kept]


def _converter(cell: keras.Model, metadata: ModelMetadata) -> tf.lite.TFLiteConverter:
    layers = layer_count(metadata)
    samples, past = (
        tf.TensorSpec((None, *given.shape[1:]), tf.float32, name=name)
        for given, name in zip(cell.inputs, ("samples", "past"), strict=True)
    )

    @tf.function(input_signature=[samples, past])  # type: ignore[untyped-decorator]
    def advance(samples: tf.Tensor, past: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probabilities, latest = cell([samples, past], training=False)
        return (
            tf.reshape(probabilities, (-1, metadata.hop, 2)),
            tf.reshape(latest, (-1, layers, latest.shape[-1])),
        )

    # If the converter got the network too, it would keep its weights as variables.
    return tf.lite.TFLiteConverter.from_concrete_functions([advance.get_concrete_function()])


def _write(
    converter: tf.lite.TFLiteConverter,
    path: Path,
    metadata: ModelMetadata,
    *,
    unify: bool = False,
) -> None:
    content = bytearray(converter.convert())
    network = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    _begin_with_a_hop(network, metadata.hop)
    if unify:
        _unify_memory(network)
    path.write_bytes(content)
    write_metadata(path, metadata)


def _unify_memory(network: schema.SubGraph) -> None:
    """Give what is remembered in int8 the scale that it had when it was computed.

    It comes back as float32 and is rounded again. Only by the same scale nothing changes then, and
    a hop gives the same whether those before it are in its call or remembered. Both ranges were
    measured on the same values, so the scales differ by roundings of float32 at most.

    Raises
    ------
    ModelError
        They differ by more.
    """
    operators = [network.Operators(n) for n in range(network.OperatorsLength())]
    (past,) = (
        network.Inputs(n)
        for n in range(network.InputsLength())
        if network.Tensors(network.Inputs(n)).Name().endswith(b"past")
    )
    (latest,) = (
        network.Outputs(n)
        for n in range(network.OutputsLength())
        if network.Tensors(network.Outputs(n)).ShapeAsNumpy()[2] != PROBABILITIES
    )
    (given,) = (one.Outputs(0) for one in operators if past in one.InputsAsNumpy())
    (computed,) = (one.Inputs(0) for one in operators if latest in one.OutputsAsNumpy())
    before, wanted = (
        network.Tensors(n).Quantization().ScaleAsNumpy()[0] for n in (given, computed)
    )
    if not np.isclose(before, wanted, rtol=1e-4):
        raise ModelError("int8: what is remembered has another range than what is computed")
    for n in range(network.TensorsLength()):
        quantization = network.Tensors(n).Quantization()
        scale = quantization.ScaleAsNumpy() if quantization else 0
        if isinstance(scale, np.ndarray) and len(scale) == 1 and scale[0] == before:
            scale[0] = wanted


def _begin_with_a_hop(network: schema.SubGraph, hop: int) -> None:
    """Make one hop the input that an interpreter is made for, in a model file.

    The converter takes 1 for what may have any size, and nothing can be computed of one sample:
    who doesn't resize the input first could not use the file.
    """
    inputs = [network.Tensors(network.Inputs(n)) for n in range(network.InputsLength())]
    (samples,) = (tensor for tensor in inputs if tensor.Name().endswith(b"samples"))
    samples.ShapeAsNumpy()[2] = hop
