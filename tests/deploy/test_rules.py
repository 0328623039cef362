"""Prometheus' rules and the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from tests.conftest import ROOT, missing
from tests.deploy.queries import RULES, kept_labels, rules, samples, selectors

RULE_TESTS = ROOT / "tests" / "deploy" / "rules_test.yml"
RUNBOOK = ROOT / "docs" / "runbook.md"
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
BY_PROMETHEUS = {"up"}
TARGET_LABELS = {"job", "instance", "namespace", "group"}


@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "--lint-fatal", str(RULES)),
        ("check", "config", str(RULES.with_name("prometheus.yml"))),
        ("test", "rules", str(RULE_TESTS)),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_approves(command: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        missing("promtool (Debian's package prometheus)")
    done = subprocess.run(["promtool", *command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_ask_for_series_and_labels_that_exist() -> None:
    known = samples()
    labels = set[str]().union(TARGET_LABELS, *known.values())
    for rule in rules():
        for name, matched in selectors(rule["expr"]).items():
            assert name in known or name in RECORDED | BY_PROMETHEUS, rule
            assert matched <= known.get(name, set()) | TARGET_LABELS, rule
        assert kept_labels(rule["expr"]) <= labels, rule


def test_each_alert_has_a_test_in_which_it_fires() -> None:
    tested = {
        case["alertname"]
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case.get("exp_alerts")
    }
    assert tested == set(ALERTS)


def test_each_alert_has_a_section_in_the_runbook_and_each_section_an_alert() -> None:
    sections = re.findall(r"^## (Stepstream\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sections == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_runbook_names_series_that_exist() -> None:
    known = {*samples(), *(metric.partition("_bucket")[0] for metric in samples()), *RECORDED}
    named = set(re.findall(r"`(stepstream_\w+|process_\w+)", RUNBOOK.read_text()))
    assert named
    assert named <= known
