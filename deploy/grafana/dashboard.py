"""The Grafana dashboard, for operators: ``make dashboard`` writes it.

Four questions, a row each: Is it healthy? Is it keeping up? What is slow? What is being rejected?
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ROWS", "SELECTED", "SELECTIONS", "Panel", "Query", "dashboard_json"]

WIDTH = 24
"""Width of Grafana's grid."""
SELECTIONS = {
    "namespace": "Namespace",
    "job": "Job",
    "group": "Consumer group",
    "instance": "Consumer",
}
"""Labels that can be chosen, each among the series that are left by those before it."""
SELECTED = "{" + ", ".join(f'{name}=~"${name}"' for name in SELECTIONS) + "}"
"""``All`` is also the series that have no such label."""
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """One or more lines of a panel.

    Attributes
    ----------
    expr
        PromQL; ``@`` stands for the selected consumers, ``@@`` for their rates' interval.
    legend
        Name of a line, by its labels.
    """

    expr: str
    legend: str = "{{instance}}"

    @property
    def text(self) -> str:
        """The expression for Grafana."""
        return self.expr.replace("@@", f"{SELECTED}[$__rate_interval]").replace("@", SELECTED)


@dataclass(frozen=True)
class Panel:
    """A panel; all have the same height, and the panels of a row divide its width.

    Attributes
    ----------
    title
        What it shows.
    text
        How to read it.
    unit
        Grafana's name of the unit.
    queries
        What is drawn.
    kind
        Lines, lines on top of each other, or the last value in large figures.
    bad_from, good_from
        For figures: the value from which on they are red, or green.
    """

    title: str
    text: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["lines", "stacked", "figure"] = "lines"
    bad_from: float | None = None
    good_from: float | None = None


def _quantiles(metric: str, *shares: float) -> list[Query]:
    return [
        Query(
            f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket@@)))",
            f"p{100 * share:g}",
        )
        for share in shares
    ]


def _rate(metric: str) -> str:
    return f"sum(rate({metric}@@))"


