"""Messages like those of the Kafka client."""

from __future__ import annotations

from dataclasses import dataclass, field

from stepstream.streaming.system import System

TIME_MS = 1_700_000_000_000
NOW_US = (TIME_MS + 3_600_000) * 1000


@dataclass
class FakeRecord:
    """One message; its methods are those of a Kafka client's."""

    message_key: bytes | None
    message_value: bytes | None
    message_offset: int
    time_ms: int = TIME_MS
    message_headers: list[tuple[str, bytes | None]] = field(default_factory=list)

    def key(self) -> bytes | None:
        return self.message_key

    def value(self) -> bytes | None:
        return self.message_value

    def offset(self) -> int:
        return self.message_offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self.time_ms

    def headers(self) -> list[tuple[str, bytes | None]]:
        return self.message_headers


class Clock(System):
    """A clock that a test sets by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def now_us(self) -> int:
        return round(self.now_s * 1e6)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
