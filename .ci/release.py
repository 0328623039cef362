"""Make everything that a release publishes: ``make release``. Nothing leaves the machine.

With RELEASE_TAG, the tag has to be that of the version, and the changelog has to have notes of it;
without, this is a dry run of the version that the code has.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "stepstream"
sys.path.insert(0, str(ROOT))


def check_versions(version: str, tag: str | None) -> str:
    """The notes of the version; ends with what doesn't fit."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    wrong = [
        f"{key} of Chart.yaml is {chart[key]}"
        for key in ("version", "appVersion")
        if chart[key] != version
    ]
    native = tomllib.loads((ROOT / "native" / "Cargo.toml").read_text())["package"]["version"]
    if native != version:
        wrong.append(f"version of native/Cargo.toml is {native}")
    text = (ROOT / "CHANGELOG.md").read_text()
    notes = re.search(
        rf"^## \[?{re.escape(version)}\b.*?$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if tag is not None:
        if tag != f"v{version}":
            wrong.append(f"the tag is {tag}")
        if notes is None:
            wrong.append("CHANGELOG.md has no notes of it")
    if wrong:
        sys.exit(f"version {version}: {'; '.join(wrong)}")
    return notes.group(1).strip() if notes else f"Dry run of {version}."


def build_packages(folder: Path) -> None:
    """The sdist, and the wheel from the sdist, as pip would build it."""
    log = ROOT / "build" / "release.log"
    with log.open("w") as written:
        for command in (
            ["--sdist", str(ROOT)],
            ["--wheel", str(folder / "unpacked")],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder),
                 *command],
                check=False, stdout=written, stderr=subprocess.STDOUT,
            )  # fmt: skip
            if done.returncode:
                sys.exit(log.read_text())
            if command[0] == "--sdist":
                (made,) = folder.glob("*.tar.gz")
                with tarfile.open(made) as archive:
                    archive.extractall(folder, filter="data")
                (folder / made.name.removesuffix(".tar.gz")).rename(folder / "unpacked")
    shutil.rmtree(folder / "unpacked")


def check_packages(folder: Path) -> None:
    """What people would miss is in the wheel, and the sdist made the same as the checkout."""
    (wheel,) = folder.glob("stepstream-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "stepstream").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"stepstream/models/{path.name}" for path in (ROOT / "models").iterdir()}
    missing = sorted(expected - inside)
    if missing:
        sys.exit(f"{wheel.name} from the sdist lacks {', '.join(missing)}")


def add_native(folder: Path, version: str, tag: str | None) -> None:
    """The wheels of the compiled decoder, and its source; a release has them for two machines."""
    made = sorted((ROOT / "build" / "native").glob(f"stepstream_native-{version}*"))
    for machine in ("x86_64", "aarch64"):
        if not any(path.name.endswith(f"_{machine}.whl") for path in made):
            if tag is not None:
                sys.exit(f"there is no wheel of the compiled decoder for {machine}")
            sys.stderr.write(f"without a wheel of the compiled decoder for {machine}\n")
    for path in made:
        shutil.copy(path, folder)


def package_chart(folder: Path) -> None:
    from tests.helm.tools import find_tool  # noqa: PLC0415

    helm = find_tool("helm")
    if helm is None:
        sys.exit("helm isn't there: make tools ARGS=helm")
    subprocess.run(
        [helm, "package", CHART, "--destination", folder], check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    """Write all artefacts and their checksums into a folder, and list them."""
    from stepstream import __version__ as version  # noqa: PLC0415

    folder = Path(sys.argv[1]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tag = os.environ.get("RELEASE_TAG") or None
    notes = check_versions(version, tag)
    build_packages(folder)
    check_packages(folder)
    package_chart(folder)
    add_native(folder, version, tag)
    shutil.copy(ROOT / "build" / "sbom.cdx.json", folder / f"stepstream-{version}.cdx.json")
    shutil.copy(ROOT / "deploy/image/requirements.txt", folder / "requirements.txt")
    (folder / "NOTES.md").write_text(f"{notes}\n")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(sums))
    for path in sorted(folder.iterdir()):
        sys.stdout.write(f"{path.stat().st_size:>10,}  {path.name}\n")


if __name__ == "__main__":
    main()
