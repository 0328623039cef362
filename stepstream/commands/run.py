"""``stepstream run``."""

from __future__ import annotations

import importlib

from stepstream.logs import configure_logging
from stepstream.settings import Settings

__all__ = ["Run"]


class Run(Settings):
    """Read readings, find steps, publish one event for each."""

    def execute(self) -> int:
        """Run until SIGTERM or SIGINT, then commit and leave the group."""
        configure_logging(self.logging, self.hide_secrets)
        # The parent of workers needs neither a Kafka client nor the model.
        kind = "supervising" if self.workers > 1 else "consuming"
        run: int = importlib.import_module(f"stepstream.commands.{kind}").run(self.renamed())
        return run
