"""``stepstream train``."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from itertools import chain
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stepstream.commands.evaluate import TABLE_WIDTH, check_names
from stepstream.detection import Model, ModelMetadata
from stepstream.detection.model import write_metadata
from stepstream.errors import SettingsError, StepstreamError
from stepstream.settings import CommandSettings
from stepstream.training.counting import learn_from
from stepstream.training.data import Labels
from stepstream.training.evaluation import evaluate_recording, predict_recording
from stepstream.training.figures import fit_calibration, group_results, score_table
from stepstream.training.sets import load_people
from stepstream.training.thresholds import Rating, choose_constants, find_steps, rate_constants

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording
    from stepstream.training.fitting import Recipe

__all__ = ["Train", "require_tensorflow"]


def require_tensorflow() -> None:
    """Raise if TensorFlow is missing.

    Raises
    ------
    StepstreamError
        It isn't installed; the message says how to install it.
    """
    try:
        import tensorflow as tf  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise StepstreamError(
            "training needs TensorFlow; install it with: pip install 'stepstream[train]'"
        ) from None


class Train(CommandSettings):
    """Train a model on labelled recordings."""

    data: CliPositionalArg[list[Path]] = Field(min_length=1)
    """Sets, that is folders with `<person>/<recording>.csv.gz` and its labels beside it, or folders of sets, see docs/model.md."""
    out: Path = Path("stepstream-model.tflite")
    """Model file to write; the network itself is written beside it, as `.keras`."""
    folds: Annotated[int, Field(ge=0)] | Literal["sets"] = 0
    """First train this many times, each time without a share of the people, to evaluate the recipe and to choose thresholds; with the number of people, each is left out once. With `sets`, each set is left out once, except the only one with whole steps. These models go into a folder beside `out`; those already there are kept."""
    hold_out: list[str] = Field(default_factory=list)
    """Sets, people (`set/person`) or placements not to train on; they decide when training stops early."""
    leave_out: list[str] = Field(default_factory=list)
    """Sets, people (`set/person`) or placements not to use at all, so that `stepstream evaluate` can score the model on them."""
    balance: float = Field(0.0, ge=0, le=1)
    """How much sets, people in a set, and placements of a person are balanced: 0 reads each recording once a pass, 1 gives them equal time."""
    whole: float = Field(0.0, ge=0, lt=1)
    """Least share of the time that recordings with whole steps are read: all other steps are placed by a network that knows only these."""
    stepless: float = Field(1.0, gt=0)
    """How much samples of an activity without steps count in the loss, in multiples of the others: what is rare, such as clapping, is not learned otherwise."""
    align_with: Path | None = None
    """Model that finds the lag of foot contacts, and steps of which only the number is known, instead of first ones trained on the other recordings."""
    epochs: int = Field(40, ge=1)
    """Passes over the recordings, each with other variations."""
    batch_size: int = Field(24, ge=1)
    """Stretches of 9.6 s in a step of the optimiser."""
    learning_rate: float = Field(6e-3, gt=0)
    """Largest learning rate."""
    width: int = Field(64, ge=4)
    """Channels of the network: more cost more, and may be more accurate."""
    thresholds: tuple[float, float, float] = (0.15, 0.95, 0.25)
    """Least probabilities of a start, of an end with the support of those before it, and of an end, if no folds choose them."""
    calibration: tuple[
        Annotated[float, Field(gt=0, le=20)], Annotated[float, Field(ge=-50, le=50)]
    ] = (1.0, 0.0)
    """Slope and offset for the log odds of an end's probability, so that it says how many steps are right, if no folds choose them; `stepstream evaluate` says what fits best."""
    delay: int = Field(24, ge=8)
    """Look-ahead: samples of 12.5 ms that the model sees after those it predicts; a multiple of 8."""
    seed: int = 1
    """Seed of everything random."""
    precision: Literal["float32", "mixed"] = "float32"
    """`mixed` computes in half precision where that does no harm; faster on a GPU only."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are added up for a step: larger batches in the same memory."""
    remat: bool = False
    """Compute activations again for their gradients, in place of keeping them (gradient checkpointing): large batches in less memory."""
    threads: int = Field(2, ge=1)
    """Threads to train with; so many folds are trained at a time, each in a process with one thread."""
    logs: Path | None = None
    """Folder to write TensorBoard's logs to."""
    name: str = "stepstream-own"
    """The model's name, as in events."""
    version: str = "1.0"
    """The model's version."""
    notes: dict[str, str] = Field(default_factory=dict)
    """More metadata for the file, such as the licence: a JSON object."""

    def execute(self) -> int:
        """Evaluate the recipe on people left out, then train, export and print the result."""
        require_tensorflow()
        from stepstream.training.fitting import prepare_devices  # noqa: PLC0415 - TensorFlow

        if self.logs and find_spec("tensorboard") is None:
            raise SettingsError("logs: needs TensorBoard; install it with: pip install tensorboard")
        if self.delay % 8:
            raise SettingsError("delay: must be a multiple of 8")
        recordings = self._recordings()
        folds = self._folds(recordings)
        self._train_folds(folds)
        prepare_devices(self.threads)
        metadata = self._metadata()
        predicted: list[tuple[LabelledRecording, NDArray[np.float32]]] = []
        for number, left_out in enumerate(folds, start=1):
            predicted += _predict_fold(recordings, left_out, metadata, self._fold(number))
        if folds:
            ratings = rate_constants(predicted, metadata)
            calibration = self._evaluate_folds(predicted, folds, ratings)
            metadata = msgspec.structs.replace(
                choose_constants(ratings), end_calibration=calibration
            )
        self._train(recordings, self.hold_out, metadata, self.out)
        sys.stdout.write(
            f"{self.out}: {metadata.label}, {self.out.stat().st_size:,} bytes, thresholds "
            f"{metadata.start_threshold}, {metadata.end_threshold} and {metadata.least_end}\n"
        )
        return 0

    def _recordings(self) -> list[LabelledRecording]:
        """All but those to leave out, aligned if there is a model for it."""
        recordings = load_people(self.data)
        check_names("hold-out", self.hold_out, recordings)
        check_names("leave-out", self.leave_out, recordings)
        recordings = [r for r in recordings if not r.is_of(self.leave_out)]
        if self.align_with:
            by = Model(self.align_with)
            recordings = learn_from(recordings, lambda r: predict_recording(by, r))
        return recordings

    def _folds(self, recordings: list[LabelledRecording]) -> list[set[str]]:
        """The sets or people left out of each training; people with similar numbers of steps."""
        trained = [r for r in recordings if not r.is_of(self.hold_out)]
        if self.folds == "sets":
            whole = {r.origin for r in trained if r.labels is Labels.STEPS}
            return [{one} for one in sorted({r.origin for r in trained}) if whole - {one}]
        folds: list[set[str]] = [set() for _ in range(self.folds)]
        placed: set[str] = set()
        for kind in (Labels.STEPS, Labels.CONTACTS, None):
            steps: dict[str, int] = {}
            for recording in trained:
                person = recording.person
                if kind in {recording.labels, None} and person not in placed:
                    steps[person] = steps.get(person, 0) + len(recording.ends)
            placed |= set(steps)
            sizes = [0] * self.folds
            for person in sorted(steps, key=lambda one: (-steps[one], one)) if folds else []:
                smallest = sizes.index(min(sizes))
                folds[smallest].add(person)
                sizes[smallest] += steps[person] + 1
        return [fold for fold in folds if fold]

    def _fold(self, number: int) -> Path:
        """Where the network of a fold goes."""
        return self.out.with_name(f"{self.out.stem}-folds") / f"{number}.keras"

    def _train_folds(self, folds: list[set[str]]) -> None:
        """Train the folds whose network isn't there yet, each in a process of its own."""
        missing = {
            path: left_out
            for number, left_out in enumerate(folds, start=1)
            if not (path := self._fold(number)).exists()
        }
        if not missing:
            return
        pool = ProcessPoolExecutor(
            min(self.threads, len(missing)), get_context("spawn"), _end_with_parent,
            max_tasks_per_child=1,
        )  # fmt: skip
        try:
            trained = [pool.submit(self._train_fold, left, path) for path, left in missing.items()]
            with _progress(f"{self.out.stem}-folds, {{task.completed}} of {{task.total}}") as shown:
                task = shown.add_task("folds", total=len(trained), losses="")
                for fold in as_completed(trained):
                    fold.result()
                    shown.advance(task)
        except BrokenProcessPool:
            raise StepstreamError(
                "training: the process of a fold was killed; is there memory for as many as threads?"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    def _train_fold(self, left_out: set[str], path: Path) -> None:
        """Train one fold; called in its process."""
        from stepstream.training.fitting import prepare_devices  # noqa: PLC0415 - TensorFlow

        recordings = self._recordings()
        prepare_devices(1)
        self._train(recordings, left_out | set(self.hold_out), self._metadata(), path)

    def _metadata(self) -> ModelMetadata:
        start, end, least = self.thresholds
        return ModelMetadata(
            name=self.name,
            version=self.version,
            rate_hz=80,
            window=128,
            hop=8,
            delay=self.delay,
            accel_scale=9.81,
            gyro_scale=2.0,
            start_threshold=start,
            end_threshold=end,
            refractory=20,
            settling=8,
            shortest_step=38,
            longest_step=100,
            walking_threshold=least,
            support=(0.6, 0.3),
            supporting=124,
            start_reach=(12, 12),
            end_reach=(16, 8),
            waiting=120,
            end_calibration=(1.0, 0.0) if self.folds else self.calibration,
        )

    def _recipe(self) -> Recipe:
        from stepstream.training.fitting import Recipe  # noqa: PLC0415 - TensorFlow

        return Recipe(
            epochs=self.epochs,
            alignment_epochs=min(self.epochs, 10),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            precision=self.precision,
            accumulate=self.accumulate,
            remat=self.remat,
            width=self.width,
            balance=self.balance,
            whole=self.whole,
            stepless=self.stepless,
        )

    def _train(
        self,
        recordings: list[LabelledRecording],
        left_out: set[str] | list[str],
        metadata: ModelMetadata,
        path: Path,
    ) -> None:
        from stepstream.training.export import export  # noqa: PLC0415 - TensorFlow
        from stepstream.training.fitting import fit  # noqa: PLC0415

        training = [r for r in recordings if not r.is_of(left_out)]
        held_out = [r for r in recordings if r.is_of(self.hold_out)]
        title = f"{path.name}, epoch {{task.completed}} of {{task.total}}"
        # The processes of folds have one bar, their parent's.
        with _progress(title, disable=parent_process() is not None) as progress:
            task = progress.add_task("training", total=self.epochs, losses="")

            def report(epoch: int, losses: dict[str, float]) -> None:
                text = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
                progress.update(task, completed=epoch, losses=text)

            try:
                network = fit(training, held_out, metadata, self._recipe(), report, self.logs)
            except ValueError as error:
                raise StepstreamError(f"training: {error}") from None
        people = len({recording.person for recording in training})
        metadata = msgspec.structs.replace(
            metadata,
            training={
                "recordings": f"{len(training)} of {people} people",
                "left out": ", ".join(sorted({*left_out, *self.leave_out})),
                "recipe": f"{self.epochs} epochs of batches of {self.batch_size}, learning rate "
                f"{self.learning_rate}, width {self.width}, balance {self.balance:g}, "
                f"whole {self.whole:g}, stepless {self.stepless:g}, seed {self.seed}",
                **self.notes,
            },
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        export(network, path.with_suffix(".tflite"), metadata)
        network.save(path.with_suffix(".keras"))

    def _evaluate_folds(
        self,
        predicted: list[tuple[LabelledRecording, NDArray[np.float32]]],
        folds: list[set[str]],
        ratings: list[Rating],
    ) -> tuple[float, float]:
        """Score each fold with the thresholds chosen on the others; its model gets them too.

        So it is with calibrations; returns that of all.
        """
        chosen, results = [], []
        for fold in folds:
            left_out = {recording.person for recording, _ in predicted if recording.is_of(fold)}
            chosen.append(choose_constants(ratings, left_out))
            results.append(
                [
                    evaluate_recording(recording, find_steps(given, chosen[-1]))
                    for recording, given in predicted
                    if recording.is_of(fold)
                ]
            )
        for number, metadata in enumerate(chosen, start=1):
            path = self._fold(number).with_suffix(".tflite")
            others = chain.from_iterable(results[: number - 1] + results[number:])
            changed = msgspec.structs.replace(
                metadata,
                end_calibration=fit_calibration(list(others)),
                training=Model(path).metadata.training,
            )
            write_metadata(path, changed)
        every = list(chain.from_iterable(results))
        table = score_table(group_results(every), "left out, thresholds by the others")
        Console(width=TABLE_WIDTH).print(table)
        return fit_calibration(every)


def _progress(title: str, *, disable: bool = False) -> Progress:
    return Progress(
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.fields[losses]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=disable,
    )


def _end_with_parent() -> None:
    """Let this process end when its parent does, whatever ends that."""
    parent = parent_process()

    def end() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=end, daemon=True).start()


def _predict_fold(
    recordings: list[LabelledRecording],
    left_out: set[str],
    metadata: ModelMetadata,
    path: Path,
) -> list[tuple[LabelledRecording, NDArray[np.float32]]]:
    """What the network of a fold says of those whom it didn't see."""
    import keras  # noqa: PLC0415 - an extra

    from stepstream.training.fitting import predict_series  # noqa: PLC0415

    network = keras.models.load_model(path)
    return [
        (recording, predict_series(network, np.asarray(recording.axes), metadata))
        for recording in recordings
        if recording.is_of(left_out)
    ]
