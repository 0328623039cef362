"""TLS on the server's port, and certificates and tokens that change; the server is a process."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import trustme
import uvicorn
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from prometheus_client.parser import text_string_to_metric_families
from uvicorn.server import ServerState

from stepstream.errors import SettingsError
from stepstream.settings import HttpSettings
from stepstream.web.encryption import Certificate, EncryptedProtocol
from stepstream.web.protocol import BoundedProtocol
from stepstream.web.traffic import Traffic
from tests.conftest import ROOT
from tests.kafka.broker import free_port
from tests.kafka.builders import wait_until
from tests.web.builders import consumer_without_broker, request, serve, settings
from tests.web.served import Served, served, tls_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepstream.streaming.consumer import Consumer

NAMES = ("localhost", "127.0.0.1")
TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of the tests


class Encrypted:
    """A server with a certificate, and a client that trusts only its authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renew()
        self.server: Served

    def renew(self) -> None:
        """Replace certificate and key by those of another authority."""
        self.authority = trustme.CA()
        issued = self.authority.issue_cert(*NAMES)
        write_certificate(self.folder, issued)
        self.trust = ssl.create_default_context()
        self.authority.configure_trust(self.trust)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost", self.server.port, timeout=15, context=self.trust
        )

    def ask(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET" if body is None else "POST", path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def refusals(self, reason: str) -> float:
        _, page = self.ask("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(page.decode())
            for sample in family.samples
            if sample.name == "stepstream_http_refusals_total" and sample.labels["reason"] == reason
        )


def write_certificate(folder: Path, issued: trustme.LeafCert) -> None:
    (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "tls.key").write_bytes(issued.private_key_pem.bytes())


@pytest.fixture(scope="module", params=[(), ("--workers",)], ids=["consumer", "parent"])
def encrypted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Encrypted]:
    made = Encrypted(tmp_path_factory.mktemp("certificate"))
    with served(*request.param, "--certificate", str(made.folder)) as made.server:
        wait_until("an answer", lambda: made.ask("/readyz")[0] == 200, 30)
        yield made


