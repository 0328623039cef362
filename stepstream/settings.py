"""Every setting: type, default, unit and meaning; from environment, ``.env`` file or flags."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = [
    "ENV_FILE",
    "ENV_PREFIX",
    "AbnormalStart",
    "CommandSettings",
    "HttpSettings",
    "KafkaSettings",
    "LoggingSettings",
    "ModelSettings",
    "ProcessingSettings",
    "Settings",
    "TopicSettings",
    "read_secret_file",
    "split_commas",
]

ENV_PREFIX = "STEPSTREAM_"
ENV_FILE = ".env"

AbnormalStart = Literal[
    "lost-readings", "missing-offset", "recreated-topic", "offset-beyond-end", "changed-partitions"
]

RESERVED_PROPERTIES = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "group.id": "kafka.group_id",
    "group.protocol": "kafka.group_protocol",
    "partition.assignment.strategy": "kafka.group_protocol",
    "transactional.id": "kafka.transactional_id",
    "transaction.timeout.ms": "kafka.transaction_timeout_ms",
    "sasl.password": "kafka.sasl_password",
    "ssl.key.password": "kafka.ssl_key_password",
    "isolation.level": None,
    "enable.auto.commit": None,
    "enable.auto.offset.store": None,
    "enable.idempotence": None,
    "enable.partition.eof": None,
    "auto.offset.reset": "kafka.start_at",
    "acks": None,
    "request.required.acks": None,
    "max.in.flight": None,
    "max.in.flight.requests.per.connection": None,
    "partitioner": None,
}
"""librdkafka properties that the guarantees depend on, and the setting to use instead, if any."""

SECRET_PROPERTY = re.compile(r"password|passphrase|secret|jaas|key\.pem|oauthbearer\.config")
"""Names of librdkafka properties that match this have values that are never shown."""
TOKEN_MIN_LENGTH = 16
SECRET_MIN_LENGTH = 4
"""Shorter parts of a secret are not hidden: they occur in too many other words."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def split_commas(value: object) -> object:
    """The parts of a text between commas; any other value as it is."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _unit(unit: str) -> dict[str, Any]:
    return {"unit": unit}


def read_secret_file(path: Path, setting: str) -> SecretStr:
    """Read a secret from a file, without the line end that editors add.

    Raises
    ------
    ValueError
        The file can't be read; the message names the setting, never the content.
    """
    try:
        return SecretStr(path.read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{setting}: can't read {path}: {reason}") from None


class KafkaSettings(_Group):
    """How to connect to Kafka, and as which user."""

    bootstrap_servers: str = "localhost:9092"
    """Brokers to connect to first, as host:port, several with commas."""
    group_id: str = Field("stepstream", min_length=1)
    """Consumer group; a new group counts every device from 1."""
    transactional_id: str | None = None
    """Identity of this process in transactions, unique and stable across restarts; if not set, `<group>-<hostname>`, and with a number behind it for further processes of this machine."""
    client_id: str = "stepstream"
    """Name of this client in the broker's logs and metrics."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """Rebalance protocol: `classic` (cooperative-sticky) or `consumer` (KIP-848, brokers from 4.0)."""
    static_membership: bool = False
    """Whether this consumer stays a member of the group while it restarts, under the name of its transactional id. A restart within the session timeout moves no partition; the partitions of a consumer that left for good wait for the whole timeout."""
    session_timeout_ms: int = Field(6_000, ge=1_000, le=3_600_000, json_schema_extra=_unit("ms"))
    """The group removes a consumer whose heartbeats stop for this time: how long its devices get no steps after a crash. Brokers accept 6 s or more by default; with the protocol `consumer` the broker's own setting applies."""
    heartbeat_interval_ms: int = Field(200, ge=1, le=3_600_000, json_schema_extra=_unit("ms"))
    """Time between two heartbeats, by which a consumer also learns of rebalances; with the protocol `consumer` the broker's own setting applies."""
    max_poll_interval_ms: int = Field(15_000, ge=1, le=86_400_000, json_schema_extra=_unit("ms"))
    """A consumer that doesn't poll for this time leaves the group, and a rebalance waits this long for a consumer that doesn't answer. The loop blocks for 5 s at most, while it commits before partitions are released."""
    start_at: Literal["earliest", "latest"] = "earliest"
    """Offset at which a group without committed offsets begins."""
    transaction_timeout_ms: int = Field(10_000, ge=1_000, le=900_000, json_schema_extra=_unit("ms"))
    """Time after which the broker ends a transaction that is still open."""
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How connections to the brokers are encrypted and authenticated."""
    sasl_mechanism: str | None = None
    """SASL mechanism, such as `PLAIN`, `SCRAM-SHA-512` or `OAUTHBEARER`."""
    sasl_username: str | None = None
    """SASL user name."""
    sasl_password: SecretStr | None = None
    """SASL password."""
    sasl_password_file: Path | None = None
    """File that holds the SASL password."""
    ssl_ca_location: Path | None = None
    """File of the certificate authorities to trust, PEM; the system's if not set."""
    ssl_certificate_location: Path | None = None
    """File of the client's own certificate, PEM."""
    ssl_key_location: Path | None = None
    """File of the client's private key, PEM."""
    ssl_key_password: SecretStr | None = None
    """Password of the private key."""
    ssl_key_password_file: Path | None = None
    """File that holds the password of the private key."""
    properties: dict[str, str | int | float | bool] = Field(default_factory=dict, repr=False)
    """Any other librdkafka property, as a JSON object; properties that the guarantees depend on are refused."""

    @field_validator("properties")
    @classmethod
    def _refuse_reserved(cls, properties: dict[str, Any]) -> dict[str, Any]:
        for name in properties:
            if name in RESERVED_PROPERTIES:
                instead = RESERVED_PROPERTIES[name]
                hint = f"; use {instead}" if instead else ""
                raise ValueError(
                    f"{name} can't be set here, the delivery guarantee depends on it{hint}"
                )
        return properties

    @model_validator(mode="after")
    def _read_secret_files(self) -> Self:
        for name in ("sasl_password", "ssl_key_password"):
            file = getattr(self, f"{name}_file")
            if file is None:
                continue
            if getattr(self, name) is not None:
                raise ValueError(f"set {name} or {name}_file, not both")
            object.__setattr__(self, name, read_secret_file(file, f"{name}_file"))
        return self

    def hide_secrets(self, text: str) -> str:
        """Replace passwords, and values of properties that look secret, by asterisks.

        Some errors of librdkafka quote a value, or the rest of a value that it couldn't parse. So
        each line of a secret is hidden, and each `key=value` in it.
        """
        secrets = [str(v) for name, v in self.properties.items() if SECRET_PROPERTY.search(name)]
        for password in (self.sasl_password, self.ssl_key_password):
            secrets += [password.get_secret_value()] if password else []
        parts = {*secrets, *(line for secret in secrets for line in secret.splitlines())}
        parts |= {word for secret in secrets for word in secret.split() if "=" in word}
        for part in sorted(parts, key=len, reverse=True):
            if len(part) >= SECRET_MIN_LENGTH:
                text = text.replace(part, "***")
        return text

    def effective_transactional_id(self, number: int = 0) -> str:
        """The transactional id: as set, else group and host name; with a number if it isn't 0."""
        name = self.transactional_id or f"{self.group_id}-{socket.gethostname()}"
        return f"{name}-{number}" if number else name


