"""Requests a second and their latency over HTTP: ``stepstream serve`` beside FastAPI with Keras.

Each has one core; the generator, wrk, has the other. Rounds alternate. A request has readings of
1.6 s of a walker, 128 of them, as one message.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.harness import RATE_HZ, ROOT, Process, add_results, save, spread
from benchmarks.systems import PEERS, peer_python
from stepstream.detection import Model, default_model_path, detect_series
from stepstream.inputs.columns import FIELDS
from stepstream.simulation.walkers import Walker
from tests.kafka.broker import free_port
from tests.kafka.builders import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READINGS = 128
BODIES = 64
"""Different requests, of as many walkers."""
BEGIN_S = 20.0
"""By then walkers walk."""
SERVER_CORE, GENERATOR_CORE = "0", "1"
CONNECTIONS = (1, 64)
WARM_S = 2
START_TIMEOUT_S = 120.0
EPOCH_S = 1_700_000_000
SCRIPT = """
local bodies = {}
local number = 0
function init(arguments)
  for n = 1, %d do
    local file = io.open(string.format("%%s/%%d.json", arguments[1], n), "rb")
    bodies[n] = file:read("*a")
    file:close()
  end
end
function request()
  number = number %% #bodies + 1
  return wrk.format("POST", "/v1/detect", {["content-type"] = "application/json"}, bodies[number])
end
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    "{\\"answered\\": %%d, \\"s\\": %%.6f, \\"refused\\": %%d, \\"broken\\": %%d, " ..
    "\\"p50_ms\\": %%.3f, \\"p99_ms\\": %%.3f, \\"max_ms\\": %%.3f}",
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
"""


class Server(NamedTuple):
    """A server under measurement."""

    name: str
    command: Callable[[int], list[str]]
    is_ours: bool = False


SERVERS = (
    Server(
        "stepstream serve",
        lambda port: [
            sys.executable, "-m", "stepstream", "serve",
            "--http.address", "127.0.0.1", "--http.port", str(port),
        ],
        is_ours=True,
    ),
    Server(
        "FastAPI, one Keras call a request",
        lambda _: [peer_python("fastapi_keras"), str(PEERS / "fastapi_keras" / "app.py")],
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--only", nargs="*", help="names of servers")
    add_results(parser)
    options = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    servers = [one for one in SERVERS if not options.only or one.name in options.only]
    for server in servers:
        server.command(0)
    measured: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        bodies = write_bodies(folder)
        for number in range(1, options.rounds + 1):
            for server in servers:
                with started(server) as (port, process):
                    if server.is_ours:
                        check_answers(port, bodies)
                    for connections in CONNECTIONS:
                        load(wrk, folder, port, connections, WARM_S)
                        before_s = process.cpu_s
                        found = load(wrk, folder, port, connections, options.seconds)
                        found["cpu_ms"] = (process.cpu_s - before_s) * 1e3 / found["answered"]
                        found["mib"] = process.resident_mib
                        measured[server.name][str(connections)].append(found)
                        show(f"round {number}  {server.name}", connections, found)
    table = {
        name: {connections: figures(runs) for connections, runs in by_connections.items()}
        for name, by_connections in measured.items()
    }
    for name, rows in table.items():
        for number_of, row in rows.items():
            show(name, int(number_of), {key: value["median"] for key, value in row.items()})
    origin = f"{BODIES} simulated walkers, {READINGS} readings of each"
    save("serving", {"input": origin, "servers": table}, options.results)


def request_bodies() -> list[bytes]:
    """Requests of as many walkers, each a message in JSON."""
    bodies = []
    begin = round(BEGIN_S * RATE_HZ)
    rows = slice(begin, begin + READINGS)
    for number in range(1, BODIES + 1):
        time_s, axes = Walker(number, float(RATE_HZ)).read(BEGIN_S + READINGS / RATE_HZ + 1)
        columns = [(EPOCH_S + time_s[rows]).round(6), *axes[rows].astype(float).round(6).T]
        named = {name: values.tolist() for name, values in zip(FIELDS, columns, strict=True)}
        bodies.append(json.dumps(named).encode())
    return bodies


def write_bodies(folder: Path) -> list[bytes]:
    """Write what is sent, and the script that sends it."""
    bodies = request_bodies()
    for number, body in enumerate(bodies, 1):
        (folder / f"{number}.json").write_bytes(body)
    (folder / "requests.lua").write_text(SCRIPT % BODIES)
    print(f"{len(bodies)} bodies of {statistics.mean(map(len, bodies)):,.0f} bytes", flush=True)
    return bodies


@contextmanager
def started(server: Server) -> Iterator[tuple[int, Process]]:
    """A server that runs on its core until the end of the block, and its port."""
    port = free_port()
    command = ["taskset", "-c", SERVER_CORE, *server.command(port)]
    with Process(command, {"BENCH_PORT": str(port), "PYTHONPATH": str(ROOT)}) as process:

        def is_ready() -> bool:
            process.check()
            try:
                return bool(fetch(port, "/readyz"))
            except OSError:
                return False

        wait_until("a server", is_ready, START_TIMEOUT_S)
        yield port, process
        process.end()


def fetch(port: int, path: str, body: bytes | None = None) -> bytes:
    """What a server answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own address
        content: bytes = answer.read()
        return content


def check_answers(port: int, bodies: list[bytes]) -> None:
    """Check that a server finds the steps that the detector finds."""
    model, count = Model(default_model_path()), 0
    for body in bodies:
        columns = [np.array(json.loads(body)[name]) for name in FIELDS]
        time_us = np.rint(columns[0] * 1e6).astype(np.int64)
        axes = np.stack(columns[1:], axis=1).astype(np.float32)
        expected = (detect_series(model, time_us, axes).end_us / 1e6).tolist()
        found = [step["ended_at"] for step in json.loads(fetch(port, "/v1/detect", body))["steps"]]
        if found != expected:
            raise RuntimeError(f"steps end at {found}, {expected} expected")
        count += len(found)
    print(f"checked: {count} steps in {len(bodies)} requests", flush=True)


def load(wrk: str, folder: Path, port: int, connections: int, seconds: int) -> dict[str, Any]:
    """Send requests over so many connections, each when the one before is answered."""
    command = [
        "taskset", "-c", GENERATOR_CORE, wrk, "-t1", f"-c{connections}", f"-d{seconds}s",
        "--timeout", "20s", "-s", str(folder / "requests.lua"), f"http://127.0.0.1:{port}",
        "--", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["per_s"] = (found["answered"] - found["refused"]) / found["s"]
    return found


def figures(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median and range of each figure."""
    return {key: spread([run[key] for run in runs]) for key in runs[0]}


def show(name: str, connections: int, found: dict[str, float]) -> None:
    """Print a row."""
    print(
        f"{name:<45} {connections:>3} connections {found['per_s']:>7,.0f}/s  "
        f"p50 {found['p50_ms']:.2f} ms  p99 {found['p99_ms']:.1f} ms  "
        f"{found['cpu_ms']:.2f} CPU-ms  {found['mib']:.0f} MiB  refused {found['refused']:.0f}  "
        f"broken {found['broken']:.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
