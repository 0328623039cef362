"""Consumers as processes under one parent; the parent knows neither Kafka nor the model."""
