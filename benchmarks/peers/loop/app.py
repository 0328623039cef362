"""A typical hand-written loop: poll a message, append it, predict when a hop is full, publish.

It predicts one device at a time, and stores what the network remembers of a device beside its
samples. It has no resampling, no late readings and no rebalances. Its counts are lost when the
process ends.
"""

import os
import signal
import zipfile
from collections import defaultdict

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
    samples, past = sorted(interpreter.get_input_details(), key=lambda one: one["shape"][-1])
    probabilities, latest = sorted(
        interpreter.get_output_details(), key=lambda one: one["shape"][-1]
    )
    size = about["hop"]
    layers, width = latest["shape"][1:]
    memory = defaultdict(lambda: np.zeros((layers, past["shape"][2] // layers, width), np.float32))
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
    hops = defaultdict(list)
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
        hop = hops[device]
        hop.append((*sample, *sizes))
        if len(hop) < size:
            continue
        interpreter.set_tensor(samples["index"], np.array(hop, np.float32).reshape(1, 1, size, 8))
        interpreter.set_tensor(past["index"], memory[device].reshape(1, 1, -1, width))
        interpreter.invoke()
        new = interpreter.get_tensor(latest["index"]).reshape(layers, 1, width)
        memory[device] = np.concatenate([memory[device][:, 1:], new], axis=1)
        hop.clear()
        probability = float(interpreter.get_tensor(probabilities["index"])[0, :, 1].max())
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
