"""Whether a consumer is live and ready, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Health"]


@dataclass(frozen=True)
class Health:
    """The state of a consumer at one moment.

    Attributes
    ----------
    fatal_error
        The error after which the Kafka client can't continue; empty if there is none.
    turn_age_s, stuck_after_s
        Time since the last turn of the loop, and the time after which the loop is stuck.
    is_member
        Whether this consumer is in the group, and the group has assigned its partitions.
    is_waiting
        Whether this consumer has only just joined, and owns no partition yet.
    has_topics
        Whether any topic is read.
    is_connected
        Whether there is a connection to a broker.
    preparing, refused, held, waiting
        Partitions that aren't running yet, those that will not, those that are held, and those that
        wait for schemas.
    is_backpressured
        Whether nothing is fetched because the outbox is full.
    uncommitted_s, uncommitted_after_s
        Time for which the oldest results have waited to be committed, and when that is too long.
    """

    fatal_error: str
    turn_age_s: float
    stuck_after_s: float
    is_member: bool
    is_waiting: bool
    has_topics: bool
    is_connected: bool
    preparing: int
    refused: int
    held: int
    waiting: int
    is_backpressured: bool
    uncommitted_s: float
    uncommitted_after_s: float

    @property
    def is_live(self) -> bool:
        """Whether the loop turns and can continue; otherwise only a restart helps."""
        return self.turn_age_s < self.stuck_after_s and not self.fatal_error

    @property
    def is_ready(self) -> bool:
        """Whether messages of all owned partitions are processed and the results committed."""
        return not self.obstacles

    @property
    def obstacles(self) -> list[str]:
        """Why the consumer is not ready: a sentence for each reason."""
        return [
            text
            for text, holds in (
                ("the loop is stuck", self.turn_age_s >= self.stuck_after_s),
                (f"fatal error of the Kafka client: {self.fatal_error}", bool(self.fatal_error)),
                ("no topic matches topics.readings", not self.has_topics),
                ("not a member of the group", not self.is_member and self.has_topics),
                ("waits for its first partitions", self.is_waiting),
                ("no connection to a broker", not self.is_connected),
                (f"{self.preparing} partitions are being prepared", self.preparing > 0),
                (f"{self.refused} partitions can't start, see the log", self.refused > 0),
                (f"{self.held} partitions are paused for too many dead letters", self.held > 0),
                (f"{self.waiting} partitions wait for the schema registry", self.waiting > 0),
                ("reading is paused until results are published", self.is_backpressured),
                (
                    f"nothing was committed for {self.uncommitted_s:.0f} s",
                    self.uncommitted_s >= self.uncommitted_after_s,
                ),
            )
            if holds
        ]
