"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from stepstream.streaming.totals import Histogram

__all__ = ["Labelled", "Labels", "Metric"]

Labelled: TypeAlias = Mapping[tuple[str, ...], float]
Labels: TypeAlias = Mapping[str, str]
Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]


S_contra = TypeVar("S_contra", contravariant=True)


@dataclass(frozen=True)
class Metric(Generic[S_contra]):
    """One metric of what it is read from.

    Attributes
    ----------
    name
        Its name, as it is written in queries; a counter's ends with ``_total``.
    kind
        What Prometheus calls its type; ``info`` is a gauge that is always 1.
    text
        What it counts.
    read
        Its value now; with labels, a value for each of their values.
    labels
        Names of its labels, with what they can be.
    """

    name: str
    kind: Kind
    text: str
    read: Callable[[S_contra], float | Histogram | Labelled | Labels]
    labels: Mapping[str, str] | None = None
