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
from tests.helm.tools import KUBERNETES, find_tool

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


def test_the_chart_is_linted_with_values_that_it_has() -> None:
    helm = find_tool("helm")
    if helm is None:
        missing("helm (make tools, or set TEST_TOOLS to its folder)")
    (command,) = re.findall(r"run: helm (lint .*)", (GITHUB / "workflows" / "ci.yml").read_text())
    done = subprocess.run(
        [helm, *command.split(), f"--kube-version={KUBERNETES}"],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_the_tag_that_the_chart_asks_for(tmp_path: Path) -> None:
    chart = yaml.safe_load((ROOT / "helm" / "stepstream" / "Chart.yaml").read_text())
    workflow = yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text())
    steps = {step.get("id"): step for step in workflow["jobs"]["image"]["steps"]}
    output = tmp_path / "output"
    given = {
        "REGISTRY": workflow["env"]["REGISTRY"],
        "GITHUB_REPOSITORY": "Some-Owner/StepStream",
        "GITHUB_REF_NAME": f"v{chart['version']}",
        "GITHUB_OUTPUT": str(output),
    }
    subprocess.run(["bash", "-euc", steps["name"]["run"]], check=True, env=given)
    tags = steps["push"]["with"]["tags"]
    for line in output.read_text().splitlines():
        name, _, value = line.partition("=")
        tags = tags.replace(f"${{{{ steps.name.outputs.{name} }}}}", value)
    assert tags == f"ghcr.io/some-owner/stepstream:{chart['appVersion']}"
