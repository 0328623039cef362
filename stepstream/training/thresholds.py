"""Choosing the model's thresholds."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stepstream.training.evaluation import score_recordings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.detection import Model, ModelMetadata
    from stepstream.training.data import LabelledRecording

__all__ = ["choose_thresholds"]

CANDIDATES = (0.15, 0.2, 0.25, 0.3)


def choose_thresholds(model: Model, recordings: Sequence[LabelledRecording]) -> ModelMetadata:
    """The model's metadata with the thresholds that score best on some recordings.

    Best is the highest mean over people of the F1 of starts and ends, less the share by which
    their counts are off, so that counts decide between equals.
    """
    original, best, best_value = model.metadata, model.metadata, float("-inf")
    try:
        for start, end in product(CANDIDATES, CANDIDATES):
            model.metadata = msgspec.structs.replace(
                original, start_threshold=start, end_threshold=end
            )
            scores = score_recordings(model, recordings).values()
            value = float(
                np.mean([(s.f1_start + s.f1_end) / 2 - s.count_error / 4 for s in scores])
            )
            if value > best_value:
                best, best_value = model.metadata, value
    finally:
        model.metadata = original
    return best
