"""Choosing the constants of the rules on people that the model was not trained on."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from stepstream.detection import StepFinder, Steps
from stepstream.training.data import Labels
from stepstream.training.evaluation import Moments, evaluate_recording, score

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from stepstream.detection import ModelMetadata
    from stepstream.training.data import LabelledRecording

    Predicted = tuple[LabelledRecording, NDArray[np.float32]]

__all__ = ["Rating", "choose_constants", "find_steps", "rate_constants"]

START_THRESHOLDS = (0.15, 0.2, 0.3)
END_THRESHOLDS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
WALKING_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
HOPS = 256


class Rating(NamedTuple):
    """How useful some constants are.

    ``people``: for each person, with whether whole steps of theirs are known, the utility.
    """

    metadata: ModelMetadata
    people: dict[tuple[bool, str], float]


def find_steps(probabilities: NDArray[np.float32], metadata: ModelMetadata) -> Moments:
    """The steps that count, by the rules of the stream, in a series of probabilities (n, 2)."""
    finder = StepFinder(metadata, HOPS)
    finder.resize(1)
    count = len(probabilities) // metadata.hop
    by_hop = probabilities[: count * metadata.hop].reshape(count, metadata.hop, 2)
    parts = [finder.none()]
    for begin in range(0, count, HOPS):
        hop = np.arange(begin, min(begin + HOPS, count), dtype=np.int64)
        slot, first_hop = np.zeros(len(hop), np.intp), np.zeros_like(hop)
        parts.append(finder.find(slot, hop, first_hop, by_hop[hop], hop))
    steps = Steps.concatenate(parts)
    found = Moments(
        steps.start_us // metadata.period_us,
        steps.end_us // metadata.period_us,
        steps.end_probability,
    )
    return found.spaced(metadata.refractory)


def rate_constants(predicted: Sequence[Predicted], metadata: ModelMetadata) -> list[Rating]:
    """How useful each choice of thresholds is for each of the people in some recordings.

    Parameters
    ----------
    predicted
        Recordings, each with the probabilities (n, 2) of a model that was not trained on it.
    metadata
        What to change.
    """
    people: dict[tuple[bool, str], list[Predicted]] = {}
    for recording, given in predicted:
        key = (recording.labels is Labels.STEPS, recording.person)
        people.setdefault(key, []).append((recording, given))
    return [
        Rating(candidate, {key: utility(pairs, candidate) for key, pairs in people.items()})
        for candidate in _candidates(metadata)
    ]


def choose_constants(
    ratings: Sequence[Rating], left_out: Collection[str] = frozenset()
) -> ModelMetadata:
    """The metadata that is most useful, on the mean of the people that aren't left out."""

    def total(rating: Rating) -> float:
        kinds: dict[bool, list[float]] = {}
        for (whole, person), value in rating.people.items():
            if person not in left_out:
                kinds.setdefault(whole, []).append(value)
        return sum(sum(values) / len(values) for values in kinds.values())

    return max(ratings, key=total).metadata


def utility(predicted: Sequence[Predicted], metadata: ModelMetadata) -> float:
    """F1 of a person's whole steps, less count errors (of all labels) and false steps.

    A hundredth of F1, a hundredth of the count, and a false step in two minutes weigh the same.
    """
    results = [
        evaluate_recording(recording, find_steps(given, metadata)) for recording, given in predicted
    ]
    total = score(results)
    good = 0.0 if math.isnan(total.f1_start) else (total.f1_start + total.f1_end) / 2
    costs = [total.count_error, 0.02 * total.false_per_minute]
    return good - sum(0.0 if math.isnan(cost) else cost for cost in costs)


def _candidates(metadata: ModelMetadata) -> list[ModelMetadata]:
    return [
        msgspec.structs.replace(
            metadata, start_threshold=start, end_threshold=end, walking_threshold=walking
        )
        for start, end, walking in product(START_THRESHOLDS, END_THRESHOLDS, WALKING_THRESHOLDS)
        if walking <= end
    ]
