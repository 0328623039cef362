"""Logging to standard error: lines for people or JSON, one for each event of the lifecycle."""

from __future__ import annotations

import logging
import signal
from threading import Thread
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepstream.settings import LoggingSettings

__all__ = ["LevelSwitch", "configure_logging", "make_formatter", "switch_on_signal"]

logger = logging.getLogger(__name__)

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _Redacted(logging.Formatter):
    """Lines of another formatter, without secrets."""

    def __init__(self, formatter: logging.Formatter, hide: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        return self._hide(self._formatter.format(record))


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return super().format(record) + fields


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure_logging(
    settings: LoggingSettings, hide: Callable[[str], str], **fields: object
) -> None:
    """Send all logs to standard error.

    Parameters
    ----------
    settings
        Level and format.
    hide
        Removes secrets from a line.
    fields
        Fields that every line has.
    """
    handler = logging.StreamHandler()

    def add_fields(record: logging.LogRecord) -> bool:
        vars(record).update(fields)
        return True

    handler.addFilter(add_fields)
    formatter = _JsonFormatter() if settings.format == "json" else _TextFormatter()
    handler.setFormatter(_Redacted(formatter, hide))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # It logs every request, with the level info.
    logging.getLogger("httpx").setLevel(logging.WARNING)


class LevelSwitch:
    """Switches between the level that is set and `debug`.

    Parameters
    ----------
    settings
        The level.
    """

    def __init__(self, settings: LoggingSettings) -> None:
        self._levels = [settings.level, "debug"]

    @property
    def is_on(self) -> bool:
        """Whether it is switched to `debug`."""
        return self._levels[0] == "debug" != self._levels[1]

    def flip(self) -> None:
        """Switch to the other level."""
        self._levels.reverse()
        logging.getLogger().setLevel(self._levels[0].upper())
        logger.warning("log level changed", extra={"level": self._levels[0]})


def switch_on_signal(settings: LoggingSettings) -> None:
    """From now on, each SIGUSR1 flips a `LevelSwitch`.

    Call it before other threads start: otherwise the signal could end the process in one of them.
    """
    # A thread waits for it: a signal handler must not acquire the locks of logging.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    Thread(
        target=_await_signals, args=(LevelSwitch(settings),), name="log level", daemon=True
    ).start()


def _await_signals(switch: LevelSwitch) -> None:
    while True:
        signal.sigwait({signal.SIGUSR1})
        switch.flip()


class _BareFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return record.getMessage() + fields


def make_formatter(hide: Callable[[str], str]) -> logging.Formatter:
    """What a record says, without its time, level, logger and secrets.

    Parameters
    ----------
    hide
        Removes secrets from a line.
    """
    return _Redacted(_BareFormatter(), hide)
