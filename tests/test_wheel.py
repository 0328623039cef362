"""The built wheel as it is installed; ``make wheel`` installs it and runs these."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import stepstream

pytestmark = pytest.mark.wheel

FILES = """
import json
from importlib.metadata import files
print(json.dumps([str(path) for path in files("stepstream")]))
"""
MODEL = """
from stepstream.detection import default_model_path
print(default_model_path())
"""
SITE_PACKAGES = """
import sysconfig
print(sysconfig.get_path("purelib"))
"""


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """Interpreter of the environment in which the wheel is installed."""
    given = os.environ.get("WHEEL_PYTHON")
    if not given:
        pytest.fail("WHEEL_PYTHON isn't set: run make wheel", pytrace=False)
    return Path(given)


def evaluate(interpreter: Path, program: str) -> str:
    # Isolated: the checkout must not stand in for the wheel.
    done = subprocess.run(
        [interpreter, "-I", "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


def run(interpreter: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = interpreter.with_name("stepstream")
    return subprocess.run(
        [command, *arguments], check=False, capture_output=True, text=True, timeout=60
    )


def test_command_prints_the_version(interpreter: Path) -> None:
    expected = f"stepstream {stepstream.__version__}, decoder: python\n"
    assert run(interpreter, "--version").stdout == expected


def test_wheel_holds_the_package_and_nothing_else(interpreter: Path) -> None:
    files: list[str] = json.loads(evaluate(interpreter, FILES))
    roots = {path.split("/")[0] for path in files if path != "../../../bin/stepstream"}
    assert roots == {"stepstream", f"stepstream-{stepstream.__version__}.dist-info"}


def test_model_ships_inside_the_package(interpreter: Path) -> None:
    model = Path(evaluate(interpreter, MODEL))
    assert model.is_file()
    assert model.is_relative_to(Path(evaluate(interpreter, SITE_PACKAGES)) / "stepstream")


def test_package_says_that_it_is_typed(interpreter: Path) -> None:
    assert "stepstream/py.typed" in json.loads(evaluate(interpreter, FILES))


def test_the_live_page_ships_inside_the_package(interpreter: Path) -> None:
    files: list[str] = json.loads(evaluate(interpreter, FILES))
    static = {Path(path).name for path in files if "/web/static/" in path}
    scripts = {"performance.js", "activity.js", "elements.js", "stream.js", "panels.js"}
    assert {"performance.html", "performance.css", "openapi.json"} | scripts <= static


def test_device_at_rest_makes_no_steps(interpreter: Path, tmp_path: Path) -> None:
    recording = tmp_path / "at-rest.csv"
    rows = [f"{i / 100},0.02,0.05,9.81" for i in range(500)]
    recording.write_text("\n".join(["time,accel_x,accel_y,accel_z", *rows, ""]))
    done = run(interpreter, "detect", str(recording))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