class TopicSettings(_Group):
    """Topic names, and how `stepstream topics` creates them."""

    readings: Annotated[tuple[str, ...], NoDecode] = Field(("sensor-readings",), min_length=1)
    """Topics to read, several with commas."""
    events: str = "step-events"
    """Topic of the step events."""
    state: str = "stepstream-state"
    """Compacted topic of the step counts."""
    dead_letters: str = "sensor-readings.dlq"
    """Topic of the dead letters: invalid messages."""
    partitions: int = Field(4, ge=1, le=10_000)
    """Partitions of a topic that `stepstream topics` creates."""
    replication_factor: int = Field(-1, ge=-1, le=32_767)
    """Replicas of a topic that `stepstream topics` creates; -1 is the broker's default."""

    @field_validator("readings", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    @model_validator(mode="after")
    def _refuse_clashes(self) -> Self:
        names = [*self.readings, *self.written]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"topic {twice[0]} is used for two things")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics that subscribers read: one for each kind of output."""
        return (self.events,)

    @property
    def written(self) -> tuple[str, ...]:
        """All topics that the consumer writes to."""
        return (*self.outputs, self.dead_letters, self.state)


class ProcessingSettings(_Group):
    """How readings are processed and when results are published."""

    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    """`exactly_once` commits events, dead letters and offsets in one transaction; `at_least_once` uses no transactions."""
    commit_interval_ms: int = Field(100, ge=1, le=60_000, json_schema_extra=_unit("ms"))
    """Longest time after which new offsets are committed."""
    output_interval_ms: int = Field(20, ge=0, le=60_000, json_schema_extra=_unit("ms"))
    """Shortest time between two commits while events wait."""
    linger_ms: int = Field(5, ge=0, le=1_000, json_schema_extra=_unit("ms"))
    """Time that a poll waits for more messages after the first."""
    poll_max_messages: int = Field(8_000, ge=1, le=1_000_000, json_schema_extra=_unit("messages"))
    """Most messages that one poll consumes."""
    max_gap_ms: int = Field(250, ge=25, le=5_000, json_schema_extra=_unit("ms"))
    """A longer pause between two readings of a device starts a new window."""
    max_lateness_s: float = Field(600.0, gt=0, json_schema_extra=_unit("s"))
    """A reading that is further behind its device's last one means that the device's clock was set back; one that is less behind is late."""
    max_ahead_s: float = Field(60.0, gt=0, json_schema_extra=_unit("s"))
    """A message with a reading that is further ahead of this machine's clock becomes a dead letter."""
    idle_timeout_s: float = Field(10.0, gt=0, json_schema_extra=_unit("s"))
    """A device that sent nothing for this time starts a new window; set it above the interval of batch uploads."""
    max_devices: int = Field(1_000_000, ge=1, json_schema_extra=_unit("devices"))
    """Most devices with a window in one partition; messages of further devices become dead letters."""
    outbox_max_records: int = Field(100_000, ge=1, json_schema_extra=_unit("records"))
    """Most records that wait to be published; with more, reading pauses."""
    outbox_max_bytes: int = Field(64 << 20, ge=1 << 20, json_schema_extra=_unit("bytes"))
    """Most bytes of these records; with more, reading pauses."""
    device_ttl_s: float = Field(2_592_000.0, ge=60, json_schema_extra=_unit("s"))
    """The step count of a device without a step for this time is deleted; it is written again after half of the time if the device still sends."""
    restore_timeout_s: float = Field(120.0, gt=0, json_schema_extra=_unit("s"))
    """The process ends if reading committed offsets or step counts makes no progress for this time."""
    stuck_after_s: float = Field(60.0, ge=1, json_schema_extra=_unit("s"))
    """A loop that doesn't turn for this time is stuck: the consumer is no longer live, and the log shows the stacks of all threads."""
    dead_letter_window: int = Field(10_000, ge=1, le=1_000_000, json_schema_extra=_unit("messages"))
    """Number of a partition's last messages among which the share of dead letters is computed."""
    dead_letter_share: float = Field(0.5, gt=0, le=1)
    """Share of dead letters among these messages that is too large."""
    dead_letter_streak: int = Field(5_000, ge=1, json_schema_extra=_unit("messages"))
    """Number of dead letters in a row that is too large."""
    on_dead_letter_limit: Literal["pause", "stop", "continue"] = "pause"
    """What happens at these limits: `pause` reads no more of that partition until a restart, and the consumer is not ready; `stop` ends the process; `continue` only logs a warning."""
    accept: Annotated[tuple[AbnormalStart, ...], NoDecode] = ()
    """Abnormal starts to accept, several with commas: `lost-readings`, `missing-offset`, `recreated-topic`, `offset-beyond-end`, `changed-partitions`."""
    shutdown_timeout_s: float = Field(20.0, gt=0, json_schema_extra=_unit("s"))
    """Longest time for the last commit and for leaving the group when the process stops."""
    accel_unit: Literal["m/s2", "g"] = "m/s2"
    """Unit of the accelerometer's readings."""
    gyro_unit: Literal["rad/s", "deg/s"] = "rad/s"
    """Unit of the gyroscope's readings."""
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    """Unit of the readings' timestamps, counted since the epoch."""

    @field_validator("accept", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)


