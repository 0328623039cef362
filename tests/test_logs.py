from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stepstream.logs import configure_logging
from stepstream.settings import LoggingSettings

if TYPE_CHECKING:
    import pytest

PROGRAM = """
import logging, sys
from stepstream.logs import configure_logging, switch_on_signal
from stepstream.settings import LoggingSettings
settings = LoggingSettings(level="info", format="json")
configure_logging(settings, lambda line: line.replace("hunter2", "***"))
switch_on_signal(settings)
for _ in sys.stdin:
    logging.getLogger("a").debug("details")
    logging.getLogger("a").info("said", extra={"partition": 3, "secret": "hunter2"})
"""


def test_a_signal_switches_to_debug_and_back_and_lines_are_json_without_secrets() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as program:
        assert program.stdin is not None
        assert program.stderr is not None

        def line() -> dict[str, object]:
            assert program.stderr is not None
            found: dict[str, object] = json.loads(program.stderr.readline())
            return found

        program.stdin.write("\n")
        said = line()
        assert said.pop("time")
        assert said == {
            "level": "info",
            "logger": "a",
            "message": "said",
            "partition": 3,
            "secret": "***",
        }
        for level, messages in (("debug", ["details", "said"]), ("info", ["said"])):
            os.kill(program.pid, signal.SIGUSR1)
            changed = line()
            assert (changed["message"], changed["log_level"]) == ("log level changed", level)
            program.stdin.write("\n")
            assert [line()["message"] for _ in messages] == messages
        program.stdin.close()
        assert program.wait(10) == 0


def test_a_json_line_has_its_time_in_milliseconds_and_fields_that_hide_none_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LoggingSettings(format="json"), str)
    before = datetime.now(UTC)
    logging.getLogger("here").warning("held %d", 3, extra={"records": 7, "level": "mine"})
    line = json.loads(capsys.readouterr().err)
    assert list(line) == ["time", "level", "logger", "message", "records"]
    assert (line["level"], line["message"], line["records"]) == ("warning", "held 3", 7)
    assert len(line["time"]) == len("2030-01-31T12:00:00.000Z")
    assert abs((datetime.fromisoformat(line["time"]) - before).total_seconds()) < 5


def test_a_text_line_quotes_what_would_not_be_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings(format="text", level="error"), str)
    here = logging.getLogger("here")
    here.warning("quiet")
    here.error("loud", extra={"a": 7, "b": "x y", "c": ["p-0", "p-1"], "d": "1\n2", "e": ""})
    line = capsys.readouterr().err
    assert line.endswith('Z ERROR   here: loud a=7 b="x y" c=p-0,p-1 d="1\\n2" e=""\n')


def test_what_the_kafka_client_says_in_every_start_is_left_out_unless_debugging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    routine = "GETPID [a#producer-1] [thrd:main]: Failed to acquire idempotence PID: retrying"
    for level, count in (("info", 1), ("debug", 2)):
        configure_logging(LoggingSettings(level=level), str)
        logging.getLogger("here").warning(routine)
        logging.getLogger("here").warning("GETPID [a#producer-1] [thrd:main]: denied")
        assert capsys.readouterr().err.count("\n") == count


UNCAUGHT = """
import threading, warnings
from stepstream.logs import configure_logging, log_everything
from stepstream.settings import LoggingSettings
configure_logging(LoggingSettings(format="json"), str)
log_everything()
warnings.warn("careful")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
[][0]
"""


def test_warnings_and_errors_that_nothing_catches_are_lines_of_the_log() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    warning, thread, main = (json.loads(line) for line in done.stderr.splitlines())
    assert "careful" in warning["message"]
    assert (thread["level"], main["level"]) == ("critical", "critical")
    assert "ZeroDivisionError" in thread["exception"]
    assert "IndexError" in main["exception"]
