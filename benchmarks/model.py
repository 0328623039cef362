"""What a window costs: Keras called and predicting, LiteRT in float32 and int8.

Each variant runs in a process of its own, which also shows its start time and its memory. LiteRT
runs as in the product, with gathering samples and memory and with storing new memory. The samples
are real ones if --data names a folder of recordings, otherwise those of simulated walkers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from stepstream.detection.model import Hops, Model, default_model_path
from stepstream.detection.resampling import scale_channels
from stepstream.simulation.walkers import Walker

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Predict = Callable[[], object]

BATCHES = (1, 4, 16, 64, 256, 1024)
VARIANTS = ("keras call", "keras predict", "litert float32", "litert int8", "litert alone")
BUDGET_S = 1.0
"""Time spent on each figure."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--plot", type=Path, default=Path("build/model.png"))
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(_measure(options.variant, options.model, options.threads, options.data)))
        return
    results = {}
    for variant in VARIANTS:
        for threads in (1, 2):
            command = [sys.executable, "-m", "benchmarks.model", "--model", str(options.model)]
            command += ["--variant", variant, "--threads", str(threads)]
            command += ["--data", *map(str, options.data)]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[f"{variant}, {threads}"] = json.loads(run.stdout.splitlines()[-1])
    print(f"{options.model.name}; us a window, median (and the fastest twentieth)")
    print(f"{'threads':24}{'start s':>9}{'MiB':>6}" + "".join(f"{n:>17}" for n in BATCHES))
    for name, result in results.items():
        figures = "".join(
            f"{_us(times, 0.5):>9.1f} ({_us(times, 0.05):.1f})".rjust(17)
            for times in result["us"].values()
        )
        print(f"{name:24}{result['start_s']:>9.2f}{result['rss_mib']:>6.0f}{figures}")
    _draw(results, options.plot)


def _us(times: list[float], share: float) -> float:
    return float(np.quantile(times, share))


def _measure(variant: str, path: Path, threads: int, data: list[Path]) -> dict[str, object]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    makers = {"keras call": _keras, "keras predict": _keras, "litert alone": _alone}
    make = makers.get(variant, litert)
    predict_with = make(variant, path, threads)
    start_s = _age_s()
    inputs = make_inputs(data, Model(path), max(BATCHES))
    us: dict[int, list[float]] = {}
    rss_mib = 0.0
    for size in BATCHES:
        predict = predict_with(Inputs(inputs.samples[:size], inputs.past[:size]))
        for _ in range(3):
            predict()
        rss_mib = rss_mib or _rss_mib()
        times: list[float] = []
        end = time.perf_counter() + BUDGET_S
        while (now := time.perf_counter()) < end or len(times) < 5:
            predict()
            times.append((time.perf_counter() - now) * 1e6 / size)
        us[size] = times[:20_000]
    return {"start_s": start_s, "rss_mib": rss_mib, "us": us}


def litert(variant: str, path: Path, threads: int) -> Callable[[Inputs], Predict]:
    """A function that runs a model file on some inputs, as the product does."""
    if variant.endswith("int8"):
        path = path.with_name(f"{path.stem.removesuffix('-int8')}-int8.tflite")
    model = Model(path, threads)

    def predict_with(inputs: Inputs) -> Predict:
        count = len(inputs.samples)
        layers, seen, width = model.memory
        past = np.arange(count * layers * seen).reshape(count, -1)
        memory = np.resize(inputs.past, (past.size, width))
        samples, rows = inputs.samples.reshape(count, -1), np.arange(count)[:, np.newaxis]
        hops = Hops(samples, rows, memory, past, past[:, ::seen, np.newaxis])
        return lambda: model.predict(hops)

    return predict_with


def _alone(_: str, path: Path, threads: int) -> Callable[[Inputs], Predict]:
    """The float32 network alone, without gathering and storing."""

    def predict_with(inputs: Inputs) -> Predict:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        details = {one["name"]: one["index"] for one in interpreter.get_input_details()}
        given = {"samples": inputs.samples, "past": inputs.past}
        for name, values in given.items():
            interpreter.resize_tensor_input(details[name], values.shape)
        interpreter.allocate_tensors()
        for name, values in given.items():
            interpreter.set_tensor(details[name], values)
        invoke: Predict = interpreter.invoke
        return invoke

    return predict_with


def _keras(variant: str, path: Path, threads: int) -> Callable[[Inputs], Predict]:
    import tensorflow as tf  # noqa: PLC0415 - only where it is needed

    from stepstream.training.network import build_cell  # noqa: PLC0415

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # The cost doesn't depend on the weights.
    model = Model(path)
    cell = build_cell(model.metadata, model.memory.width)
    if variant.endswith("call"):
        return lambda inputs: lambda: cell(list(inputs), training=False)
    return lambda inputs: (
        lambda: cell.predict(list(inputs), batch_size=len(inputs.samples), verbose=0)
    )


class Inputs(NamedTuple):
    """The next hops of some devices, (n, 1, hop, 8), and what is remembered of them."""

    samples: NDArray[np.float32]
    past: NDArray[np.float32]


def make_inputs(data: list[Path], model: Model, count: int) -> Inputs:
    """Real hops if there is data, otherwise simulated ones; what is remembered is random."""
    metadata, (layers, seen, width) = model.metadata, model.memory
    random = np.random.default_rng(1)
    if data:
        from stepstream.commands.quantize import draw_windows  # noqa: PLC0415
        from stepstream.training.sets import load_people  # noqa: PLC0415

        windows = draw_windows(load_people(data), metadata, count, random)
        # Some placements have few windows, so there may be fewer.
        samples = windows[np.arange(count) % len(windows), :, -metadata.hop :]
    else:
        _, axes = Walker(1, metadata.rate_hz).read(metadata.hop * count / metadata.rate_hz)
        channels = scale_channels(
            axes.astype(np.float32), metadata.accel_scale, metadata.gyro_scale
        )
        samples = channels[: metadata.hop * count].reshape(count, 1, metadata.hop, -1)
    past = random.random((count, 1, layers * seen, width), np.float32)
    return Inputs(np.ascontiguousarray(samples), past)


def _age_s() -> float:
    """Seconds since this process began."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    begin_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - begin_s


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _draw(results: dict[str, dict[str, dict[str, list[float]]]], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, size in zip(figure.subplots(2, 3).flat, BATCHES, strict=True):
        for name, result in results.items():
            if name.endswith("1"):
                times = result["us"][str(size)]
                share = np.full(len(times), 1 / len(times))
                bins = np.geomspace(2, 2e5, 120)
                axes.hist(times, bins, weights=share, histtype="step", label=name)
        axes.set(xscale="log", title=f"batch of {size}", xlabel="us a window", yticks=[])
    figure.axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
