"""Growth of memory after many inputs, without a fuzzer, in KiB: a line for each target.

``python -m tests.fuzzing.replay decode json``
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from tests.fuzzing.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
WARM, RUNS = 2_000, 3_500
MOST_CHANGES = 4
"""Bytes of a file of the corpus that are changed."""


def resident_kib() -> int:
    """Of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def main(target: str) -> None:
    inputs = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    chance = random.Random(1)  # noqa: S311 - repeatable
    begin_kib = 0
    for run in range(RUNS):
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(0, MOST_CHANGES) if data else 0):
            data[chance.randrange(len(data))] = chance.randrange(256)
        TARGETS[target](bytes(data))
        if run == WARM:
            begin_kib = resident_kib()
    sys.stdout.write(f"{target} {resident_kib() - begin_kib}\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        # Each in a process that none has used before.
        child = os.fork()
        if not child:
            main(name)
            sys.exit()
        if os.waitpid(child, 0)[1]:
            sys.exit(1)
