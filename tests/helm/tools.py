"""Programs that the chart's tests run: where they are, and ``make tools``, which builds them.

All come as Go modules. A tool is built in a module of its own that requires nothing else, so its
dependencies are those that its own release was made with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = "1.37.2"
CHART_TOOLS = ("helm", "helm-unittest", "helm-docs", "kubeconform")
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
KEDA = ("keda-operator", "keda-adapter")


@dataclass(frozen=True)
class Source:
    """What a program is built from.

    Attributes
    ----------
    module, version
        Its Go module.
    package
        Its main package, below the module.
    variables
        What the linker sets, by package and name.
    """

    module: str
    version: str
    package: str = ""
    variables: tuple[tuple[str, str], ...] = ()


def _kubernetes(package: str) -> Source:
    # Without a version of its own the API server refuses clients that ask for it.
    values = {"gitVersion": f"v{KUBERNETES}", "gitMajor": "1", "gitMinor": KUBERNETES.split(".")[1]}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return Source(
        "k8s.io/kubernetes",
        f"v{KUBERNETES}",
        package,
        tuple((f"{p}.{name}", value) for p in packages for name, value in values.items()),
    )


KEDA_VERSION = "v2.21.0"
SOURCES = {
    "helm": Source("helm.sh/helm/v3", "v3.22.0", "cmd/helm"),
    "helm-unittest": Source(
        "github.com/helm-unittest/helm-unittest", "v1.1.2", "cmd/helm-unittest"
    ),
    "helm-docs": Source("github.com/norwoodj/helm-docs", "v1.14.2", "cmd/helm-docs"),
    "kubeconform": Source("github.com/yannh/kubeconform", "v0.8.0", "cmd/kubeconform"),
    "actionlint": Source("github.com/rhysd/actionlint", "v1.7.12", "cmd/actionlint"),
    "etcd": Source("go.etcd.io/etcd/server/v3", "v3.7.0"),
    "kube-apiserver": _kubernetes("cmd/kube-apiserver"),
    "kube-controller-manager": _kubernetes("cmd/kube-controller-manager"),
    "kube-scheduler": _kubernetes("cmd/kube-scheduler"),
    "kwok": Source("sigs.k8s.io/kwok", "v0.8.0", "cmd/kwok"),
    "keda-operator": Source("github.com/kedacore/keda/v2", KEDA_VERSION, "cmd/operator"),
    "keda-adapter": Source("github.com/kedacore/keda/v2", KEDA_VERSION, "cmd/adapter"),
}
CRDS = {
    "keda-crd": (
        Source("github.com/kedacore/keda/v2", KEDA_VERSION, "config/crd/bases"),
        "*keda.sh_*.yaml",
    ),
    "prometheus-operator-crd": (
        Source(
            "github.com/prometheus-operator/prometheus-operator",
            "v0.85.0",
            "example/prometheus-operator-crd",
        ),
        "monitoring.coreos.com_*.yaml",
    ),
}
"""Custom resources that the chart uses, and the files that define them."""


def cache_folder() -> Path:
    """Where ``make tools`` puts what it builds."""
    return Path(os.environ.get("XDG_CACHE_HOME", ROOT / ".cache")) / "stepstream-tools"


def find_tool(name: str) -> Path | None:
    """A program in TEST_TOOLS, in the cache of ``make tools`` or on the PATH."""
    folders = [cache_folder() / "bin"]
    given = os.environ.get("TEST_TOOLS")
    if given:
        folders = [Path(given), Path(given) / "bin", *folders]
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def find_crds(name: str) -> list[Path]:
    """Files that define custom resources, beside the programs of TEST_TOOLS or of the cache."""
    given = os.environ.get("TEST_TOOLS")
    for folder in [*([Path(given)] if given else []), cache_folder()]:
        found = sorted((folder / name).rglob(CRDS[name][1]))
        if found:
            return found
    return []


def _go(*command: str, folder: Path | None = None) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    return subprocess.run(
        ["go", *command], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _download(source: Source) -> dict[str, str]:
    """Where the Go client keeps a module, once it has it."""
    answer = _go("mod", "download", "-json", f"{source.module}@{source.version}")
    return dict(json.loads(answer))


def _replacements(source: Source) -> list[str]:
    """What its go.mod replaces, which a module that requires it has to repeat.

    Kubernetes replaces its own parts, required at v0.0.0, by folders that are not in the module;
    they are published under the same number.
    """
    found = []
    described = json.loads(_go("mod", "edit", "-json", _download(source)["GoMod"]))
    unpublished = {m["Path"] for m in described["Require"] if m["Version"] == "v0.0.0"}
    for entry in described["Replace"] or []:
        old, new = entry["Old"], entry["New"]
        if new["Path"].startswith("."):
            if old["Path"] not in unpublished:
                continue
            new = {"Path": old["Path"], "Version": "v0" + source.version.removeprefix("v1")}
        sides = ["@".join(filter(None, (m["Path"], m.get("Version")))) for m in (old, new)]
        found.append("=".join(sides))
    return found


def build(name: str, target: Path) -> None:
    """Build a program into a folder."""
    source = SOURCES[name]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _go("mod", "init", "tool", folder=folder)
        edits = [f"-replace={replacement}" for replacement in _replacements(source)]
        _go("mod", "edit", f"-require={source.module}@{source.version}", *edits, folder=folder)
        flags = " ".join(["-s -w", *(f"-X {k}={v}" for k, v in source.variables)])
        package = f"{source.module}/{source.package}".rstrip("/")
        made_file = folder / name
        _go("build", "-trimpath", "-ldflags", flags, "-o", str(made_file), package, folder=folder)
        shutil.move(made_file, target / name)


def build_missing(names: Iterable[str]) -> None:
    """Build what isn't in the cache, each once for each version."""
    target = cache_folder() / "bin"
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        version = SOURCES[name].version
        stamp = cache_folder() / f"{name}.version"
        if (target / name).exists() and stamp.exists() and stamp.read_text() == version:
            continue
        sys.stdout.write(f"{name} {version}\n")
        sys.stdout.flush()
        build(name, target)
        stamp.write_text(version)


def copy_crds() -> None:
    """Copy the definitions of custom resources into the cache."""
    for folder, (source, pattern) in CRDS.items():
        if (cache_folder() / folder).exists():
            continue
        files = sorted((Path(_download(source)["Dir"]) / source.package).glob(pattern))
        (cache_folder() / folder).mkdir()
        for file in files:
            shutil.copyfile(file, cache_folder() / folder / file.name)


def main() -> int:
    """Build tools, or run one."""
    parser = argparse.ArgumentParser(description="Build the programs that the chart's tests run.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(SOURCES)}; all, if not given"
    )
    parser.add_argument("--run", nargs=argparse.REMAINDER, help="run one instead, with arguments")
    options = parser.parse_args()
    unknown = set(options.names) - set(SOURCES)
    if unknown:
        parser.error(f"no such tool: {', '.join(sorted(unknown))}")
    if options.run:
        tool = find_tool(options.run[0])
        if tool is None:
            sys.stderr.write(f"{options.run[0]} isn't there: make tools ARGS={options.run[0]}\n")
            return 1
        return subprocess.run([tool, *options.run[1:]], check=False).returncode
    if shutil.which("go") is None:
        sys.stderr.write("the tools are built with Go, which isn't there\n")
        return 1
    build_missing(options.names or SOURCES)
    if not options.names:
        copy_crds()
    sys.stdout.write(f"all in {cache_folder()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
