"""The exceptions that stepstream raises on purpose: one tree; each says what to do."""

__all__ = [
    "AbnormalStartError",
    "ModelError",
    "RecordingError",
    "SettingsError",
    "StepstreamError",
    "StreamError",
    "TopicError",
]


class StepstreamError(Exception):
    """Any error that stepstream itself finds; its text says what to do."""

    exit_code = 1


class SettingsError(StepstreamError):
    """A setting is missing, misspelt or contradicts another."""

    exit_code = 2


class ModelError(StepstreamError):
    """A model file is missing, corrupt, of the wrong shape or without metadata."""


class RecordingError(StepstreamError):
    """A CSV recording can't be read."""


class TopicError(StepstreamError):
    """A topic is missing, or its settings are wrong."""


class StreamError(StepstreamError):
    """Kafka refused something, and another attempt can't help; the state is safe in Kafka."""


class AbnormalStartError(StreamError):
    """What Kafka has of a partition doesn't fit together, and no setting accepts it."""