ROWS: dict[str, list[list[Panel]]] = {
    "Is it healthy?": [
        [
            Panel(
                "Ready",
                "Share of the consumers that are ready: members of their group, connected, all their partitions running.",
                "percentunit",
                [Query("avg(stepstream_ready@)", "")],
                "figure",
                good_from=1,
            ),
            Panel(
                "Firing alerts",
                "Alerts of deploy/prometheus/rules.yml, for all jobs. docs/runbook.md says what to do.",
                "short",
                [
                    Query(
                        'count(ALERTS{alertname=~"Stepstream.*", alertstate="firing"}) or vector(0)',
                        "",
                    )
                ],
                "figure",
                bad_from=1,
            ),
            Panel(
                "Held partitions",
                "Paused until a person releases them (`stepstream release-partition`), because too many of their messages are dead letters.",
                "short",
                [Query("sum(stepstream_held_partitions@)", "")],
                "figure",
                bad_from=1,
            ),
            Panel(
                "Lag",
                "How far the slowest partition is behind, as a time.",
                "s",
                [Query("max(stepstream_lag_seconds@)", "")],
                "figure",
                bad_from=60,
            ),
            Panel(
                "Late events",
                "Lateness of the latest of 100 events: from the record time of the message that completed a step to the commit of its event.",
                "s",
                _quantiles("stepstream_event_lateness_seconds", 0.99),
                "figure",
                bad_from=10,
            ),
            Panel(
                "Headroom",
                "Time until the first unread readings are deleted if nothing more is read.",
                "s",
                [Query("min(stepstream_retention_headroom_seconds@)", "")],
                "figure",
                good_from=3600,
            ),
            Panel(
                "Starts in the last hour",
                "Of the consumer that started most often, without its first start.",
                "short",
                [
                    Query(
                        "max(changes(process_start_time_seconds@[1h]) and on (job, instance) stepstream_build_info@)",
                        "",
                    )
                ],
                "figure",
                bad_from=3,
            ),
            Panel(
                "Loop",
                "Time since the last turn of the slowest loop; a loop turns many times a second.",
                "s",
                [Query("max(stepstream_last_turn_age_seconds@)", "")],
                "figure",
                bad_from=60,
            ),
        ],
        [
            Panel(
                "Partitions",
                "All should run. `restoring` reads step counts, `replaying` rebuilds windows from the last seconds of readings; both take seconds.",
                "short",
                [Query("sum by (phase) (stepstream_partitions@)", "{{phase}}")],
                "stacked",
            ),
            Panel(
                "Partitions of each consumer",
                "The numbers should differ by one at most.",
                "short",
                [Query("sum by (instance) (stepstream_partitions@)")],
                "stacked",
            ),
            Panel(
                "Memory",
                "Resident memory, and the limit of the container.",
                "bytes",
                [
                    Query(
                        "process_resident_memory_bytes@ and on (job, instance) stepstream_build_info@"
                    ),
                    Query("min(stepstream_memory_limit_bytes@)", "limit"),
                ],
            ),
            Panel(
                "CPU",
                "In cores. The loop uses one at most; the threads of the Kafka client and of the model are added to it.",
                "short",
                [
                    Query(
                        "rate(process_cpu_seconds_total@@) and on (job, instance) stepstream_build_info@"
                    )
                ],
            ),
        ],
        [
            Panel(
                "Rebalances",
                "Assignments, revocations and losses of partitions. `lost` means that the group has removed a consumer.",
                "short",
                [Query("sum by (kind) (increase(stepstream_rebalances_total@@))", "{{kind}}")],
            ),
            Panel(
                "Starts of partitions",
                "Age of the oldest start that is not complete, and 90th percentile of all starts since their consumer started.",
                "s",
                [
                    Query("max(stepstream_partition_starting_seconds@)", "under way"),
                    Query(
                        "histogram_quantile(0.9, sum by (le) (stepstream_partition_start_seconds_bucket@))",
                        "p90",
                    ),
                ],
            ),
            Panel(
                "Left to restore",
                "What partitions still have to read before they run: step counts, and readings of the last seconds.",
                "short",
                [
                    Query("sum(stepstream_ledger_remaining_offsets@)", "ledger"),
                    Query("sum(stepstream_replay_remaining_messages@)", "replay"),
                    Query(_rate("stepstream_replayed_messages_total"), "replayed/s"),
                ],
            ),
            Panel(
                "Workers",
                "With `--workers`: workers by what their parent knows of them, and their restarts. Those that were given up start again with their parent only.",
                "short",
                [
                    Query("sum by (state) (stepstream_workers@)", "{{state}}"),
                    Query("sum(increase(stepstream_worker_restarts_total@@))", "restarts"),
                ],
            ),
            Panel(
                "Running",
                "Consumers by version and model; more than one of each only during an upgrade.",
                "short",
                [
                    Query("count by (version) (stepstream_build_info@)", "{{version}}"),
                    Query("count by (model) (stepstream_model_info@)", "{{model}}"),
                ],
            ),
        ],
    ],
    "Is it keeping up?": [
        [
            Panel(
                "Lag in time",
                "How far behind each partition is; 0 if nothing waits. If it grows, there are too few consumers, or one makes no progress.",
                "s",
                [Query("stepstream_lag_seconds@", "{{topic}} {{partition}}")],
            ),
            Panel(
                "Lag in messages",
                "Messages that wait, by partition.",
                "short",
                [Query("stepstream_lag_messages@", "{{topic}} {{partition}}")],
            ),
            Panel(
                "Retention headroom",
                "Time until readings of each partition may be deleted unread if nothing more is read: what the topic's retention leaves after the lag.",
                "s",
                [Query("stepstream_retention_headroom_seconds@", "{{topic}} {{partition}}")],
            ),
            Panel(
                "Throughput",
                "Readings and messages that are processed, events, and minutes and walks.",
                "cps",
                [
                    Query(_rate("stepstream_messages_total"), "messages"),
                    Query(_rate("stepstream_readings_total"), "readings"),
                    Query(_rate("stepstream_events_total"), "steps"),
                    Query(
                        "sum by (kind) (rate(stepstream_summaries_total@@))",
                        "{{kind}}s",
                    ),
                ],
            ),
        ],
        [
            Panel(
                "Busy",
                "Share of the time for which the loop is busy. Near 100 % a consumer is at its limit: add one, if there are enough partitions.",
                "percentunit",
                [Query("rate(stepstream_processing_seconds_total@@)")],
            ),
            Panel(
                "Devices",
                "Devices with a window, and devices with a step count.",
                "short",
                [
                    Query("sum(stepstream_devices@)", "live"),
                    Query("sum(stepstream_ledger_devices@)", "counted"),
                ],
            ),
            Panel(
                "Outbox",
                "Records that wait to be published. When the outbox is full, reading pauses: the brokers accept records too slowly.",
                "short",
                [
                    Query("stepstream_outbox_records@"),
                    Query("sum(stepstream_reading_paused@)", "consumers that pause"),
                ],
            ),
            Panel(
                "Outbox, bytes",
                "Bytes of these records; the outbox is full by records or by bytes.",
                "bytes",
                [Query("stepstream_outbox_bytes@")],
            ),
            Panel(
                "Not committed",
                "Time for which the oldest results wait to be committed; below a second at most times.",
                "s",
                [Query("max(stepstream_uncommitted_seconds@)", "oldest results")],
            ),
        ],
    ],
    "What is slow?": [
        [
            Panel(
                "Lateness of events",
                "From the record time of the message that completed a step to the commit of its event.",
                "s",
                _quantiles("stepstream_event_lateness_seconds", 0.5, 0.99, 0.999),
            ),
            Panel(
                "From broker to commit",
                "From a message's record time to its commit.",
                "s",
                _quantiles("stepstream_end_to_end_broker_seconds", 0.5, 0.95, 0.99),
            ),
            Panel(
                "From reading to commit",
                "By the devices' clocks, so upload delays and clock errors are included.",
                "s",
                _quantiles("stepstream_end_to_end_reading_seconds", 0.5, 0.95, 0.99),
            ),
            Panel(
                "Time by part of the work",
                "Cores that each part uses; look at the largest first.",
                "percentunit",
                [Query("sum by (stage) (rate(stepstream_stage_seconds_total@@))", "{{stage}}")],
                "stacked",
            ),
        ],
        [
            Panel(
                "Inference",
                "A run of the model over the windows that are due together.",
                "s",
                [
                    Query(
                        f"{_rate('stepstream_inference_seconds_sum')} / {_rate('stepstream_inference_seconds_count')}",
                        "average",
                    ),
                    *_quantiles("stepstream_inference_seconds", 0.95),
                ],
            ),
            Panel(
                "Batches",
                "Messages of a poll, and windows of a run of the model. Large batches mean that there was a backlog.",
                "short",
                [
                    Query(
                        f"histogram_quantile(0.95, sum by (le) (rate(stepstream_batch_{what}_bucket@@)))",
                        f"{what} p95",
                    )
                    for what in ("messages", "windows")
                ],
            ),
            Panel(
                "Polls and windows",
                "Polls that consumed messages; windows that new devices, idle devices and gaps opened.",
                "cps",
                [
                    Query(_rate("stepstream_polls_total"), "polls"),
                    Query(_rate("stepstream_windows_opened_total"), "windows opened"),
                ],
            ),
            Panel(
                "Commits",
                "Time of a commit; most of it is the brokers' time.",
                "s",
                _quantiles("stepstream_commit_seconds", 0.5, 0.99),
            ),
            Panel(
                "Round trip to brokers",
                "99th percentile at the slowest broker, and the time for which brokers throttled requests. For the consumer it includes the time that the broker waits for messages.",
                "s",
                [
                    Query("max by (client) (stepstream_kafka_round_trip_seconds@)", "{{client}}"),
                    Query(
                        "max by (client) (stepstream_kafka_throttle_seconds@)",
                        "{{client}} throttled",
                    ),
                ],
            ),
        ],
    ],
    "What is being rejected?": [
        [
            Panel(
                "Dead letters",
                "By error code; empty while there are none. The headers of the dead letters say more: docs/dead-letters.md.",
                "cps",
                [
                    Query(
                        "sum by (error) (rate(stepstream_dead_letters_total@@)) > 0",
                        "{{error}}",
                    )
                ],
                "stacked",
            ),
            Panel(
                "Share of dead letters",
                "Of all messages.",
                "percentunit",
                [
                    Query(
                        f"{_rate('stepstream_dead_letters_total')} / {_rate('stepstream_messages_total')}",
                        "dead letters",
                    )
                ],
            ),
            Panel(
                "Late readings and gaps",
                "Late readings, which are dropped, samples of gyroscopes that come too late to be joined, "
                "gaps in devices' readings, bridged or not, and devices in two partitions of a topic.",
                "cps",
                [
                    Query(_rate("stepstream_late_readings_total"), "late"),
                    Query(_rate("stepstream_late_gyroscope_samples_total"), "late gyroscope"),
                    Query(_rate("stepstream_gaps_total"), "gaps"),
                    Query(_rate("stepstream_bridged_gaps_total"), "bridged gaps"),
                    Query(_rate("stepstream_devices_in_two_partitions_total"), "in two partitions"),
                ],
            ),
            Panel(
                "Topics",
                "Topics that are read, those that match a pattern and can't be read, and those whose readings look wrong. The log and the live page say more.",
                "short",
                [
                    Query("max by (state) (stepstream_topics@)", "{{state}}"),
                    Query("sum by (doubt) (stepstream_doubtful_topics@)", "{{doubt}}"),
                ],
            ),
        ],
        [
            Panel(
                "Schema registry",
                "Partitions that wait for it, and its answers; only formats with schemas need it.",
                "short",
                [
                    Query("sum(stepstream_registry_waiting_partitions@)", "waiting partitions"),
                    Query(
                        "sum by (outcome) (rate(stepstream_registry_requests_total@@))",
                        "{{outcome}}/s",
                    ),
                ],
            ),
            Panel(
                "Aborted commits",
                "They are repeated, so nothing is lost. A few during a rebalance are normal.",
                "cps",
                [
                    Query(_rate("stepstream_commit_aborts_total"), "aborted"),
                    Query(_rate("stepstream_commits_total"), "succeeded"),
                ],
            ),
            Panel(
                "Errors of the Kafka client",
                "Requests that failed or timed out, and connections that ended.",
                "cps",
                [
                    Query(
                        "sum by (client) (rate(stepstream_kafka_request_errors_total@@))",
                        "{{client}} errors",
                    ),
                    Query(
                        "sum by (client) (rate(stepstream_kafka_disconnects_total@@))",
                        "{{client}} disconnects",
                    ),
                ],
            ),
            Panel(
                "Connections",
                "Open connections to brokers.",
                "short",
                [Query("sum by (client) (stepstream_kafka_connections@)", "{{client}}")],
            ),
            Panel(
                "Traffic",
                "Between the consumers and the brokers.",
                "Bps",
                [
                    Query(_rate("stepstream_kafka_received_bytes_total"), "received"),
                    Query(_rate("stepstream_kafka_sent_bytes_total"), "sent"),
                ],
            ),
        ],
    ],
    "HTTP": [
        [
            Panel(
                "HTTP requests",
                "Answers of the consumers' own server, by route and status.",
                "reqps",
                [
                    Query(
                        "sum by (route, status) (rate(stepstream_http_requests_total@@))",
                        "{{route}} {{status}}",
                    )
                ],
            ),
            Panel(
                "HTTP refusals",
                "Requests and connections that were refused. `token` and `host`: somebody has no access. The others: the server is overloaded, or a client is wrong or slow.",
                "cps",
                [
                    Query(
                        "sum by (reason) (rate(stepstream_http_refusals_total@@))",
                        "{{reason}}",
                    )
                ],
            ),
            Panel(
                "HTTP time",
                "How long answers take, 95th percentile; without streams.",
                "s",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le, route) (rate(stepstream_http_request_seconds_bucket@@)))",
                        "{{route}}",
                    )
                ],
            ),
            Panel(
                "HTTP connections",
                "Open connections, streams to pages, and requests to `/v1/detect` that are computed or wait.",
                "short",
                [
                    Query("sum(stepstream_http_connections@)", "connections"),
                    Query("sum(stepstream_http_streams@)", "streams"),
                    Query("sum(stepstream_detect_requests@)", "detect"),
                ],
            ),
        ],
    ],
}
"""Title of a row: lines of panels."""


