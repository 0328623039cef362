"""The usual way: FastAPI, and one call of a Keras network for each request.

The network is a small one of the usual kind: it looks at the request's readings as
one window. Its weights are random, so its answers mean nothing; what they cost is what counts.
"""

from __future__ import annotations

import os

import keras
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

WINDOW = 128
AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
THRESHOLD = 0.5


class Readings(BaseModel):
    timestamp: list[float]
    accel_x: list[float]
    accel_y: list[float]
    accel_z: list[float]
    gyro_x: list[float]
    gyro_y: list[float]
    gyro_z: list[float]


def build() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((WINDOW, len(AXES))),
            layers.Conv1D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(32, activation="relu"),
            layers.Dense(2, activation="sigmoid"),
        ]
    )


app = FastAPI()
network = build()
network(np.zeros((1, WINDOW, len(AXES)), np.float32), training=False)


@app.post("/v1/detect")
async def detect(readings: Readings) -> dict[str, object]:
    columns = [getattr(readings, name) for name in AXES]
    window = np.array(columns, np.float32).T[np.newaxis, :WINDOW]
    start, end = network(window, training=False).numpy()[0].tolist()
    return {
        "start_probability": start,
        "end_probability": end,
        "is_step": max(start, end) >= THRESHOLD,
        "readings": len(readings.timestamp),
    }


@app.get("/readyz")
async def ready() -> str:
    return "ready"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning")
