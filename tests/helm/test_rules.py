"""The alerts of a release: its own series only, with its thresholds."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, missing
from tests.helm.rules import CHART, RULES
from tests.helm.tools import KUBERNETES, find_tool

pytestmark = pytest.mark.slow

RELEASE_TESTS = Path(__file__).with_name("release_rules_test.yml")
LATENESS_TESTS = Path(__file__).with_name("lateness_test.yml")
FOR_ALL = ROOT / "tests" / "deploy" / "rules_test.yml"
OTHER_JOBS = re.compile("no consumer at all|job has another name|two releases|one release is gone")
"""Cases in which the series are of other jobs than the release's."""
LEAST = "--set=settings.kafka.bootstrap_servers=kafka:9092"


@pytest.fixture
def render(tmp_path: Path) -> Path:
    """Where the rules of a release go, with default values."""
    return render_to(tmp_path)


def render_to(folder: Path, *values: str) -> Path:
    return write(folder, spec_of("prometheusrule", "--set=prometheusRule.enabled=true", *values))


def spec_of(template: str, *values: str) -> Any:
    helm = find_tool("helm")
    if helm is None:
        missing("helm (make tools, or set TEST_TOOLS to its folder)")
    text = subprocess.run(
        [helm, "template", "steps", CHART, "--namespace=gait", f"--kube-version={KUBERNETES}",
         LEAST, f"--show-only=templates/{template}.yaml", *values],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return yaml.safe_load(text)["spec"]


def write(folder: Path, rules: Any) -> Path:
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump(rules, width=1000))
    return path


def promtool(*arguments: str | Path) -> None:
    if shutil.which("promtool") is None:
        missing("promtool (Debian's package prometheus)")
    done = subprocess.run(
        ["promtool", *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_fire_for_the_release_as_for_all(render: Path, tmp_path: Path) -> None:
    """The cases of all consumers, told of the release."""
    text = re.sub(
        r'job="(monitoring/)?stepstream"', 'namespace="gait", job="steps"', FOR_ALL.read_text()
    )
    text = re.sub(r"job: (monitoring/)?stepstream", "namespace: gait, job: steps", text)
    text = re.sub(r'(: "?)stepstream (\w)', r"\1steps \2", text)
    text = re.sub(r"(Steps|steps) of stepstream", r"\1 of steps", text)
    cases = yaml.safe_load(text)
    told = [case for case in cases["tests"] if not OTHER_JOBS.search(case["name"])]
    assert len(told) == len(cases["tests"]) - 4
    cases |= {"rule_files": [str(render)], "tests": told}
    written = tmp_path / "tests.yml"
    written.write_text(yaml.safe_dump(cases, width=1000))
    promtool("test", "rules", written)


def test_they_are_silent_about_all_other_releases(render: Path, tmp_path: Path) -> None:
    cases = yaml.safe_load(RELEASE_TESTS.read_text()) | {"rule_files": [str(render)]}
    written = tmp_path / "tests.yml"
    written.write_text(yaml.safe_dump(cases, width=1000))
    promtool("test", "rules", written)


@pytest.mark.parametrize(
    "values", [(), ("--set=nameOverride=gait",), ("--set=fullnameOverride=all-of-it",)]
)
def test_names_change_nothing(values: tuple[str, ...], tmp_path: Path) -> None:
    assert 'job="steps"' in render_to(tmp_path, *values).read_text()


def test_thresholds_and_runbook_are_values(tmp_path: Path) -> None:
    names = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"]["thresholds"]
    numbers = {name: f"0.{n}77" for n, name in enumerate(names, 1)}
    numbers["objectiveSeconds"] = "5.0"
    path = render_to(
        tmp_path,
        "--set=prometheusRule.runbookUrl=https://wiki.example.org/steps",
        *(f"--set-json=prometheusRule.thresholds.{name}={number}"
          for name, number in numbers.items()
          if name != "objectiveSeconds"),
        "--set-string=prometheusRule.thresholds.objectiveSeconds=5.0",
    )  # fmt: skip
    promtool("check", "rules", "--lint-fatal", path)
    text = path.read_text()
    assert "@" not in text
    assert all(number in text for number in numbers.values())
    assert "docs/runbook.md" not in text
    assert text.count("https://wiki.example.org/steps#") == RULES.read_text().count("runbook_url:")


def test_every_series_in_them_is_of_the_release(render: Path) -> None:
    scope = '{namespace="gait", job="steps"'
    rules = [r for g in yaml.safe_load(render.read_text())["groups"] for r in g["rules"]]
    for rule in rules:
        names = re.findall(
            r"(?<![\w:\"])(?:(?:job|instance):stepstream\w+:\w+|(?:stepstream|process)_\w+|up)(?=[\s{\[)]).{0,40}",
            rule["expr"],
        )
        assert names, rule
        for name in names:
            assert scope in name, rule


def test_the_autoscaler_hears_of_lateness_that_more_consumers_lower(tmp_path: Path) -> None:
    values = ("kind=keda", "keda.lateness.serverAddress=http://prometheus:9090")
    triggers = spec_of("scaledobject", *(f"--set=autoscaling.{value}" for value in values))[
        "triggers"
    ]
    query = triggers[1]["metadata"]["query"]
    rule = {"record": "lateness", "expr": query}
    rules = write(tmp_path, {"groups": [{"name": "autoscaler", "rules": [rule]}]})
    cases = yaml.safe_load(LATENESS_TESTS.read_text()) | {"rule_files": [str(rules)]}
    written = tmp_path / "tests.yml"
    written.write_text(yaml.safe_dump(cases, width=1000))
    promtool("test", "rules", written)
