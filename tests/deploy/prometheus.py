"""A real Prometheus with the configuration that compose gives it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import urllib.parse
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.deploy.queries import RULES
from tests.kafka.broker import free_port
from tests.kafka.builders import fetch, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def missing_tool() -> str | None:
    return next((tool for tool in ("prometheus", "promtool") if not shutil.which(tool)), None)


class Prometheus:
    """Scrapes consumers at their addresses, more often than it would elsewhere."""

    def __init__(
        self, folder: Path, targets: list[str], interval: str = "500ms", job: str = "stepstream"
    ) -> None:
        self._port = free_port()
        self._folder = folder
        self._targets = folder / "targets.json"
        self.address = f"127.0.0.1:{self._port}"
        config = yaml.safe_load(RULES.with_name("prometheus.yml").read_text())
        config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
        config["rule_files"] = [str(RULES.parent / name) for name in config["rule_files"]]
        jobs = {job["job_name"]: job for job in config["scrape_configs"]}
        del jobs["stepstream"]["dns_sd_configs"]
        jobs["stepstream"]["file_sd_configs"] = [{"files": [str(self._targets)]}]
        jobs["stepstream"]["job_name"] = job
        jobs["prometheus"]["static_configs"] = [{"targets": [self.address]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = folder / "prometheus.log"
        self.scrape(targets)

    def scrape(self, targets: list[str], **labels: str) -> None:
        """From now on scrape these consumers, and give their series more labels."""
        written = self._targets.with_suffix(".new")
        written.write_text(json.dumps([{"targets": targets, "labels": labels}]))
        written.replace(self._targets)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["prometheus", f"--config.file={self._folder / 'prometheus.yml'}",
                 f"--storage.tsdb.path={self._folder / 'tsdb'}",
                 f"--web.listen-address={self.address}"],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            wait_until("Prometheus to answer", self._is_ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return fetch(self._port, "/-/ready")[0] == HTTPStatus.OK
        except OSError:
            return False

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        status, body = fetch(self._port, f"/api/v1/{path}?{query}")
        assert status == HTTPStatus.OK, body
        return json.loads(body)["data"]

    def values(self, expression: str) -> list[float]:
        """Values now, a series each; those that aren't a number are left out."""
        found = (float(one["value"][1]) for one in self.ask("query", query=expression)["result"])
        return [value for value in found if not math.isnan(value)]
