"""The Grafana dashboard, its code and its queries."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from deploy.grafana.dashboard import ROWS, SELECTED, dashboard_json
from stepstream.metrics.consumer import METRICS
from stepstream.web.traffic import HTTP_METRICS
from tests.conftest import ROOT
from tests.deploy.queries import (
    filled_in,
    kept_labels,
    legend_labels,
    panel_queries,
    samples,
    selectors,
)

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "stepstream.json"
BY_PROMETHEUS = {"ALERTS": {"alertname", "alertstate"}}
TARGET_LABELS = {"namespace", "job", "group", "instance"}
PANELS = [panel for lines in ROWS.values() for line in lines for panel in line]


def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(dashboard_json())
    return made


def test_the_file_is_what_the_code_makes() -> None:
    assert DASHBOARD.read_text() == dashboard_json(), "run make dashboard"


def test_queries_ask_for_series_and_labels_that_exist() -> None:
    known = samples() | BY_PROMETHEUS
    for query in panel_queries():
        named = selectors(query)
        assert named.keys() <= known.keys(), query
        for name, labels in named.items():
            assert labels <= known[name] | TARGET_LABELS, query
        present = set[str]().union(TARGET_LABELS, *(known[name] for name in named))
        assert kept_labels(query) <= present, query


def test_legends_name_labels_that_their_lines_have() -> None:
    known = samples() | BY_PROMETHEUS
    for panel in PANELS:
        for query in panel.queries:
            expression = filled_in(query.text)
            present = set[str]().union(*(known[name] for name in selectors(expression)))
            grouped = kept_labels(expression) or present | TARGET_LABELS
            assert legend_labels(query.legend) <= grouped | TARGET_LABELS, query


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for query in panel_queries() for name in selectors(query)}
    names = [*(metric.name for metric in METRICS), *(metric.name for metric in HTTP_METRICS)]
    hidden = [name for name in names if not any(one.startswith(name) for one in shown)]
    assert hidden == []


def test_rates_follow_the_scrape_interval_and_everything_the_selection() -> None:
    for panel in PANELS:
        for query in panel.queries:
            if "ALERTS" not in query.text:
                assert SELECTED in query.text, query
            for function in ("rate(", "increase("):
                assert query.text.count(function) == query.text.count("[$__rate_interval]") or (
                    function not in query.text
                ), query


def test_each_panel_says_what_it_shows_and_in_which_unit_and_fits_the_grid() -> None:
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert len(panels) == len(PANELS)
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = set[tuple[int, int]]()
    for panel in panels:
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        covered = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not covered & places, panel["title"]
        places |= covered


def test_data_source_release_group_and_consumer_can_be_chosen() -> None:
    variables = dashboard()["templating"]["list"]
    names = ["datasource", "namespace", "job", "group", "instance"]
    assert [variable["name"] for variable in variables] == names
    for before, variable in pairwise(variables[1:]):
        assert f'{before["name"]}=~"${before["name"]}"' in variable["query"]
    # Where nothing gives these labels, nothing is left out.
    assert {variable["allValue"] for variable in variables[1:]} == {".*"}