def dashboard_json() -> str:
    """The dashboard as Grafana imports it."""
    made = (
        builder.Dashboard("stepstream")
        .uid("stepstream")
        .description("Footstep events from sensor readings: health, lag, latency, rejected messages")
        .tags(["stepstream", "kafka"])
        .editable()
        .timezone("browser")
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(builder.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )  # fmt: skip
    chosen: list[str] = []
    for name, label in SELECTIONS.items():
        query = f"label_values(stepstream_build_info{{{', '.join(chosen)}}}, {name})"
        made.with_variable(_selection(name, label, query))
        chosen.append(f'{name}=~"${name}"')
    number = 0
    for title, lines in ROWS.items():
        number += 1
        made.with_row(builder.Row(title).id(number))
        for line in lines:
            height = 4 if line[0].kind == "figure" else 7
            for panel in line:
                number += 1
                made.with_panel(_drawn(panel).id(number).height(height).span(WIDTH // len(line)))
    return json.dumps(made.build(), cls=JSONEncoder, sort_keys=True, indent=2) + "\n"


def _selection(name: str, label: str, query: str) -> builder.QueryVariable:
    return (
        builder.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def _drawn(panel: Panel) -> Stat | TimeSeries:
    drawn = _figure(panel) if panel.kind == "figure" else _lines(panel)
    drawn.title(panel.title).description(panel.text).unit(panel.unit).datasource(DATASOURCE)
    for number, query in enumerate(panel.queries):
        target = Dataquery().expr(query.text).legend_format(query.legend or "__auto")
        drawn.with_target(target.ref_id(chr(ord("A") + number)))
    return drawn


def _lines(panel: Panel) -> TimeSeries:
    lines = (
        TimeSeries()
        .min(0)
        .line_width(1)
        .fill_opacity(30 if panel.kind == "stacked" else 0)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builder.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if panel.kind == "stacked":
        lines.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    return lines


def _figure(panel: Panel) -> Stat:
    below, above = ("green", "red") if panel.good_from is None else ("red", "green")
    bound = panel.bad_from if panel.good_from is None else panel.good_from
    steps = [model.Threshold(color=below), model.Threshold(value=bound, color=above)]
    return (
        Stat()
        .thresholds(builder.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
    )


if __name__ == "__main__":
    sys.stdout.write(dashboard_json())
