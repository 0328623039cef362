"""What is served over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from stepstream.settings.groups import SettingsGroup, in_unit, read_secret_file, split_commas

__all__ = ["HttpSettings"]

TOKEN_MIN_LENGTH = 16
TOKEN = re.compile(r"[!-~]+")
"""HTTP has no other characters in headers."""


class HttpSettings(SettingsGroup):
    """Health, metrics, the live page and the API over HTTP."""

    address: str = "0.0.0.0"  # noqa: S104 - probes and scrapers come from outside the pod
    """Address to listen on."""
    port: int = Field(8080, ge=0, le=65_535)
    """Port to listen on; with 0 there is no server. If no port is set and this one is in use, any free port."""
    token: SecretStr | None = None
    """Bearer token that requests to `/performance` and `/v1` must have. Without one, only this machine may send them, as `localhost`."""
    token_file: Path | None = None
    """File that holds the token; it is read again when it changes."""
    tls_cert: Path | None = None
    """File of the server's certificate and of those between it and its authority, PEM; with `http.tls_key`, the port speaks HTTPS only."""
    tls_key: Path | None = None
    """File of the certificate's private key, PEM, without a password. Both files are read again when they change."""
    hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Without a token: names in the address, such as `steps.example.org`, under which any machine may ask for `/performance` and `/v1`, several with commas; `*` for all."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins, such as `https://ops.example.org`, whose pages may call `/v1`, several with commas; `*` for all."""
    access_log: bool = False
    """Whether each request is a line in the log: who asked for which path, and the status; at most 100 a second. Paths hold ids of devices."""
    max_connections: int = Field(100, ge=1, le=10_000, json_schema_extra=in_unit("connections"))
    """Most connections at a time; a further one closes another that is idle or old, of the address that has the most."""

    @field_validator("cors_origins", "hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    @property
    def scheme(self) -> str:
        """How addresses of the server begin."""
        return "http" if self.tls_cert is None else "https"

    @model_validator(mode="after")
    def _refuse_half_of_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("set both tls_cert and tls_key, or neither")
        return self

    @model_validator(mode="after")
    def _read_token_file(self) -> Self:
        if self.token_file is not None:
            if self.token is not None:
                raise ValueError("set token or token_file, not both")
            object.__setattr__(self, "token", read_secret_file(self.token_file, "token_file"))
        if self.token is not None and len(self.token.get_secret_value()) < TOKEN_MIN_LENGTH:
            raise ValueError(f"the token has to have at least {TOKEN_MIN_LENGTH} characters")
        if self.token is not None and not TOKEN.fullmatch(self.token.get_secret_value()):
            raise ValueError(
                "the token may have only letters, digits and other ASCII characters, no spaces"
            )
        return self