def test_what_tls_decrypts_before_its_handshake_is_known_to_be_over_is_not_lost(
    encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine, the loop reads on before the task goes on that waits for the handshake."""
    taken: list[bytes] = []
    monkeypatch.setattr(BoundedProtocol, "data_received", lambda _, data: taken.append(bytes(data)))

    async def connect() -> None:
        loop = asyncio.get_running_loop()

        async def start_tls(_: Any, protocol: Any, *_more: Any, **_named: Any) -> Any:
            await asyncio.sleep(0)
            protocol.data_received(b"GET / HTTP/1.1")
            return Mock(**{"is_closing.return_value": False})

        monkeypatch.setattr(loop, "start_tls", start_tls)
        protocol = EncryptedProtocol(
            Certificate(encrypted.folder / "tls.crt", encrypted.folder / "tls.key"),
            Traffic(),
            100,
            config=uvicorn.Config(Mock()),
            server_state=ServerState(),
            app_state={},
        )
        transport = Mock(**{"is_closing.return_value": False})
        transport.get_extra_info.return_value = None
        protocol.connection_made(transport)
        async with asyncio.timeout(5):
            while not taken:  # noqa: ASYNC110 - it is a matter of turns
                await asyncio.sleep(0)
        protocol.data_received(b"Host: a")
        protocol.connection_lost(None)

    asyncio.run(connect())
    assert taken == [b"GET / HTTP/1.1", b"Host: a"]


def test_everything_is_served_over_tls(encrypted: Encrypted) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/performance", "/v1/devices", "/openapi.json"):
        assert encrypted.ask(path)[0] == 200, path
    status, content = encrypted.ask("/v1/detect", b"{}", {"content-type": "application/json"})
    assert (status, json.loads(content)["error"]) == (422, "missing-field")
    large = json.dumps([{"no": "reading"}] * 200_000).encode()
    assert encrypted.ask("/v1/detect", large, {"content-type": "application/json"})[0] == 422
    with ExitStack() as stack:
        connection = encrypted.connect()
        stack.callback(connection.close)
        connection.request("GET", "/performance/stream")
        assert connection.getresponse().readline().startswith(b"event: ")


@pytest.mark.parametrize(("tls_cert", "code"), [("tls.crt", 0), ("", 1)])
def test_the_images_health_check_asks_over_tls_if_that_is_set(
    encrypted: Encrypted, tls_cert: str, code: int
) -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "deploy" / "image" / "healthcheck.py"],
        env={
            "STEPSTREAM_HTTP__PORT": str(encrypted.server.port),
            "STEPSTREAM_HTTP__TLS_CERT": tls_cert,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (checked.returncode, checked.stdout == "live\n") == (code, code == 0)


def test_the_name_that_is_asked_for_counts_over_tls_too(encrypted: Encrypted) -> None:
    assert encrypted.ask("/v1/devices", headers={"host": "evil.example"})[0] == 403
    assert encrypted.ask("/livez", headers={"host": "evil.example"})[0] == 200


def test_what_speaks_no_tls_is_refused_and_counted(encrypted: Encrypted) -> None:
    before = encrypted.refusals("tls")
    with socket.create_connection(("127.0.0.1", encrypted.server.port), 5) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in read_all(plain)
    assert encrypted.refusals("tls") == before + 1


def test_former_versions_of_tls_are_refused(encrypted: Encrypted) -> None:
    context = ssl.create_default_context()
    encrypted.authority.configure_trust(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", encrypted.server.port), 5) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_connections_without_a_handshake_do_not_keep_probes_out(encrypted: Encrypted) -> None:
    before = encrypted.refusals("connections")
    with ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(socket.create_connection(("127.0.0.1", encrypted.server.port), 5))
        for _ in range(5):
            began_s = time.monotonic()
            assert encrypted.ask("/livez")[0] == 200
            assert time.monotonic() - began_s < 1
    assert encrypted.refusals("connections") >= before + 20


def test_renewed_files_are_taken_up_and_wrong_ones_are_not(encrypted: Encrypted) -> None:
    with ExitStack() as stack:
        kept = encrypted.connect()
        stack.callback(kept.close)
        kept.request("GET", "/livez")
        assert kept.getresponse().read() == b"live\n"
        encrypted.renew()
        assert encrypted.ask("/livez") == (200, b"live\n")
        kept.request("GET", "/livez")
        assert kept.getresponse().read() == b"live\n"
    right = (encrypted.folder / "tls.key").read_bytes()
    (encrypted.folder / "tls.key").write_bytes(
        trustme.CA().issue_cert(*NAMES).private_key_pem.bytes()
    )
    assert encrypted.ask("/livez")[0] == 200
    (encrypted.folder / "tls.key").unlink()
    assert encrypted.ask("/livez")[0] == 200
    (encrypted.folder / "tls.key").write_bytes(right)
    assert encrypted.ask("/livez")[0] == 200


@pytest.fixture(scope="module")
def consumer() -> Iterator[Consumer]:
    with consumer_without_broker() as made:
        yield made


def read_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(4_096):
            received += part
    except ConnectionResetError:
        pass
    return received


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A certificate and its key."""
    write_certificate(tmp_path, trustme.CA().issue_cert(*NAMES))
    return tmp_path


def missing_certificate(folder: Path) -> None:
    (folder / "tls.crt").unlink()


def missing_key(folder: Path) -> None:
    (folder / "tls.key").unlink()


def folder_for_a_key(folder: Path) -> None:
    missing_key(folder)
    (folder / "tls.key").mkdir()


def key_of_another(folder: Path) -> None:
    (folder / "tls.key").write_bytes(trustme.CA().issue_cert(*NAMES).private_key_pem.bytes())


def files_exchanged(folder: Path) -> None:
    certificate = (folder / "tls.crt").read_bytes()
    (folder / "tls.crt").write_bytes((folder / "tls.key").read_bytes())
    (folder / "tls.key").write_bytes(certificate)


def cut_certificate(folder: Path) -> None:
    certificate = (folder / "tls.crt").read_bytes()
    (folder / "tls.crt").write_bytes(certificate[: len(certificate) // 3])


def key_with_password(folder: Path) -> None:
    key = load_pem_private_key((folder / "tls.key").read_bytes(), None)
    (folder / "tls.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (missing_certificate, r"http\.tls_cert: can't read .*tls\.crt: No such file"),
        (missing_key, r"http\.tls_key: can't read .*tls\.key: No such file"),
        (folder_for_a_key, r"http\.tls_key: can't read .*tls\.key: Is a directory"),
        (key_of_another, r"http\.tls_key: .*tls\.key is not the key of the certificate in"),
        (files_exchanged, r"http\.tls_cert: .*tls\.crt has no PEM block of the kind"),
        (cut_certificate, r"http\.tls_cert, http\.tls_key: can't be used: "),
        (key_with_password, r"http\.tls_key: .*tls\.key has a password"),
    ],
)
def test_files_that_can_not_be_used_are_named_at_the_start(
    folder: Path, spoil: Any, cause: str
) -> None:
    Certificate(folder / "tls.crt", folder / "tls.key")
    spoil(folder)
    with pytest.raises(SettingsError, match=cause):
        Certificate(folder / "tls.crt", folder / "tls.key")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_run_ends_with_one_line_if_the_certificate_can_not_be_used(
    folder: Path, workers: str
) -> None:
    key_of_another(folder)
    http_settings = [f"--http.tls-cert={folder}/tls.crt", f"--http.tls-key={folder}/tls.key"]
    ended = subprocess.run(
        [sys.executable, "-m", "stepstream", "run", "--workers", workers, *http_settings],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "http.tls_key: " in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_half_of_tls_is_refused() -> None:
    with pytest.raises(ValueError, match="set both tls_cert and tls_key"):
        settings(tls_cert="a")


def test_the_pages_cookie_goes_over_tls_only(consumer: Consumer, folder: Path) -> None:
    made_with = settings(token=TOKEN, **tls_settings(folder))
    with serve(made_with, consumer) as server:
        context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("localhost", server.port or 0, context=context)
        connection.request("POST", "/performance/login", f"token={TOKEN}")
        answer = connection.getresponse()
        connection.close()
    assert answer.status == 303
    assert "; Secure" in (answer.getheader("set-cookie") or "")


def test_a_token_file_that_changes_is_taken_up(
    consumer: Consumer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    other = f"other-{TOKEN}"
    made_with = settings().model_copy(
        update={"http": HttpSettings(address="127.0.0.1", port=free_port(), token_file=file)}
    )
    with serve(made_with, consumer) as server:

        def status(token: str) -> int:
            return request(server, "/performance", Authorization=f"Bearer {token}").status

        assert (status(TOKEN), status(other)) == (200, 401)
        file.write_text(other)
        assert (status(TOKEN), status(other)) == (401, 200)
        file.write_text("short")
        assert (status("short"), status(other)) == (401, 200)
        assert "the new http.token can't be used" in caplog.text
        file.unlink()
        assert status(other) == 200
    assert other not in caplog.text
