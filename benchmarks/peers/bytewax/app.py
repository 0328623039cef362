"""The job in Bytewax: a keyed `stateful_flat_map`, state and offsets in its recovery store."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from job import HOP, WINDOW, is_step, magnitude

Message = KafkaSourceMessage[bytes, bytes]
State = tuple[int, list[float]]


def keyed(message: Message) -> tuple[str, Message]:
    return message.key.decode(), message


def count(state: State | None, message: Message) -> tuple[State, list[KafkaSinkMessage]]:
    number, window = state or (0, [])
    reading = orjson.loads(message.value)
    number += 1
    window.append(magnitude(reading))
    del window[:-WINDOW]
    found = []
    if number % HOP == 0 and len(window) == WINDOW and is_step(window):
        event = {
            "event_id": f"{message.topic}-{message.partition}-{message.offset}-0",
            "device_id": reading["device_id"],
            "ended_at": reading["timestamp"],
        }
        found.append(KafkaSinkMessage(message.key, orjson.dumps(event)))
    return (number, window), found


def dataflow() -> Dataflow:
    brokers = [os.environ["BENCH_BOOTSTRAP"]]
    tail = not os.environ["BENCH_STOP_AT_END"]
    flow = Dataflow("steps")
    readings = op.input(
        "readings", flow, KafkaSource(brokers, [os.environ["BENCH_READINGS"]], tail=tail)
    )
    by_device = op.map("by_device", readings, keyed)
    events = op.stateful_flat_map("count", by_device, count)
    op.output("events", op.map("no_key", events, lambda pair: pair[1]),
              KafkaSink(brokers, os.environ["BENCH_EVENTS"]))  # fmt: skip
    return flow


def main() -> None:
    folder = Path(os.environ["BENCH_FOLDER"]) / "recovery"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(folder), "1"], check=True)
    cli_main(
        dataflow(),
        epoch_interval=timedelta(seconds=float(os.environ.get("BENCH_EPOCH_S", "10"))),
        recovery_config=RecoveryConfig(str(folder)),
    )


if __name__ == "__main__":
    main()
