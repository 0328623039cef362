"""Footstep events from the accelerometer and gyroscope readings of many devices, over Kafka."""

__version__ = "1.0.0"
