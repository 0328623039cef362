"""The image's health check: fails when the consumer of this container says that it isn't live.

It sees the container's environment, so the port has to be set there rather than by a flag.
"""

import http.client
import os
import ssl
import sys

PREFIX = "STEPSTREAM_HTTP__"
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on
TIMEOUT_S = 4  # less than the health check's own


def main() -> int:
    """0 if the consumer is live, or serves nothing that could be asked."""
    settings = {name.upper(): value for name, value in os.environ.items()}
    address = settings.get(f"{PREFIX}ADDRESS", "0.0.0.0")  # noqa: S104 - the default
    port = int(settings.get(f"{PREFIX}PORT", "8080"))
    if port == 0:
        return 0
    host = EVERYWHERE.get(address, address)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    if settings.get(f"{PREFIX}TLS_CERT"):
        # It stays in the container, where the certificate's names don't lead.
        unverified = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=unverified)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        sys.stdout.write(answer.read(1000).decode(errors="replace"))
    except OSError as error:
        sys.stdout.write(f"http.port {port}: {error}\n")
        return 1
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
