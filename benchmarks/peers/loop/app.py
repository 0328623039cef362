"""A loop as it is written by hand: poll a message, append it, predict, publish.

It knows no resampling, no late readings, no rebalances; what it counted is lost with the process.
"""

import os
import signal
import zipfile
from collections import defaultdict, deque

import numpy as np
import orjson
from ai_edge_litert.interpreter import Interpreter
from confluent_kafka import Consumer, Producer

AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")


def main() -> None:
    model = os.environ["BENCH_MODEL"]
    with zipfile.ZipFile(model) as archive:
        about = orjson.loads(archive.read("stepstream.json"))
    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    size = about["window"]
    scales = np.array([about["accel_scale"]] * 3 + [about["gyro_scale"]] * 3, np.float32)
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["BENCH_BOOTSTRAP"],
            "group.id": os.environ["BENCH_GROUP"],
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": 100,
        }
    )
    consumer.subscribe([os.environ["BENCH_READINGS"]])
    producer = Producer({"bootstrap.servers": os.environ["BENCH_BOOTSTRAP"], "linger.ms": 5})
    windows = defaultdict(lambda: deque(maxlen=size))
    last_step = defaultdict(float)
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    while running:
        message = consumer.poll(0.1)
        if message is None or message.error():
            continue
        reading = orjson.loads(message.value())
        device = reading["device_id"]
        sample = np.array([reading.get(axis, 0.0) for axis in AXES], np.float32) / scales
        sizes = np.linalg.norm(sample[:3]), np.linalg.norm(sample[3:])
        window = windows[device]
        window.append((*sample, *sizes))
        if len(window) < size:
            continue
        interpreter.set_tensor(entry, np.array(window, np.float32).reshape(1, 1, size, 8))
        interpreter.invoke()
        probability = float(interpreter.get_tensor(result).reshape(-1, 2)[-1, 1])
        now = reading["timestamp"]
        rest = about["refractory"] / about["rate_hz"]
        if probability >= about["end_threshold"] and now - last_step[device] >= rest:
            last_step[device] = now
            event = {
                "event_id": f"{message.topic()}-{message.partition()}-{message.offset()}-0",
                "device_id": device,
                "ended_at": now,
            }
            producer.produce(os.environ["BENCH_EVENTS"], orjson.dumps(event), message.key())
            producer.poll(0)
    producer.flush(10)
    consumer.close()


if __name__ == "__main__":
    main()
