"""The exceptions that stepstream raises on purpose: one tree, each with what to do about it."""

__all__ = [
    "ModelError",
    "RecordingError",
    "SettingsError",
    "StepstreamError",
    "StreamError",
    "TopicError",
]


class StepstreamError(Exception):
    """Anything that stepstream itself found wrong; its text says what to do."""

    exit_code = 1


class SettingsError(StepstreamError):
    """A setting is missing, misspelt or contradicts another."""

    exit_code = 2


class ModelError(StepstreamError):
    """A model file is missing, corrupt, of the wrong shape or without metadata."""


class RecordingError(StepstreamError):
    """A CSV recording can't be read."""


class TopicError(StepstreamError):
    """A topic is missing or set up in a way that stepstream can't work with."""


class StreamError(StepstreamError):
    """Kafka refused something that can't be tried again; the state is safe in Kafka."""
