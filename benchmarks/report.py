"""Puts the results of the benchmarks into pages of the docs, and draws them.

Each part of a page between ``<!-- name -->`` and ``<!-- /name -->`` is replaced by text made from
``benchmarks/results/name.json``. The rest of the page is not changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from benchmarks.harness import RESULTS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

PAGES = tuple(ROOT / "docs" / name for name in ("benchmarks.md", "capacity.md", "backfill.md"))
IMAGES = ROOT / "docs/images"
INK, FAINT = "#1d2733", "#8a97a6"
COLOURS = ("#2b6cb0", "#b7791f", "#2f855a", "#c53030", "#6b46c1", "#319795", "#97266d", "#4a5568")
BUSY = 4.0
"""A larger load average than that of a broker, a consumer and their senders."""
Results = dict[str, Any]


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    pages = {path: path.read_text(encoding="utf-8") for path in PAGES}
    for name, write in PARTS.items():
        source = RESULTS / f"{name}.json"
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if source.exists():
            results = json.loads(source.read_text(encoding="utf-8"))
            path = next(path for path, page in pages.items() if begin in page and end in page)
            before, _, rest = pages[path].partition(begin)
            after = rest.partition(end)[2]
            body = f"\n{write(results)}\n\n{conditions(results)}\n\n"
            pages[path] = f"{before}{begin}{body}{end}{after}"
    for path, page in pages.items():
        path.write_text(page, encoding="utf-8")


def conditions(results: Results) -> str:
    """The command and the machine."""
    at = results["machine"]
    busy = float(at["load"].split()[0]) > BUSY
    preliminary = "**Preliminary: the machine was busy with other work.** " if busy else ""
    command = f"{preliminary}`{results['command']}`"
    decoder = f", JSON decoder: {at['decoder']}" if "decoder" in at else ""
    return (
        f"{command} on {at['taken']}; input: {results['input']}; {at['cpu']}, "
        f"{at['memory']}, load average {at['load']}; Python {at['python']}, Java {at['java']}, "
        f"Apache Kafka {at['kafka']}, confluent-kafka {at['confluent-kafka']}, LiteRT "
        f"{at['ai-edge-litert']}, NumPy {at['numpy']}{decoder}."
    )


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: dict[str, float], digits: int = 0) -> str:
    """A median and its spread."""
    low, high = f"{value['min']:,.{digits}f}", f"{value['max']:,.{digits}f}"
    return f"{value['median']:,.{digits}f} ({low} to {high})"


def throughput(results: Results) -> str:
    """The product compared with the bare loop, and for several batch sizes and rates."""
    rows = []
    for batch, row in results["table"].items():
        kind = "single readings" if batch == "1" else f"{batch} readings a message"
        rows.append(
            (
                f"{kind}, {row['messages']:,} messages",
                figure(row["bare loop"]["per_cpu_s"]),
                figure(row["stepstream"]["per_cpu_s"]),
                figure(row["ratio"], 2),
                f"{row['stepstream']['peak_mib']['median']:.0f} MiB",
            )
        )
    drawn = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = drawn.subplots(1, 2)
    for axes, key, label in (
        (left, "batches", "readings a message"),
        (right, "rates", "readings a second of each of 1,000 devices"),
    ):
        points = [(float(x), y) for x, y in results[key].items()]
        axes.semilogx(*zip(*points, strict=True), "o-", color=COLOURS[0])
        axes.set_xticks([x for x, _ in points], [f"{x:g}" for x, _ in points])
        axes.set_xlabel(label, color=INK)
        axes.minorticks_off()
        tidy(axes, "readings per CPU-second")
    save(drawn, "bench-throughput.png")
    header = ("", "bare loop, readings per CPU-second", "stepstream", "ratio", "peak memory")
    return (
        f"{table(header, rows)}\n\n![Throughput over batch size and rate]"
        "(images/bench-throughput.png)"
    )


def peers(results: Results) -> str:
    """The product and its peers."""
    systems: dict[str, Any] = results["systems"]
    own = systems["stepstream"]["per_cpu_s"]["median"]
    rows, bars = [], []
    for name, row in systems.items():
        kinds = {
            "cold_per_cpu_s": ", first million",
            "warm_per_cpu_s": ", warm: last million",
            "per_cpu_s": ", all" if "warm_per_cpu_s" in row else "",
        }
        for key, kind in ((key, kind) for key, kind in kinds.items() if key in row):
            rate = row[key]
            bars.append((name + kind, rate))
            ratio = "" if name == "stepstream" else f"{own / rate['median']:.2f} x"
            peak = f"{row['peak_mib']['median']:.0f} MiB"
            rows.append(
                (name + kind, row["guarantee"], f"{row['readings']:,}", figure(rate), ratio, peak)
            )
    drawn = Figure(figsize=(10, 0.42 * len(bars) + 0.9), layout="constrained")
    axes = drawn.subplots()
    names = [name for name, _ in reversed(bars)]
    medians = [rate["median"] for _, rate in reversed(bars)]
    errors = [
        [rate["median"] - rate["min"] for _, rate in reversed(bars)],
        [rate["max"] - rate["median"] for _, rate in reversed(bars)],
    ]
    colours = [COLOURS[0] if name == "stepstream" else FAINT for name in names]
    axes.barh(names, medians, xerr=errors, color=colours, ecolor=INK)
    axes.set_xscale("log")
    axes.set_xlabel("readings per CPU-second", color=INK)
    tidy(axes, "")
    save(drawn, "bench-peers.png")
    header = (
        "", "delivery, commits", "readings", "readings per CPU-second",
        "stepstream, in multiples of it", "peak memory",
    )  # fmt: skip
    failed = "".join(f"\n\n{name} failed: {why}." for name, why in results["failed"].items())
    picture = "![stepstream and its peers](images/bench-peers.png)"
    return f"{table(header, rows)}{failed}\n\n{picture}"


def latency(results: Results) -> str:
    """Time until a subscriber has an event."""
    rows = []
    drawn = Figure(figsize=(10, 3.8), layout="constrained")
    rates = [rate for rate in results["rates"] if rate != "80"]
    for axes, rate in zip(drawn.subplots(1, len(rates), squeeze=False)[0], rates, strict=True):
        for number, (name, row) in enumerate(results["rates"][rate].items()):
            axes.semilogy(
                *zip(*row["curve"], strict=True), color=COLOURS[number % len(COLOURS)], label=name
            )
        axes.set_xticks(range(5), ["0", "90", "99", "99.9", "99.99"])
        axes.set_xlabel(f"percentile, at {int(rate):,} readings/s", color=INK)
        tidy(axes, "ms from arrival to subscriber")
        axes.legend(fontsize=8, frameon=False)
    save(drawn, "bench-latency.png")
    for rate, systems in results["rates"].items():
        for name, row in systems.items():
            at, plan = row["arrival_ms"], row["plan_ms"]
            what = "one device, 80" if rate == "80" else f"{int(rate):,}"
            rows.append(
                (
                    f"{what} readings/s",
                    name,
                    f"{row['events']:,}",
                    *(f"{at[key]:.0f}" for key in ("p50", "p90", "p99", "p99.9", "max")),
                    f"{plan['p50']:.0f} / {plan['p99']:.0f}",
                    f"{row['resident_mib']:.0f} MiB",
                )
            )
    header = (
        "", "", "events", "p50", "p90", "p99", "p99.9", "largest", "p50 / p99 from the plan",
        "memory",
    )  # fmt: skip
    return f"{table(header, rows)}\n\n![Latency by percentile](images/bench-latency.png)"


def scaling(results: Results) -> str:
    """Devices and consumers."""
    points = [
        (int(n), row["us_a_reading"], row["resident_mib"]) for n, row in results["devices"].items()
    ]
    rows = [(f"{n:,}", figure(us, 2), figure(mib)) for n, us, mib in points]
    few, many = points[0], points[-1]
    cost = many[1]["median"] / few[1]["median"] - 1
    above = [point for point in points if point[0] >= 1_000]
    kib = (above[-1][2]["median"] - above[0][2]["median"]) / (above[-1][0] - above[0][0]) * 1024
    drawn = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = drawn.subplots(1, 2)
    costs = [us["median"] for _, us, _ in points]
    memory = [mib["median"] for _, _, mib in points]
    for axes, values, label in ((left, costs, "CPU us a reading"), (right, memory, "resident MiB")):
        axes.semilogx([n for n, _, _ in points], values, "o-", color=COLOURS[0])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("devices", color=INK)
        tidy(axes, label)
    save(drawn, "bench-devices.png")
    consumers = results["consumers"]
    speed = consumers["2"]["per_s"]["median"] / consumers["1"]["per_s"]["median"]
    loss = consumers["2"]["per_cpu_s"]["median"] / consumers["1"]["per_cpu_s"]["median"]
    compared = ""
    if "2 workers" in consumers:
        workers = consumers["2 workers"]["per_s"]["median"] / consumers["2"]["per_s"]["median"]
        compared = (
            f" `run --workers 2` processes {workers:.2f} times as many a second as two processes."
        )
    more = [
        (count, figure(row["per_s"]), figure(row["per_cpu_s"])) for count, row in consumers.items()
    ]
    return "\n\n".join(
        [
            table(("devices", "CPU us a reading", "resident MiB"), rows),
            (
                f"From {few[0]:,} to {many[0]:,} devices the cost of a reading changes by "
                f"{cost:+.0%}; each device beyond {above[0][0]:,} needs {kib:.1f} KiB."
            ),
            "![Cost and memory over devices](images/bench-devices.png)",
            table(("consumers", "readings/s", "readings per CPU-second, both together"), more),
            (
                f"Two consumers process {speed:.2f} times as many readings a second as one, at "
                f"{loss:.2f} times its readings per CPU-second.{compared}"
            ),
        ]
    )


def loads(results: Results) -> str:
    """Low load, start, overload."""
    over = results["overload"]
    samples = over["samples"]
    drawn = Figure(figsize=(10, 4.6), layout="constrained")
    upper, lower = drawn.subplots(2, 1, sharex=True)
    time_s = [sample[0] for sample in samples]
    for column, name, colour in ((1, "sent", COLOURS[1]), (2, "processed", COLOURS[0])):
        step = 6
        pairs = list(zip(samples[:-step], samples[step:], strict=True))
        rate = [(b[column] - a[column]) / (b[0] - a[0]) for a, b in pairs]
        upper.plot([b[0] for _, b in pairs], rate, color=colour, label=name)
    upper.legend(fontsize=8, frameon=False)
    tidy(upper, "readings/s")
    lower.plot(time_s, [s[1] - s[2] for s in samples], color=COLOURS[3])
    tidy(lower, "readings behind")
    memory = lower.twinx()
    memory.plot(time_s, [s[3] for s in samples], color=COLOURS[2])
    memory.set_ylabel("resident MiB", color=COLOURS[2], fontsize=9)
    memory.set_ylim(bottom=0)
    lower.set_xlabel("seconds", color=INK)
    save(drawn, "bench-overload.png")
    begin_s, end_s = over["overload_s"]
    rows = [
        ("idle", f"{results['idle']['nothing']:.2%} of a core"),
        ("one device, 80 readings/s", f"{results['idle']['one device']:.2%} of a core"),
        ("start to first event, new group", f"{figure(results['first_event_s'], 2)} s"),
        (
            f"sent for {end_s - begin_s:.0f} s",
            (
                f"{over['sent_per_s']:,.0f} readings/s, "
                f"{over['sent_per_s'] / over['taken_per_s']:.0%} of what was processed"
            ),
        ),
        (
            "processed, first and last third of that time",
            (
                f"{over['taken_per_s_first_third']:,.0f} and {over['taken_per_s_last_third']:,.0f} "
                f"readings/s; with a backlog only {over['backlog_per_s']:,.0f}"
            ),
        ),
        ("largest lag", f"{over['lag_at_end']:,.0f} readings"),
        ("lag processed", f"{over['recovered_s'] - end_s:.0f} s after the overload ended"),
        ("peak memory", f"{over['peak_mib']:.0f} MiB"),
    ]
    return f"{table(('', ''), rows)}\n\n![Overload and recovery](images/bench-overload.png)"


def growth(results: Results) -> str:
    """The figures of the capacity model, and the measurements that it uses."""
    calibrated, real = results["calibrated_us"], results["real"]
    compared = [
        (
            f"{batch} a message",
            f"{calibrated[batch]:.2f}",
            f"{row['us_a_reading']:.2f}",
            f"{row['broker_write_us']:.2f}",
            f"{row['broker_read_us']:.2f}",
        )
        for batch, row in real.items()
    ]
    spread_out = [
        (count, f"{row['us_a_reading']:.2f}", f"{row['broker_read_us']:.2f}",
         f"{row['resident_mib']:.0f} MiB")
        for count, row in results["partitions"].items()
    ]  # fmt: skip
    fleets = [
        (
            f"{int(devices):,}",
            batch,
            f"{need['readings_per_s']:,.0f}",
            f"{need['consumers']:,}",
            f"{need['partitions']:,}",
            f"{need['memory_mib']:,.0f} MiB",
            f"{need['events_per_s']:,.0f}",
            f"{need['written_mib_s']:,.1f}",
            f"{need['brokers']:,}",
        )
        for batch, by_devices in results["needs"].items()
        for devices, need in by_devices.items()
    ]
    own = (
        "CPU us a reading", "calibration", "consumer on a real broker, exactly-once",
        "broker: receiving it", "broker: sending it",
    )  # fmt: skip
    needed = (
        "devices at 80 Hz", "readings a message", "readings/s", "consumers", "partitions",
        "memory of each", "events/s", "MiB/s written, 3 copies", "brokers",
    )  # fmt: skip
    return "\n\n".join(
        (
            table(own, compared),
            table(("partitions", "CPU us a reading", "broker", "resident"), spread_out),
            table(needed, fleets),
        )
    )


def backfill(results: Results) -> str:
    """A backfill beside `run`, and what interruptions change."""
    rows = [
        (f"`{name} --workers {results['workers']}`", figure(results[name]))
        for name in ("run", "backfill")
    ]
    return (
        f"{table(('', 'readings/s'), rows)}\n\n"
        f"A backfill of {results['readings']:,} readings of {results['devices']:,} devices reads "
        f"{figure(results['ratio'], 2)} times as many a second as `run` on the same backlog, with "
        "the same model, from the first commit to the last. Another backfill by the int8 model was "
        f"killed {results['kills']} times with SIGKILL (a worker, then twice all processes) and "
        f"gave the same {results['events']:,} events as one that wasn't, each once."
    )


def tidy(axes: Axes, label: str) -> None:
    """Style of all plots."""
    axes.set_ylabel(label, color=INK, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT, labelsize=8)
    axes.grid(axis="both", color="#e3e8ee", linewidth=0.6)
    axes.set_axisbelow(True)


def save(drawn: Figure, name: str) -> None:
    """Write a picture, the same for the same results."""
    drawn.savefig(Path(IMAGES) / name, dpi=90, metadata={"Software": None})


def forms(results: Results) -> str:
    """Other forms of messages, beside the plain ones."""
    return table(
        ("messages", "readings in one", "readings per CPU-second", "in parts of the plain form"),
        [
            (name, str(form["batch"]), figure(form["per_cpu_s"]), figure(form["ratio"], 2))
            for name, form in results["forms"].items()
        ],
    )


def binary_forms(results: Results) -> str:
    """Avro and Protobuf, beside plain JSON."""
    return table(
        (
            f"{results['batch']} readings a message",
            "readings per CPU-second",
            "in parts of plain JSON",
        ),
        [
            (name, figure(form["per_cpu_s"]), figure(form["ratio"], 2))
            for name, form in results["table"].items()
        ],
    )


def serving(results: Results) -> str:
    """Requests over HTTP."""
    rows = [
        (
            name,
            connections,
            figure(row["per_s"]),
            figure(row["p50_ms"], 2),
            figure(row["p99_ms"], 1),
            figure(row["cpu_ms"], 2),
            f"{row['mib']['max']:.0f} MiB",
            f"{row['refused']['max']:.0f}",
        )
        for name, by_connections in results["servers"].items()
        for connections, row in by_connections.items()
    ]
    return table(
        (
            "server, on one core", "connections", "answered a second", "p50, ms", "p99, ms",
            "CPU-ms a request", "memory", "refused",
        ),
        rows,
    )  # fmt: skip


PARTS: dict[str, Callable[[Results], str]] = {
    "throughput": throughput,
    "forms": forms,
    "binary_forms": binary_forms,
    "peers": peers,
    "latency": latency,
    "scaling": scaling,
    "loads": loads,
    "growth": growth,
    "backfill": backfill,
    "serving": serving,
}

if __name__ == "__main__":
    main()
