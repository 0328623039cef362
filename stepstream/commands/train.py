"""``stepstream train``."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stepstream.commands.evaluate import score_table
from stepstream.detection import Model, ModelMetadata
from stepstream.errors import SettingsError, StepstreamError
from stepstream.settings import CommandSettings
from stepstream.training.data import load_people
from stepstream.training.evaluation import score_recordings
from stepstream.training.thresholds import choose_thresholds

__all__ = ["Train", "require_tensorflow"]


def require_tensorflow() -> None:
    """Refuse to go on without TensorFlow.

    Raises
    ------
    StepstreamError
        It isn't installed; the message says how to.
    """
    try:
        import tensorflow as tf  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise StepstreamError(
            "training needs TensorFlow; install it with: pip install 'stepstream[train]'"
        ) from None


class Train(CommandSettings):
    """Train a model on labelled recordings at 80 Hz."""

    data: CliPositionalArg[Path]
    """Folder with `<person>/<recording>.csv.gz` and `<recording>.steps.csv` beside it."""
    out: Path = Path("stepstream-model.tflite")
    """Model file to write; the network itself goes beside it, as `.keras`."""
    hold_out: list[str] = Field(default_factory=list)
    """People not to train on; training stops early by them, and they are scored at the end."""
    epochs: int = Field(25, ge=1)
    """Passes over the recordings, each varied anew."""
    batch_size: int = Field(512, ge=1)
    """Windows in a step of the optimiser."""
    learning_rate: float = Field(4e-3, gt=0)
    """Its largest value."""
    seed: int = 1
    """Of everything random."""
    name: str = "stepstream-own"
    """The model's name, as events carry it."""
    version: str = "1.0"
    """Its version."""

    def execute(self) -> int:
        """Train, export, choose thresholds, score."""
        require_tensorflow()
        from stepstream.training.export import export  # noqa: PLC0415 - TensorFlow
        from stepstream.training.fitting import Recipe, fit  # noqa: PLC0415

        recordings = load_people(self.data)
        people = {recording.person for recording in recordings}
        unknown = sorted(set(self.hold_out) - people)
        if unknown:
            raise SettingsError(f"hold-out: no {unknown[0]} among {', '.join(sorted(people))}")
        training = [r for r in recordings if r.person not in self.hold_out]
        held_out = [r for r in recordings if r.person in self.hold_out]
        if not training:
            raise SettingsError("hold-out: nobody is left to train on")
        metadata = ModelMetadata(
            name=self.name,
            version=self.version,
            rate_hz=80,
            window=128,
            hop=8,
            delay=24,
            accel_scale=9.81,
            gyro_scale=2.0,
            start_threshold=0.2,
            end_threshold=0.2,
            refractory=16,
            settling=8,
            shortest_step=36,
            longest_step=100,
            training={
                "recordings": f"{len(training)} of {len({r.person for r in training})} people",
                "recipe": f"{self.epochs} epochs of batches of {self.batch_size}, learning rate "
                f"{self.learning_rate}, seed {self.seed}",
            },
        )
        recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )
        with Progress(
            TextColumn("epoch {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task("training", total=self.epochs, losses="")

            def report(epoch: int, losses: dict[str, float]) -> None:
                text = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
                progress.update(task, completed=epoch, losses=text)

            network = fit(training, held_out, metadata, recipe, report)
        network.save(self.out.with_suffix(".keras"))
        export(network, self.out, metadata)
        metadata = choose_thresholds(Model(self.out), training)
        export(network, self.out, metadata)
        sys.stdout.write(
            f"{self.out}: {metadata.label}, {self.out.stat().st_size:,} bytes, thresholds "
            f"{metadata.start_threshold} and {metadata.end_threshold}\n"
        )
        if held_out:
            Console(width=110).print(score_table(score_recordings(Model(self.out), held_out)))
        return 0
