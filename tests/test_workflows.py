"""GitHub's workflows: no mistakes and no open doors, and they call what is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import ROOT, missing
from tests.helm.tools import find_tool

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def test_actionlint_finds_nothing() -> None:
    actionlint = find_tool("actionlint")
    if actionlint is None:
        missing("actionlint, to check the workflows: make tools ARGS=actionlint")
    done = subprocess.run(
        [actionlint, *WORKFLOWS], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_nothing() -> None:
    beside = str(Path(sys.executable).parent)
    zizmor = shutil.which("zizmor", path=os.pathsep.join([beside, os.environ["PATH"]]))
    if zizmor is None:
        missing("zizmor, to look for open doors in the workflows: pip install zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", str(GITHUB)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (\S+)(.*)", "".join(path.read_text() for path in WORKFLOWS))
    assert len(used) > 20
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    assert len({action.partition("@")[0] for action, _ in used}) == len(set(used))


def test_the_checks_are_those_of_ci_run() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (steps,) = re.findall(r"steps=\(([a-z ]+)\)$", script, re.MULTILINE)
    called = re.findall(r"run: \.ci/run ?(.*)", "".join(path.read_text() for path in WORKFLOWS))
    assert len(called) >= 4
    assert set(" ".join(called).split()) == set(steps.split())


def test_every_supported_python_is_tested() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]
    project = (ROOT / "pyproject.toml").read_text()
    supported = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["python"] == supported
    assert any("arm" in entry["runner"] for entry in matrix["include"])
