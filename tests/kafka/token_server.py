"""An OAuth 2.0 server: client credentials in, signed tokens out, and the keys to check them by."""

from __future__ import annotations

import base64
import json
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = "stepstream-service"
CLIENT_SECRET = "client-uX5rD8zL"  # noqa: S105 - of a server that lives as long as a test
AUDIENCE = "kafka"
KEY_ID = "first"


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class TokenServer:
    """Listens on two ports of this machine: tokens go over TLS, public keys don't have to.

    Parameters
    ----------
    certificate
        PEM file of the server's key and certificate.
    """

    def __init__(self, certificate: Path) -> None:
        self._known_key, self._other_key = (generate_private_key(65_537, 2_048) for _ in range(2))
        self.lifetime_s = 300.0
        self.signs_with_other_key = False
        self.tokens: list[str] = []
        """All that were given out."""
        self._tokens, self._keys = (
            ThreadingHTTPServer(("127.0.0.1", 0), self._handler()) for _ in range(2)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._tokens.socket = context.wrap_socket(self._tokens.socket, server_side=True)
        for server in (self._tokens, self._keys):
            Thread(target=server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._tokens.server_address[1]}/token"

    @property
    def keys_url(self) -> str:
        return f"http://127.0.0.1:{self._keys.server_address[1]}/keys"

    def close(self) -> None:
        for server in (self._tokens, self._keys):
            server.shutdown()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, content = outer._grant(
                    self.headers.get("authorization", ""), parse_qs(body.decode())
                )
                self._answer(status, content)

            def do_GET(self) -> None:
                self._answer(200, outer._public_keys())

            def _answer(self, status: int, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _grant(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        right = base64.b64encode(f"{CLIENT}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {right}":
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        token = self._sign(self._other_key if self.signs_with_other_key else self._known_key)
        self.tokens.append(token)
        return 200, {
            "access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime_s)
        }  # fmt: skip

    def _sign(self, key: RSAPrivateKey) -> str:
        now_s = time.time()
        parts = (
            {"alg": "RS256", "typ": "JWT", "kid": KEY_ID},
            {"iss": self.url, "sub": CLIENT, "aud": AUDIENCE, "scope": "kafka",
             "iat": int(now_s), "exp": int(now_s + self.lifetime_s)},
        )  # fmt: skip
        signed = ".".join(_encode(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_encode(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"

    def _public_keys(self) -> dict[str, Any]:
        numbers = self._known_key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
               "n": _number(numbers.n), "e": _number(numbers.e)}  # fmt: skip
        return {"keys": [key]}
