"""What is served over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from stepstream.settings.groups import SettingsGroup, in_unit, read_secret_file, split_commas

__all__ = ["HttpSettings"]

TOKEN_MIN_LENGTH = 16


class HttpSettings(SettingsGroup):
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
    max_connections: int = Field(100, ge=1, le=10_000, json_schema_extra=in_unit("connections"))
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
