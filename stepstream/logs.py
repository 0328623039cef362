"""Logging to standard error: lines for people or JSON, one for each event of the lifecycle."""

from __future__ import annotations

import logging
import re
import signal
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from stepstream.settings import LoggingSettings

__all__ = [
    "LevelSwitch",
    "configure_logging",
    "hide_too",
    "is_routine",
    "log_everything",
    "make_formatter",
    "switch_on_signal",
]

logger = logging.getLogger(__name__)

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_ROUTINE = re.compile(r"GETPID .*: retrying|BGQUEUE ")
"""What librdkafka warns of in normal starts and ends: a coordinator that loads yet, events that
came after the last poll."""
_PLAIN = re.compile(r"[^\s\"=]+")
"""A value that can stand in a line without quotes."""


def is_routine(record: logging.LogRecord) -> bool:
    """Whether it is one of the Kafka client's warnings that say nothing."""
    return _ROUTINE.match(record.getMessage()) is not None


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, UTC, with milliseconds."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


_later_secrets: deque[str] = deque(maxlen=100)


def hide_too(secret: str) -> None:
    """Hide a secret that was not among the settings; the last hundred stay hidden."""
    _later_secrets.append(secret)


class _Redacted(logging.Formatter):
    """Lines of another formatter, without secrets."""

    def __init__(self, formatter: logging.Formatter, hide: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        text = self._hide(self._formatter.format(record))
        for secret in tuple(_later_secrets):
            text = text.replace(secret, "***")
        return text


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname:7} {record.name}: {_told(record)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # A field can't replace one that every line has.
        return msgspec.json.encode({**line, **_fields(record), **line}, enc_hook=str).decode()


def _told(record: logging.LogRecord) -> str:
    """Message and fields."""
    fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
    return record.getMessage() + fields


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    text = str(value)
    return text if _PLAIN.fullmatch(text) else msgspec.json.encode(text).decode()


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
        return not is_routine(record) or logging.getLogger().isEnabledFor(logging.DEBUG)

    handler.addFilter(add_fields)
    formatter = _JsonFormatter() if settings.format == "json" else _TextFormatter()
    handler.setFormatter(_Redacted(formatter, hide))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # It logs every request, with the level info.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def log_everything() -> None:
    """Log what the interpreter would write itself: errors that nothing catches, and warnings."""

    def log(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not issubclass(kind, KeyboardInterrupt):
            logger.critical("unexpected error", exc_info=(kind, error, trace))

    sys.excepthook = log
    threading.excepthook = lambda given: log(given.exc_type, given.exc_value, given.exc_traceback)
    logging.captureWarnings(capture=True)


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
        logger.warning("log level changed", extra={"log_level": self._levels[0]})


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
        return _told(record)


def make_formatter(hide: Callable[[str], str]) -> logging.Formatter:
    """What a record says, without its time, level, logger and secrets.

    Parameters
    ----------
    hide
        Removes secrets from a line.
    """
    return _Redacted(_BareFormatter(), hide)
