"""How to connect to Kafka."""

from __future__ import annotations

import re
import socket
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from stepstream.settings.groups import SettingsGroup, in_unit, read_secret_file, read_time

__all__ = ["RESERVED_PROPERTIES", "SECRET_PROPERTY", "KafkaSettings"]

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
SECRET_MIN_LENGTH = 4
"""Shorter parts of a secret are not hidden: they occur in too many other words."""


class KafkaSettings(SettingsGroup):
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
    session_timeout_ms: int = Field(6_000, ge=1_000, le=3_600_000, json_schema_extra=in_unit("ms"))
    """The group removes a consumer whose heartbeats stop for this time: how long its devices get no steps after a crash. Brokers accept 6 s or more by default; with the protocol `consumer` the broker's own setting applies."""
    heartbeat_interval_ms: int = Field(200, ge=1, le=3_600_000, json_schema_extra=in_unit("ms"))
    """Time between two heartbeats, by which a consumer also learns of rebalances; with the protocol `consumer` the broker's own setting applies."""
    max_poll_interval_ms: int = Field(15_000, ge=1, le=86_400_000, json_schema_extra=in_unit("ms"))
    """A consumer that doesn't poll for this time leaves the group, and a rebalance waits this long for a consumer that doesn't answer. The loop blocks for 5 s at most, while it commits before partitions are released."""
    start_at: Literal["earliest", "latest"] | datetime = "earliest"
    """Where a group begins with the partitions that it finds: `earliest`, `latest`, or at the first reading whose record is not older than a time, like `2030-01-31T12:00:00Z`. Later partitions are read from their first message."""
    transaction_timeout_ms: int = Field(
        10_000, ge=1_000, le=900_000, json_schema_extra=in_unit("ms")
    )
    """Time after which the broker ends a transaction that is still open."""
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How connections to the brokers are encrypted and authenticated."""
    sasl_mechanism: str | None = None
    """SASL mechanism: `PLAIN`, `SCRAM-SHA-512`, `OAUTHBEARER`, `AWS_MSK_IAM` or another one of librdkafka."""
    sasl_username: str | None = None
    """SASL user name; with `OAUTHBEARER` the id of the client at the token endpoint."""
    sasl_password: SecretStr | None = None
    """SASL password; with `OAUTHBEARER` the secret of the client."""
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

    @field_validator("start_at", mode="before")
    @classmethod
    def _read_time(cls, value: object) -> object:
        if value in ("earliest", "latest"):
            return value
        return read_time(value, "earliest", "latest")

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
        """The transactional id: as set, else group and host name; with a number if it isn't 0.

        No host's name has the colon, while some end with a number.
        """
        name = self.transactional_id or f"{self.group_id}-{socket.gethostname()}"
        return f"{name}:{number}" if number else name
