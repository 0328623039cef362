"""Coverage-guided fuzzing: ``python -m tests.fuzzing decode json -runs=1000000``.

Targets follow each other until one fails. Bytes that break something are written to
``build/fuzzing``; given as the last argument, such a file is tried alone. Every other option is
libFuzzer's.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stepstream"]):
    from tests.fuzzing.targets import TARGETS

HERE = Path(__file__).parent
WARM = 2_000
"""Inputs after which memory is measured first."""
MOST_GROWTH_MIB = 64
KEPT_BYTES = 8192
"""Of each input that the fuzzer's own instrumentation may keep: 0.2 KB for decode, 4 for process,
nothing without it. `test_no_memory_stays_behind` looks at the product alone."""
LONGEST_S = 10
MOST_BYTES = 2048


def resident_mib() -> float:
    """Of this process, at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def most_growth_mib(runs: int) -> float:
    """What memory may grow by in so many inputs."""
    return MOST_GROWTH_MIB + runs * KEPT_BYTES / 2**20


def main(name: str, options: list[str]) -> None:
    """Fuzz until libFuzzer has enough; it ends the process by itself."""
    check = TARGETS[name]
    runs, warm_mib = 0, 0.0

    def one(data: bytes) -> None:
        nonlocal runs, warm_mib
        runs += 1
        if runs == WARM:
            warm_mib = resident_mib()
        elif runs % WARM == 0 and resident_mib() - warm_mib > most_growth_mib(runs):
            raise MemoryError(f"from {warm_mib:.0f} to {resident_mib():.0f} MiB in {runs} inputs")
        check(data)

    found = Path("build/fuzzing")
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        shutil.copytree(HERE / "corpus", corpus, dirs_exist_ok=True)
        fixed = [f"-artifact_prefix={found}/", f"-timeout={LONGEST_S}", f"-max_len={MOST_BYTES}"]
        fixed += [f"-dict={HERE / 'json.dict'}", "-print_final_stats=1"]
        # What memory may grow by is checked above, and goes with the number of inputs.
        fixed += ["-rss_limit_mb=0"]
        alone = any(not option.startswith("-") for option in options)
        atheris.Setup([name, *fixed, *options, *([] if alone else [corpus])], one)
        atheris.Fuzz()


def fuzz_all(arguments: list[str]) -> int:
    """Fuzz each target in a process of its own; all share the instrumentation, which takes seconds.

    Returns
    -------
    int
        The exit code of the last.
    """
    names = list(itertools.takewhile(TARGETS.__contains__, arguments))
    for name in names:
        child = os.fork()
        if not child:
            main(name, arguments[len(names) :])
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            return code
    return 0 if names else 2


if __name__ == "__main__":
    sys.exit(fuzz_all(sys.argv[1:]))
