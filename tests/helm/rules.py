"""Prometheus' rules for all consumers, made from those of the chart.

``python -m tests.helm.rules`` writes deploy/prometheus/rules.yml. The chart fills in the same
places, with its values, and with labels that only its own release has.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "stepstream"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
RUNBOOK = "docs/runbook.md"


def render_rules() -> str:
    """The rules with the chart's default thresholds, for consumers of any name."""
    text = (CHART / "files" / "rules.yml").read_text(encoding="utf-8")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    text = text.replace("{@scope@}", "").replace("@scope@, ", "")
    for name, value in values["prometheusRule"]["thresholds"].items():
        text = text.replace(f"@{name}@", str(value))
    return text.replace("@runbook_url@", RUNBOOK)


if __name__ == "__main__":
    RULES.write_text(render_rules(), encoding="utf-8")
    sys.stdout.write(f"{RULES}\n")
