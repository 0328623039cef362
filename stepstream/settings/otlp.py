"""Where metrics are sent to."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from stepstream.settings.groups import SettingsGroup, in_unit

__all__ = ["METRICS_PATH", "OtlpSettings"]

METRICS_PATH = "/v1/metrics"
ENDPOINT = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
SECRET_MIN_LENGTH = 8
"""Shorter words of a header are not hidden: they occur in too many other texts."""


class OtlpSettings(SettingsGroup):
    """Metrics sent over OTLP, beside `/metrics`."""

    endpoint: str = ""
    """Address of an OpenTelemetry receiver that takes OTLP over HTTP, such as `http://collector:4318`; `/v1/metrics` is added. Without one nothing is sent."""
    interval_s: float = Field(60.0, ge=1, le=3_600, json_schema_extra=in_unit("s"))
    """Time between two pushes."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Headers of each push, such as `authorization`, as a JSON object."""
    ca_location: Path | None = None
    """File of the certificate authorities to trust, PEM; the system's if not set."""
    resource_attributes: dict[str, str | bool | int | float] = Field(default_factory=dict)
    """Resource attributes, as a JSON object; they are added to `service.name` and others, or replace them."""

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str) -> str:
        if endpoint and not ENDPOINT.fullmatch(endpoint):
            raise ValueError(
                "expected an address like http://collector:4318, without a query or a user; "
                "authorisation belongs to otlp.headers"
            )
        if endpoint.rstrip("/").endswith(METRICS_PATH):
            raise ValueError(f"leave {METRICS_PATH} out, it is added")
        return endpoint.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for place, (name, value) in enumerate(headers.items(), 1):
            # The name isn't said: a header that is written wrong may have its secret there.
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(
                    f"the name of header {place} has characters that HTTP doesn't allow"
                )
            if not HEADER_VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"{name} has a value that HTTP doesn't allow")
        return headers

    def hide_secrets(self, text: str) -> str:
        """Replace the values of headers, and the words in them, by asterisks."""
        values = [value.get_secret_value() for value in self.headers.values()]
        parts = {*values, *(word for value in values for word in value.split())}
        for part in sorted(parts, key=len, reverse=True):
            if len(part) >= SECRET_MIN_LENGTH:
                text = text.replace(part, "***")
        return text
