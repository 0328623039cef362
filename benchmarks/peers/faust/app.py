"""The job in Faust: an agent, a table in memory with its changelog."""

import os

import faust
from job import HOP, WINDOW, is_step, magnitude

app = faust.App(
    os.environ["BENCH_GROUP"],
    broker=f"kafka://{os.environ['BENCH_BOOTSTRAP']}",
    store="memory://",
    processing_guarantee="at_least_once",
    topic_partitions=4,
    topic_allow_declare=True,
    topic_disable_leader=True,
    broker_commit_interval=0.1,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
    datadir=os.environ["BENCH_FOLDER"],
)
readings = app.topic(os.environ["BENCH_READINGS"], key_type=str, value_serializer="json")
events = app.topic(os.environ["BENCH_EVENTS"], key_type=str, value_serializer="json")
windows = app.Table("windows", default=lambda: (0, []))


@app.agent(readings)
async def count(stream: faust.Stream) -> None:
    async for event in stream.events():
        reading = event.value
        number, window = windows[event.key]
        number += 1
        window = [*window[-(WINDOW - 1) :], magnitude(reading)]
        windows[event.key] = (number, window)
        if number % HOP == 0 and len(window) == WINDOW and is_step(window):
            at = event.message
            await events.send(
                key=event.key,
                value={
                    "event_id": f"{at.topic}-{at.partition}-{at.offset}-0",
                    "device_id": reading["device_id"],
                    "ended_at": reading["timestamp"],
                },
            )


if __name__ == "__main__":
    app.main()
