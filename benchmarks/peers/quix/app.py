"""The job in Quix Streams: a stateful `apply` per message, state in RocksDB and a changelog."""

import os

from job import HOP, WINDOW, is_step, magnitude
from quixstreams import Application, State, message_context


def count(reading: dict[str, float], state: State) -> dict[str, object] | None:
    number, window = state.get("window", (0, []))
    number += 1
    window.append(magnitude(reading))
    del window[:-WINDOW]
    state.set("window", (number, window))
    if number % HOP or len(window) < WINDOW or not is_step(window):
        return None
    at = message_context()
    return {
        "event_id": f"{at.topic}-{at.partition}-{at.offset}-0",
        "device_id": reading["device_id"],
        "ended_at": reading["timestamp"],
    }


def main() -> None:
    app = Application(
        broker_address=os.environ["BENCH_BOOTSTRAP"],
        consumer_group=os.environ["BENCH_GROUP"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=float(os.environ["BENCH_COMMIT_INTERVAL_S"]),
        state_dir=os.environ["BENCH_FOLDER"],
        loglevel="WARNING",
    )
    readings = app.topic(os.environ["BENCH_READINGS"], value_deserializer="json")
    events = app.topic(os.environ["BENCH_EVENTS"], value_serializer="json")
    stream = app.dataframe(readings)
    stream = stream.apply(count, stateful=True)
    stream = stream.filter(lambda event: event is not None)
    stream.to_topic(events)
    app.run()


if __name__ == "__main__":
    main()
