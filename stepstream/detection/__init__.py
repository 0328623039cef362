"""Steps from readings: plain computation, without Kafka, clock or thread."""

from stepstream.detection.columns import (
    ACCELEROMETER,
    GYROSCOPE,
    Columns,
    Readings,
    SplitReadings,
    Steps,
)
from stepstream.detection.counters import Counters
from stepstream.detection.detector import Detector, Window
from stepstream.detection.finder import Finder
from stepstream.detection.model import (
    Model,
    ModelMetadata,
    Predict,
    default_model_path,
    read_metadata,
)
from stepstream.detection.rules import Rules
from stepstream.detection.self_test import self_test
from stepstream.detection.series import Series, detect_series
from stepstream.detection.series_batch import SeriesBatch
from stepstream.detection.steps import StepFinder, make_step_detector

__all__ = [
    "ACCELEROMETER",
    "GYROSCOPE",
    "Columns",
    "Counters",
    "Detector",
    "Finder",
    "Model",
    "ModelMetadata",
    "Predict",
    "Readings",
    "Rules",
    "Series",
    "SeriesBatch",
    "SplitReadings",
    "StepFinder",
    "Steps",
    "Window",
    "default_model_path",
    "detect_series",
    "make_step_detector",
    "read_metadata",
    "self_test",
]
