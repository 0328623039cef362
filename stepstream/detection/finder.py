"""What a detector needs in order to find something in a model's probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from stepstream.detection.columns import Columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Finder"]

C_co = TypeVar("C_co", bound=Columns, covariant=True)


class Finder(Protocol[C_co]):
    """Turns probabilities into columns of what they show, such as steps.

    Attributes
    ----------
    hops_ahead
        Most hops of a device in one call of `find`.
    lookback_hops
        How many hops before the newest but one the result of `find` can depend on.
    """

    hops_ahead: int
    lookback_hops: int

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""

    def find(
        self,
        slot: NDArray[np.intp],
        hop: NDArray[np.int64],
        first_hop: NDArray[np.int64],
        probabilities: NDArray[np.float32],
        offset: NDArray[np.int64],
    ) -> C_co:
        """Add probabilities, one hop in each row; returns what they complete.

        Parameters
        ----------
        slot : (n,) intp
            Devices. Rows of one device stand together, hops ascending without a hole.
        hop : (n,) int64
            Absolute indices of the hops.
        first_hop : (n,) int64
            The first hop of the device's window that has probabilities.
        probabilities : (n, hop, 2) float32
            What the model gave for the samples of the hop.
        offset : (n,) int64
            Input offset of the message that completed the row.

        Returns
        -------
        Columns
            In the order of ``slot``; each row has the offset of the row that completed it.
        """

    def none(self) -> C_co:
        """Columns without a row."""
