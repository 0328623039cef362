"""``stepstream serve``."""

from __future__ import annotations

import importlib

from stepstream.logs import configure_logging
from stepstream.settings import ServeSettings

__all__ = ["Serve"]


class Serve(ServeSettings):
    """Answer requests with the steps in their readings, without Kafka."""

    def execute(self) -> int:
        """Serve until SIGTERM or SIGINT; requests that have come are answered first."""
        configure_logging(self.logging, self.hide_secrets)
        # The parent of workers doesn't need the model.
        kind = "sharing" if self.workers > 1 else "serving"
        serve: int = importlib.import_module(f"stepstream.commands.{kind}").run(self)
        return serve
