"""The model."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from stepstream.settings.groups import SettingsGroup

__all__ = ["ModelSettings"]


class ModelSettings(SettingsGroup):
    """The neural network."""

    path: Path | None = None
    """Model file; the model that ships with stepstream if not set."""
    watch: bool = True
    """Whether a model file that changes replaces the running model within seconds; if not, SIGHUP or a restart does."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of one inference call, in each worker."""
