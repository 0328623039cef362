from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

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
            assert (changed["message"], changed["level"]) == ("log level changed", level)
            program.stdin.write("\n")
            assert [line()["message"] for _ in messages] == messages
        program.stdin.close()
        assert program.wait(10) == 0
