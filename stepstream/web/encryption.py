"""TLS on the server's port, with a certificate that may be renewed."""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from uvicorn.protocols.http.flow_control import FlowControl

from stepstream.errors import SettingsError
from stepstream.files import FileWatch
from stepstream.web.protocol import REQUEST_TIMEOUT_S, BoundedProtocol

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from stepstream.settings import HttpSettings

__all__ = ["Certificate", "EncryptedProtocol"]

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 2.0
"""How long a client is waited for that doesn't confirm the end of a connection."""


class Certificate:
    """The server's certificate and its key, in two files that may be replaced at any time.

    Parameters
    ----------
    certificate, key
        The files, PEM.

    Raises
    ------
    SettingsError
        A file can't be used; the message names the setting.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._paths = certificate, key
        self._files = FileWatch(certificate, key)
        self._context = _load(certificate, key)

    @classmethod
    def of(cls, http: HttpSettings) -> Self | None:
        """The certificate that the settings name, if any."""
        if http.tls_cert is None or http.tls_key is None:
            return None
        return cls(http.tls_cert, http.tls_key)

    @property
    def context(self) -> ssl.SSLContext:
        """What the next connection is encrypted with.

        Files that have changed are loaded again. If they can't be used, because only one of the two
        has been replaced yet or for good, the last ones that could be are used on.
        """
        if self._files.has_changed():
            try:
                self._context = _load(*self._paths)
            except SettingsError as error:
                logger.warning("the new certificate can't be used, the old one stays: %s", error)
            else:
                logger.info("new certificate", extra={"file": str(self._paths[0])})
        return self._context


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    _check("http.tls_cert", certificate, "BEGIN CERTIFICATE")
    _check("http.tls_key", key, "PRIVATE KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could have a key agreed on again and again, which costs the server more than it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password given, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                f"http.tls_key: {key} is not the key of the certificate in {certificate}"
            ) from None
        why = reason or getattr(error, "strerror", None) or "unknown reason"
        raise SettingsError(f"http.tls_cert, http.tls_key: can't be used: {why}") from None
    return context


def _check(setting: str, path: Path, wanted: str) -> None:
    """Check a file, to name it: OpenSSL doesn't say which one it couldn't use."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SettingsError(f"{setting}: can't read {path}: {error.strerror}") from None
    if wanted not in text:
        raise SettingsError(f"{setting}: {path} has no PEM block of the kind {wanted!r}")
    if "ENCRYPTED" in text:
        raise SettingsError(f"{setting}: {path} has a password; give the key without one")


class EncryptedProtocol(BoundedProtocol):
    """One connection with TLS. It counts from its first byte, so its handshake has bounds, too.

    Parameters
    ----------
    certificate
        The server's.
    arguments, more
        As for one without TLS.
    """

    def __init__(self, certificate: Certificate, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._certificate = certificate
        self._handshake: asyncio.Task[None] | None = None
        self._early = bytearray()
        self._is_encrypted = False
        self._is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the connection in, and begin with the handshake."""
        super().connection_made(transport)
        self._handshake = self.loop.create_task(self._encrypt(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if not self._is_lost:
            self._is_lost = True
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request, or what comes before that can be told from it."""
        if self._is_encrypted:
            super().data_received(data)
        else:
            self._early += data

    async def _encrypt(self, transport: asyncio.Transport) -> None:
        encrypted = None
        if not transport.is_closing():
            self.loop.call_soon(self._hand_over, transport)
            with suppress(OSError):
                encrypted = await self.loop.start_tls(
                    transport,
                    self,
                    self._certificate.context,
                    server_side=True,
                    ssl_handshake_timeout=REQUEST_TIMEOUT_S,
                    ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
                )
        if encrypted is None or encrypted.is_closing():
            self._traffic.refusals["tls"] += 1
            transport.abort()
            # Nothing else says so of a connection whose handshake failed.
            self.connection_lost(None)
            return
        self._is_encrypted = True
        self.transport = encrypted
        self.flow = FlowControl(encrypted)
        self.scheme = "https"
        if self._early:
            # The end of the handshake and a request came at once: TLS has decrypted it already.
            request, self._early = bytes(self._early), bytearray()
            super().data_received(request)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        """Give TLS what was read before it was there; uvloop reads even if it is asked not to.

        It runs after `start_tls` has put TLS in its place, and before reading goes on.
        """
        protocol: Any = transport.get_protocol()
        while self._early:
            buffer = protocol.get_buffer(len(self._early))
            size = min(len(buffer), len(self._early))
            buffer[:size] = self._early[:size]
            del self._early[:size]
            protocol.buffer_updated(size)
