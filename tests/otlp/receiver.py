"""A receiver of OTLP over HTTP, which decodes what comes with OpenTelemetry's own package."""

from __future__ import annotations

import gzip
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric


@dataclass
class Push:
    """What came in one request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def request(self) -> ExportMetricsServiceRequest:
        return ExportMetricsServiceRequest.FromString(self.body)

    @property
    def resource(self) -> dict[str, Any]:
        (one,) = self.request.resource_metrics
        return attributes(one.resource.attributes)

    @property
    def metrics(self) -> dict[str, Metric]:
        ((scope,),) = (one.scope_metrics for one in self.request.resource_metrics)
        found = {metric.name: metric for metric in scope.metrics}
        assert len(found) == len(scope.metrics)
        return found

    def value(self, name: str, **labels: str) -> float:
        metric = self.metrics[name]
        points = (metric.gauge if metric.HasField("gauge") else metric.sum).data_points
        (found,) = (p.as_double for p in points if attributes(p.attributes) == labels)
        return found


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in pairs}


@dataclass
class Receiver:
    """Where it listens, what came, and what it answers."""

    endpoint: str = ""
    pushes: list[Push] = field(default_factory=list)
    status: int = 200
    refused: int = 0
    delay_s: float = 0.0


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Receive metrics on a free port; over TLS with a context."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.pushes.append(Push(self.path, dict(self.headers), gzip.decompress(body)))
            time.sleep(receiver.delay_s)
            answer = ExportMetricsServiceResponse()
            if receiver.refused:
                answer.partial_success.rejected_data_points = receiver.refused
                answer.partial_success.error_message = "too old"
            self.send_response(receiver.status)
            self.end_headers()
            self.wfile.write(answer.SerializeToString())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        if context is not None:
            # A handshake that fails is to end in the connection's thread, which closes it.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if context is None else "https"
        receiver.endpoint = f"{scheme}://localhost:{server.server_port}"
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()
