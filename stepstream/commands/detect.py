"""``stepstream detect``."""

from __future__ import annotations

import sys
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import Progress

from stepstream.detection import Model, Rules, Steps, default_model_path, detect_series
from stepstream.errors import StreamError
from stepstream.inputs import RegistryAwayError
from stepstream.outputs import encode_value
from stepstream.recordings import Recording, read_messages, read_recording
from stepstream.settings import (
    CommandSettings,
    InputSettings,
    ModelSettings,
    ProcessingSettings,
    RegistrySettings,
)
from stepstream.settings.groups import in_unit
from stepstream.streaming.counting import count_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Detect"]


class Detect(CommandSettings):
    """Find the steps in recordings; prints a JSON object for each step, like the events."""

    files: CliPositionalArg[list[Path]] = Field(min_length=1)
    """CSV recordings: `timestamp` or `time` in s, `accel_*` in m/s², optionally `gyro_*` in rad/s. Other files hold messages, as `input` says: of JSON one in each line, alone or behind its key and a tab, or as `kcat -J` prints it; any other file is one message. `.gz` too."""
    rate: float | None = Field(None, gt=0)
    """Rows a second of files that have no time column."""
    plot: Path | None = None
    """Picture to draw; with several files, one each, named after it and the file."""
    around_s: list[float] = Field(
        default_factory=list, max_length=3, json_schema_extra=in_unit("s")
    )
    """Moments of the recording, up to three, around which the picture shows signal and steps; spread over it if not set."""
    model: ModelSettings = ModelSettings()
    input: InputSettings = InputSettings()
    registry: RegistrySettings = RegistrySettings()
    processing: ProcessingSettings = ProcessingSettings()

    def execute(self) -> int:
        """Detect file by file."""
        model = Model(self.model.path or default_model_path(), self.model.threads)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            for recording in chain.from_iterable(map(self._read, self.files)):
                task = progress.add_task(recording.device_id, total=len(recording))
                given: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
                steps = detect_series(
                    model,
                    np.rint(recording.time_s * 1e6).astype(np.int64),
                    recording.axes.astype(np.float32),
                    Rules.of(self.processing),
                    sensors=recording.sensors,
                    on_probabilities=lambda _, first, p: given.append((first, p)),  # noqa: B023 - called at once
                    on_progress=lambda rows: progress.advance(task, rows),  # noqa: B023 - the same
                )
                steps, events = count_steps(recording.device_id, steps, model, self.processing)
                sys.stdout.write("".join(f"{encode_value(event).decode()}\n" for event in events))
                sys.stdout.flush()
                if self.plot:
                    self._draw(self.plot, recording, steps, given, model)
        return 0

    def _read(self, path: Path) -> list[Recording]:
        if ".csv" in path.suffixes:
            return [read_recording(path, self.rate)]
        try:
            return read_messages(path, self.input, self.registry, time.time_ns() // 1000)
        except RegistryAwayError as error:
            raise StreamError(
                f"the schema registry can't be asked: {error}; is registry.url right?"
            ) from None

    def _draw(
        self,
        path: Path,
        recording: Recording,
        steps: Steps,
        given: list[tuple[NDArray[np.int64], NDArray[np.float32]]],
        model: Model,
    ) -> None:
        from stepstream.plotting import plot_steps  # noqa: PLC0415 - an extra

        metadata = model.metadata
        if len(self.files) > 1 or recording.device_id not in self.files[0].name:
            path = path.with_name(f"{path.stem}-{recording.device_id}{path.suffix}")
        first = np.concatenate([index for index, _ in given]) if given else np.empty(0, np.int64)
        index = (first[:, np.newaxis] + np.arange(metadata.hop)).ravel()
        probabilities = (
            np.concatenate([p for _, p in given]).reshape(-1, 2)
            if given
            else np.empty((0, 2), np.float32)
        )
        plot_steps(
            path,
            recording,
            steps,
            index * metadata.period_us / 1e6,
            probabilities,
            metadata,
            around_s=self.around_s,
        )
