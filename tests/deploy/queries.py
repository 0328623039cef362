"""What PromQL expressions are made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import promql_parser
import yaml
from promql_parser import AggregateExpr, BinaryExpr, VectorSelector

from deploy.grafana.dashboard import ROWS, SELECTIONS
from stepstream.metrics import PROCESS_METRICS, Metric
from stepstream.metrics.consumer import METRICS
from stepstream.web.traffic import HTTP_METRICS, HttpMetric
from stepstream.web.workers.metrics import WORKER_METRICS
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}
SETS = {"and", "or", "unless"}


def rules() -> list[dict[str, Any]]:
    """All rules, in their order."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panel_queries() -> list[str]:
    """All expressions of the dashboard, with values in place of its variables."""
    panels = [panel for lines in ROWS.values() for line in lines for panel in line]
    return [filled_in(query.text) for panel in panels for query in panel.queries]


def filled_in(expression: str, rate_interval: str = "1m") -> str:
    """With values in place of Grafana's variables."""
    values = {"$__rate_interval": rate_interval} | {f"${name}": ".*" for name in SELECTIONS}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


def samples() -> dict[str, set[str]]:
    """Names of all series that consumers and parents of workers make, with their labels."""
    found = {name: set[str]() for name in PROCESS_METRICS}
    found |= {metric.name: set(metric.labels) for metric in WORKER_METRICS}
    every: list[Metric[Any] | HttpMetric] = [*METRICS, *HTTP_METRICS]
    for metric in every:
        labels = set(metric.labels or {})
        if metric.kind == "histogram":
            found[f"{metric.name}_bucket"] = labels | {"le"}
            found[f"{metric.name}_sum"] = found[f"{metric.name}_count"] = labels
        else:
            found[metric.name] = labels
    return found


def parts(expression: str) -> list[Any]:
    """An expression, and all expressions in it."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return found


def selectors(expression: str) -> dict[str, set[str]]:
    """Names of the series that an expression asks for, with labels that it names for each."""
    found: dict[str, set[str]] = {}
    for part in parts(expression):
        if isinstance(part, VectorSelector):
            labels = {matcher.name for matcher in part.matchers.matchers}
            found.setdefault(part.name or "", set()).update(labels)
    return found


def kept_labels(expression: str) -> set[str]:
    """Labels by which an expression groups or joins."""
    found: set[str] = set()
    for part in parts(expression):
        if isinstance(part, AggregateExpr) and part.modifier:
            found |= set(part.modifier.labels)
        if isinstance(part, BinaryExpr) and part.modifier and part.modifier.matching:
            found |= set(part.modifier.matching.labels)
    return found


def inner_vectors(expression: str) -> list[str]:
    """What has to be there for an expression to say anything: both sides of `and`, not bounds."""
    return [part.prettify() for part in _inner(promql_parser.parse(expression))]


def _inner(expression: Any) -> Iterator[Any]:
    if isinstance(expression, BinaryExpr) and str(expression.op) in SETS:
        yield from _inner(expression.lhs)
        yield from _inner(expression.rhs)
    elif isinstance(expression, BinaryExpr) and str(expression.op) in COMPARISONS:
        yield from _inner(expression.lhs)
    elif getattr(getattr(expression, "func", None), "name", "") == "absent":
        yield from expression.args
    else:
        yield expression


def legend_labels(legend: str) -> set[str]:
    return set(re.findall(r"{{(\w+)}}", legend))