class ModelSettings(_Group):
    """The neural network."""

    path: Path | None = None
    """Model file; the model that ships with stepstream if not set."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of one inference call, in each worker."""


class LoggingSettings(_Group):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    format: Literal["text", "json"] = "text"
    """`text`: lines for people; `json`: one JSON object in each line."""


class HttpSettings(_Group):
    """Health, metrics, the live page and the API over HTTP."""

    address: str = "0.0.0.0"  # noqa: S104 - probes and scrapers come from outside the pod
    """Address to listen on."""
    port: int = Field(8080, ge=0, le=65_535)
    """Port to listen on; with 0 there is no server. If no port is set and this one is in use, any free port."""
    token: SecretStr | None = None
    """Bearer token that requests to `/performance` and `/v1` must have; none is needed if not set."""
    token_file: Path | None = None
    """File that holds the token."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins, such as `https://ops.example.org`, whose pages may call `/v1`, several with commas; `*` for all."""
    max_connections: int = Field(100, ge=1, le=10_000, json_schema_extra=_unit("connections"))
    """Most connections at a time; further ones are closed."""

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    @model_validator(mode="after")
    def _read_token_file(self) -> Self:
        if self.token_file is not None:
            if self.token is not None:
                raise ValueError("set token or token_file, not both")
            object.__setattr__(self, "token", read_secret_file(self.token_file, "token_file"))
        if self.token is not None and len(self.token.get_secret_value()) < TOKEN_MIN_LENGTH:
            raise ValueError(f"the token has to have at least {TOKEN_MIN_LENGTH} characters")
        return self


