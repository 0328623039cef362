"""Steps from readings: plain computation, without Kafka, clock or thread."""

from stepstream.detection.columns import Readings, Steps
from stepstream.detection.detector import Detector
from stepstream.detection.model import Model, ModelMetadata, default_model_path
from stepstream.detection.rules import Rules
from stepstream.detection.self_test import self_test
from stepstream.detection.series import detect_series

__all__ = [
    "Detector",
    "Model",
    "ModelMetadata",
    "Readings",
    "Rules",
    "Steps",
    "default_model_path",
    "detect_series",
    "self_test",
]
