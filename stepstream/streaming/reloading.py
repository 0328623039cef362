"""A new model that replaces the running one."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from stepstream.detection import Model, default_model_path, self_test
from stepstream.errors import ModelError
from stepstream.files import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepstream.settings import ModelSettings

__all__ = ["ModelFile"]

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0


class ModelFile:
    """The file of the model; it is checked from time to time.

    Parameters
    ----------
    settings
        Path and threads.
    monotonic
        The clock, seconds.
    """

    def __init__(
        self, settings: ModelSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._path = settings.path or default_model_path()
        self._threads = settings.threads
        self._is_watched = settings.watch
        self._file = FileWatch(self._path)
        self._is_asked = False
        self._next_look_s = 0.0

    def load(self) -> Model:
        """The model in the file."""
        return Model(self._path, self._threads)

    def ask(self) -> None:
        """Load the file again at the next check, even if it seems unchanged; from any thread."""
        self._is_asked = True

    def look(self, running: Model) -> Model | None:
        """A new model, if there is one that may replace the running one.

        A file that can't be used is reported once, and ignored until it changes again.
        """
        now_s = self._monotonic()
        if not self._is_asked and (not self._is_watched or now_s < self._next_look_s):
            return None
        self._next_look_s = now_s + LOOK_INTERVAL_S
        if not self._file.has_changed() and not self._is_asked:
            return None
        self._is_asked = False
        try:
            model = self.load()
            self_test(model)
        except ModelError as error:
            logger.error(  # noqa: TRY400 - the message says all
                "the new model is refused, %s continues: %s", running.metadata.label, error
            )
            return None
        logger.info(
            "model replaced", extra={"model": model.metadata.label, "was": running.metadata.label}
        )
        return model
