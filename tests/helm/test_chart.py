"""The chart as helm renders it, and what is generated in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from stepstream import __version__
from stepstream.environment import check_environment
from stepstream.settings import ServeSettings, Settings
from tests.conftest import ROOT, missing
from tests.helm.rules import RULES, render_rules
from tests.helm.tools import KUBERNETES, find_tool
from tests.helm.values_schema import SCHEMA, render_schema

pytestmark = pytest.mark.slow

CHART = ROOT / "helm" / "stepstream"
VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"))
VALUES_BY_NAME = {path.stem: path for path in VALUES}
BY_PATH = pytest.mark.parametrize("values", VALUES, ids=[path.stem for path in VALUES])


@pytest.fixture
def run() -> Any:
    """Run one of the chart's tools; what it prints."""

    def run(name: str, *arguments: str | Path, fails: bool = False) -> str:
        tool = find_tool(name)
        if tool is None:
            missing(f"{name} (make tools, or set TEST_TOOLS to its folder)")
        done = subprocess.run(
            [tool, *map(str, arguments)], check=False, capture_output=True, text=True, cwd=ROOT
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def render(run: Any, values: Path, *more: str) -> list[dict[str, Any]]:
    text = run("helm", "template", "steps", CHART, f"--kube-version={KUBERNETES}",
               f"--values={values}", *more)  # fmt: skip
    return [document for document in yaml.safe_load_all(text) if document]


def container_environment(documents: list[dict[str, Any]], kind: str) -> dict[str, str]:
    """What a container finds in its environment; what comes from elsewhere is made up."""
    environment: dict[str, str] = {}
    pod = next(d for d in documents if d["kind"] == kind)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    for source in container.get("envFrom", []):
        if "configMapRef" not in source:
            continue
        name = source["configMapRef"]["name"]
        environment |= next(
            d["data"]
            for d in documents
            if (d["kind"], d["metadata"]["name"]) == ("ConfigMap", name)
        )
    for variable in container["env"]:
        value = variable.get("value", "made-up")
        environment[variable["name"]] = value.replace("$(POD_NAME)", "steps-stepstream-0")
    return environment


@BY_PATH
def test_helm_finds_nothing_wrong(run: Any, values: Path) -> None:
    assert "0 chart(s) failed" in run(
        "helm", "lint", "--strict", f"--kube-version={KUBERNETES}", f"--values={values}", CHART
    )


def test_the_suites_hold(run: Any) -> None:
    report = run("helm-unittest", "--strict", "-f", "../../tests/helm/suites/*_test.yaml", CHART)
    # A suite that isn't found would pass too.
    suites = list((Path(__file__).parent / "suites").glob("*_test.yaml"))
    assert f"Test Suites: {len(suites)} passed" in report


@BY_PATH
def test_the_product_accepts_the_environment_that_the_chart_gives_it(
    run: Any, values: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    documents = render(run, values)
    given = yaml.safe_load(values.read_text())
    more = {"Job": "topicsJob", "Deployment": "serve"}
    for kind in ("StatefulSet", *(kind for kind, name in more.items() if name in given)):
        for name, value in container_environment(documents, kind).items():
            if name.endswith("_FILE"):
                (tmp_path / name).write_text("hush-hush-hush-hush\n")
                monkeypatch.setenv(name, str(tmp_path / name))
            else:
                monkeypatch.setenv(name, value)
        check_environment()
        settings = Settings()
        groups = dict(given["settings"])
        assert settings.inputs == groups.pop("inputs", {})
        for group, fields in groups.items():
            for field, value in fields.items():
                found = getattr(getattr(settings, group), field)
                assert (list(found) if isinstance(value, list) else found) == value
        if kind == "Deployment":
            assert ServeSettings().workers == 1
        if kind == "StatefulSet":
            own = settings.kafka.transactional_id
            assert own == f"{settings.kafka.group_id}-default-steps-stepstream-0"


def test_the_same_values_give_the_same_objects(run: Any) -> None:
    """Nothing is random, so that tools that compare see no difference."""
    assert render(run, VALUES_BY_NAME["full"]) == render(run, VALUES_BY_NAME["full"])


def test_the_chart_is_of_this_release(run: Any) -> None:
    assert f"appVersion: {__version__}\n" in run("helm", "show", "chart", CHART)


def test_the_schema_follows_the_settings() -> None:
    text = SCHEMA.read_text(encoding="utf-8")
    assert text == render_schema(text), "run make chart"


def test_rules_and_dashboard_are_those_of_the_deployment() -> None:
    assert RULES.read_text(encoding="utf-8") == render_rules(), "run make chart"
    path = ROOT / "deploy" / "grafana" / "dashboards" / "stepstream.json"
    assert (CHART / "files" / path.name).read_bytes() == path.read_bytes(), "run make chart"


def test_the_readme_follows_the_values(run: Any, tmp_path: Path) -> None:
    copy = tmp_path / "stepstream"
    shutil.copytree(CHART, copy)
    run("helm-docs", "--chart-search-root", tmp_path, "--sort-values-order=file")
    assert (copy / "README.md").read_text() == (CHART / "README.md").read_text(), "run make chart"


def test_every_value_is_documented(run: Any) -> None:
    run("helm-docs", "--chart-search-root", CHART.parent, "--dry-run",
        "--documentation-strict-mode")  # fmt: skip


def test_the_package_holds_no_sources_of_its_documents(run: Any, tmp_path: Path) -> None:
    run("helm", "package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("stepstream-*.tgz")
    with tarfile.open(package) as archive:
        names = archive.getnames()
    assert "stepstream/values.schema.json" in names
    assert not [name for name in names if name.endswith(".gotmpl")]


@pytest.mark.parametrize("status", [200, 503])
def test_the_test_of_a_release_says_what_a_consumer_answers(run: Any, status: int) -> None:
    class Consumer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"as it is")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    (pod,) = render(run, VALUES_BY_NAME["least"], "--show-only=templates/test.yaml")
    python, option, code, address = pod["spec"]["containers"][0]["command"]
    assert (python, option) == ("python3", "-c")
    with ThreadingHTTPServer(("127.0.0.1", 0), Consumer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = address.replace("steps-stepstream:8080", f"127.0.0.1:{server.server_port}")
        done = subprocess.run(
            [sys.executable, option, code, here], check=False, capture_output=True, text=True
        )
        server.shutdown()
    assert (done.returncode == 0) == (status == 200)
    assert ("200 as it is" in done.stdout) == (status == 200)
