from __future__ import annotations

import subprocess
import sys

WRITES = """
import os
from stepstream.detection.native_output import first_output_as_warnings
with first_output_as_warnings():
    os.write(2, b"INFO: delegate\\nERROR: no such operator\\n")
    os.write(2, b"x" * (1 << 17))
with first_output_as_warnings():
    os.write(2, b"later\\n")
"""
LOGS = """
import logging, os
from threading import Event, Thread
from stepstream.detection.native_output import first_output_as_warnings

class Tells(logging.Formatter):
    def format(self, record):
        logs.set()
        return super().format(record)

logs = Event()
handler = logging.StreamHandler()
handler.setFormatter(Tells())
logging.basicConfig(handlers=[handler])
thread = Thread(target=logging.warning, args=["log level changed"])
with first_output_as_warnings():
    thread.start()
    logs.wait(0.5)
    os.write(2, b"ERROR: no such operator\\n")
thread.join()
"""
LOADS = """
from stepstream.detection import Model, default_model_path
Model(default_model_path())
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stderr


def test_native_lines_become_warnings_once_and_nothing_waits() -> None:
    written = run(WRITES)
    assert "INFO" not in written
    assert "RuntimeWarning: ERROR: no such operator\n" in written
    assert written.endswith("later\n")


def test_lines_that_other_threads_log_meanwhile_are_not_taken_for_native_ones() -> None:
    written = run(LOGS)
    assert "RuntimeWarning: ERROR: no such operator\n" in written
    assert "log level changed\n" in written.splitlines(keepends=True)


def test_a_model_is_loaded_without_a_word() -> None:
    assert run(LOADS) == ""
