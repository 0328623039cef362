"""``stepstream demo``."""

from __future__ import annotations

import logging

from pydantic import Field
from rich.console import Console

from stepstream.logs import configure_logging
from stepstream.settings import CommandSettings, HttpSettings, LoggingSettings, ModelSettings

__all__ = ["Demo"]

MAX_DEVIATION = 0.10


class Demo(CommandSettings):
    """Everything in one process: mock broker, simulated walkers, consumer; nothing to install."""

    devices: int = Field(20, ge=1, le=10_000)
    """Simulated people."""
    rate: float = Field(80.0, gt=0, le=1_000)
    """Readings that each person's device sends a second."""
    seconds: float | None = Field(30.0, gt=0)
    """Length; `none` runs until Ctrl-C."""
    seed: int = 1
    """Seed of everything random."""
    model: ModelSettings = ModelSettings()
    http: HttpSettings = HttpSettings(address="127.0.0.1")
    logging: LoggingSettings = LoggingSettings(level="warning")

    def execute(self) -> int:
        """Run the demo; 1 if the numbers of detected and of true steps differ by over 10 %."""
        from stepstream.simulation.demo import Walkers, run_demo  # noqa: PLC0415 - a Kafka client

        configure_logging(self.logging, self.hide_secrets)
        logging.getLogger("stepstream.simulation").setLevel(logging.ERROR)
        console = Console()
        result = run_demo(
            console,
            Walkers(self.devices, self.rate, self.seconds, self.seed),
            self.model,
            self.http,
        )
        shot = result.snapshot
        delay = "" if shot.delay_p50_s is None else f" {shot.delay_p50_s:.2f} s after their end"
        console.print(
            f"{shot.readings:,} readings of {shot.devices} devices in {shot.messages:,} messages: "
            f"{result.found_steps:,} steps detected{delay}, {result.true_steps:,} true ones "
            f"({result.deviation:.1%} off)",
            highlight=False,
            soft_wrap=True,
        )
        return 1 if result.deviation > MAX_DEVIATION else 0
