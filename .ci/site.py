"""Copy what the documentation's pages are made of: ``make docs-site``.

Files keep their places, so links between them are the same on the pages as in the repository. The
first page is README.md.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "SECURITY.md",
    "docs",
    "examples/inputs",
    "helm/stepstream/README.md",
    "models/*.md",
)


def main() -> None:
    """Write them into a new folder."""
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    for pattern in COPIED:
        for source in ROOT.glob(pattern):
            copy = target / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    shutil.copy(ROOT / "README.md", target / "index.md")
    (target / "images").mkdir()
    shutil.copy(ROOT / "stepstream/web/static/icon.svg", target / "images")
    shutil.copy(sys.argv[2], target / "mermaid.min.js")


if __name__ == "__main__":
    main()
