"""Write the packages of the image with the hashes of their files: ``make requirements``.

pip says which file it would take on each platform and Python; nothing is installed. The versions
are those of constraints.txt. Addresses are left out, so any index may serve the files.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("avro", "cbor", "otlp", "protobuf")
"""What the image has beyond the package's own dependencies."""
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC = ("2_5", "2_12", "2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")
OLDER = ("manylinux1", "manylinux2010", "manylinux2014")
HEAD = """\
# The image's packages, for --require-hashes; written by `make requirements` from pyproject.toml
# and constraints.txt: Linux on x86_64 and aarch64, Python 3.11 to 3.13.
"""


def files(python: str, machine: str, wanted: list[str]) -> list[tuple[str, str, str]]:
    """Name, version and SHA-256 of each file that pip takes."""
    platforms = [f"manylinux_{version}_{machine}" for version in GLIBC]
    platforms += [f"{older}_{machine}" for older in OLDER]
    with tempfile.TemporaryDirectory() as nowhere:
        report = Path(nowhere) / "report.json"
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
             "--only-binary=:all:", "--target", nowhere, "--report", str(report),
             "--constraint", str(ROOT / "constraints.txt"), "--python-version", python,
             *(f"--platform={platform}" for platform in platforms), *wanted],
            check=True,
        )  # fmt: skip
        found = json.loads(report.read_text())["install"]
    return [
        (
            one["metadata"]["name"],
            one["metadata"]["version"],
            one["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for one in found
    ]


def main() -> None:
    """Print them, sorted by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    runs = [(python, machine, wanted) for python in PYTHONS for machine in MACHINES]
    hashes = defaultdict(set)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda run: files(*run), runs):
            for name, version, digest in found:
                hashes[name.lower().replace("_", "-"), version].add(digest)
    lines = [HEAD]
    for (name, version), digests in sorted(hashes.items()):
        parts = [f"{name}=={version}", *(f"--hash=sha256:{one}" for one in sorted(digests))]
        lines.append(" \\\n    ".join(parts) + "\n")
    sys.stdout.write("".join(lines))


if __name__ == "__main__":
    main()
