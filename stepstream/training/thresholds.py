"""Choosing the constants of the rules on people that the model was not trained on."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stepstream.detection.steps import Probabilities
from stepstream.training.evaluation import Moments, judge, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.detection import ModelMetadata
    from stepstream.training.data import LabelledRecording

    Predicted = tuple[LabelledRecording, NDArray[np.float32]]

__all__ = ["choose_constants", "find_steps", "utility"]

END_THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
START_THRESHOLDS = (0.15, 0.2, 0.3)
BLOCKS = 256


def find_steps(probabilities: NDArray[np.float32], metadata: ModelMetadata) -> Moments:
    """The steps that count, by the rules of the stream, in a series of probabilities (n, 2)."""
    rules = Probabilities(metadata, BLOCKS)
    rules.resize(1)
    count = len(probabilities) // metadata.hop
    blocks = probabilities[: count * metadata.hop].reshape(count, metadata.hop, 2)
    parts = []
    for begin in range(0, count, BLOCKS):
        block = np.arange(begin, min(begin + BLOCKS, count), dtype=np.int64)
        slot = np.zeros(len(block), np.intp)
        parts.append(rules.find(slot, block, np.zeros_like(block), blocks[block]))
    if not parts:
        none = np.empty(0, np.int64)
        return Moments(none, none, np.empty(0, np.float32))
    found = Moments(
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.end for part in parts]),
        np.concatenate([part.end_probability for part in parts]),
    )
    return found.spaced(metadata.refractory)


def choose_constants(predicted: Sequence[Predicted], metadata: ModelMetadata) -> ModelMetadata:
    """The metadata with the thresholds that are most useful on some recordings.

    Parameters
    ----------
    predicted
        Recordings, each with the probabilities (n, 2) of a model that was not trained on it.
    metadata
        What to change.
    """
    candidates = [
        msgspec.structs.replace(metadata, start_threshold=start, end_threshold=end)
        for start, end in product(START_THRESHOLDS, END_THRESHOLDS)
    ]
    return max(candidates, key=lambda candidate: utility(predicted, candidate))


def utility(predicted: Sequence[Predicted], metadata: ModelMetadata) -> float:
    """Mean F1 of whole steps, less count errors (those of contacts too) and false steps.

    A hundredth of F1, a hundredth of the count, and a false step in two minutes weigh alike.
    """
    results = [judge(recording, find_steps(given, metadata)) for recording, given in predicted]
    value = 0.0
    for contacts_only in (False, True):
        people: dict[str, list[int]] = {}
        for number, result in enumerate(results):
            if result.recording.contacts_only == contacts_only:
                people.setdefault(result.recording.person, []).append(number)
        for rows in people.values():
            total = score([results[row] for row in rows])
            good = 0.0 if contacts_only else (total.f1_start + total.f1_end) / 2
            good -= total.count_error + 0.02 * total.false_per_standing_minute
            value += good / len(people)
    return value