class CommandSettings(BaseSettings):
    """The arguments of a command: groups of settings, and options of its own."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        extra="ignore",
        frozen=True,
        nested_model_default_partial_update=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_parse_none_str="none",
    )

    def execute(self) -> int:
        """Run the command and return its exit code."""
        raise NotImplementedError

    def hide_secrets(self, text: str) -> str:
        """Replace the secrets among the settings by asterisks."""
        http = getattr(self, "http", None)
        if isinstance(http, HttpSettings) and http.token is not None:
            text = text.replace(http.token.get_secret_value(), "***")
        kafka = getattr(self, "kafka", None)
        return kafka.hide_secrets(text) if isinstance(kafka, KafkaSettings) else text


class Settings(CommandSettings):
    """All of stepstream's settings."""

    # A group has what was set in it as `model_fields_set` only without this.
    model_config = SettingsConfigDict(nested_model_default_partial_update=False)

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    processing: ProcessingSettings = ProcessingSettings()
    model: ModelSettings = ModelSettings()
    http: HttpSettings = HttpSettings()
    logging: LoggingSettings = LoggingSettings()
    workers: int = Field(1, ge=1, le=256, json_schema_extra=_unit("processes"))
    """Consumers to run as processes of their own, up to one for each free core, under one parent that restarts them and serves HTTP for all."""

    @model_validator(mode="after")
    def _refuse_a_shared_name(self) -> Self:
        if self.workers > 1 and "group.instance.id" in self.kafka.properties:
            raise ValueError(
                "workers can't share one group.instance.id; use kafka.static_membership"
            )
        return self
