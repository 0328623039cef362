"""Whether a consumer is live and ready, and what keeps it from it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Health"]


@dataclass(frozen=True)
class Health:
    """A consumer as it is at one moment.

    Attributes
    ----------
    fatal_error
        What the Kafka client can't go on after; empty if nothing.
    turn_age_s, stuck_after_s
        Time since the loop last turned, and when it counts as stuck.
    is_member
        Whether the group has this consumer, and has told it its partitions.
    is_connected
        Whether there is a connection to a broker.
    preparing, held
        Partitions that aren't running yet, and those that are held.
    is_backpressured
        Whether nothing is fetched because the outbox is full.
    uncommitted_s, uncommitted_after_s
        Time for which the oldest results have waited to be committed, and when that is too long.
    """

    fatal_error: str
    turn_age_s: float
    stuck_after_s: float
    is_member: bool
    is_connected: bool
    preparing: int
    held: int
    is_backpressured: bool
    uncommitted_s: float
    uncommitted_after_s: float

    @property
    def is_live(self) -> bool:
        """Whether the loop turns and may go on; otherwise only a restart helps."""
        return self.turn_age_s < self.stuck_after_s and not self.fatal_error

    @property
    def is_ready(self) -> bool:
        """Whether messages of all owned partitions are processed and the results committed."""
        return not self.obstacles

    @property
    def obstacles(self) -> list[str]:
        """What keeps the consumer from being ready, in words."""
        return [
            text
            for text, holds in (
                ("the loop is stuck", self.turn_age_s >= self.stuck_after_s),
                (f"fatal error of the Kafka client: {self.fatal_error}", bool(self.fatal_error)),
                ("not a member of the group", not self.is_member),
                ("no connection to a broker", not self.is_connected),
                (f"{self.preparing} partitions are being prepared", self.preparing > 0),
                (f"{self.held} partitions are paused for too many dead letters", self.held > 0),
                ("reading is paused until results are published", self.is_backpressured),
                (
                    f"nothing was committed for {self.uncommitted_s:.0f} s",
                    self.uncommitted_s >= self.uncommitted_after_s,
                ),
            )
            if holds
        ]
