"""When readings belong together: the rules on gaps, lateness and idleness."""

from dataclasses import dataclass

__all__ = ["Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What starts a new window and what is dropped as late.

    Attributes
    ----------
    max_gap_us
        A longer pause between two readings of a device starts a new window, microseconds.
    max_lateness_us
        A reading not after its device's last one is late and dropped; one that lies further
        back than this means that the clock was set back, and starts a new window.
    idle_timeout_ms
        A device from which nothing was taken for longer than this, in stream time, starts a new
        window; so does one whose oldest needed reading is older than ``max_age_ms``.
    """

    max_gap_us: int = 250_000
    max_lateness_us: int = 600_000_000
    idle_timeout_ms: int = 10_000

    @property
    def max_age_ms(self) -> int:
        """Bound on the age, in stream time, of the oldest reading that a window needs."""
        return self.idle_timeout_ms + 10_000
