"""How late events are when consumers die, freeze, come and go, and brokers and networks fail.

Several consumers of one group run on a real broker while devices walk. At fixed times something
happens to them, as a seed decides. The lateness of an event is the broker's time of the event minus
the broker's time of the message that completed it. All events must be those that `detect` finds:
none lost, repeated or changed.

``--variant classic --variant consumer-static`` compares ways to set up the consumers, ``--tree
../before --tree .`` compares checkouts. Each of the ``--rounds`` has a schedule of its own, and all
that is compared goes through it, one after the other.

``--faults upgrade --from ../before`` replaces the consumers of another checkout, one by one.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from benchmarks.faults import FAULTS, USUAL
from benchmarks.harness import ROOT, add_results, save
from benchmarks.lateness import compare, draw, summary
from benchmarks.report import IMAGES
from benchmarks.trial import Outcome, Plan, run_trial
from benchmarks.variants import VARIANTS, Variant, parse_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

QUICK = Plan(("crash", "leave-join"), every_s=8.0, consumers=2, partitions=4, devices=8)
QUICK_VARIANT = "classic-6s"
"""With the defaults, a crash alone takes longer than the whole short form may."""


@dataclass(frozen=True)
class Candidate:
    """What is compared: a variant, and the tree that its code comes from."""

    name: str
    variant: Variant
    tree: Path


def candidates(
    variants: Sequence[tuple[str, Variant]], trees: Sequence[Path], broker: dict[str, str]
) -> list[Candidate]:
    """All variants of all trees; trees are named only if there are several."""
    labels = {tree: tree.name for tree in trees}
    if len(set(labels.values())) < len(labels):
        labels = {tree: str(tree) for tree in trees}
    return [
        Candidate(
            f"{name}, {labels[tree]}" if len(labels) > 1 else name,
            replace(variant, broker={**variant.broker, **broker}),
            tree,
        )
        for name, variant in dict(variants).items()
        for tree in labels
    ]


def parse_tree(text: str) -> Path:
    """A checkout."""
    path = Path(text).resolve()
    if not (path / "stepstream" / "__main__.py").exists():
        raise ValueError(f"{path} holds no stepstream package")
    return path


def parse_property(text: str) -> tuple[str, str]:
    """A setting of the broker."""
    name, given, value = text.partition("=")
    if not given:
        raise ValueError(f"expected NAME=VALUE, not {text}")
    return name, value


def explained(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The same as a type of an option; without it, argparse keeps what is wrong to itself."""

    def parse_option(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.availability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan = Plan(USUAL)
    parser.add_argument(
        "--variant", type=explained(parse_variant), action="append", dest="variants",
        metavar="NAME[=JSON]",
        help=f"several may be given: {', '.join(VARIANTS)}, or a JSON object with some of "
        "protocol, static, properties, environment, broker (default: defaults)",
    )  # fmt: skip
    parser.add_argument(
        "--tree", type=explained(parse_tree), action="append", metavar="PATH", dest="trees",
        help="checkout that consumers are run from; several may be given (default: this one)",
    )  # fmt: skip
    parser.add_argument(
        "--from", type=explained(parse_tree), metavar="PATH", dest="before",
        help="checkout that consumers are run from until the fault upgrade (default: the same)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--rounds", type=int, default=1, help="seeds in a row")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=plan.kinds, metavar="KIND",
                        help=f"which: {', '.join(FAULTS)}; a kind may be named twice "
                        "(default: all but upgrade)")  # fmt: skip
    parser.add_argument("--every", type=float, default=plan.every_s, help="seconds between faults")
    parser.add_argument("--consumers", type=int, default=plan.consumers)
    parser.add_argument("--partitions", type=int, default=plan.partitions)
    parser.add_argument("--devices", type=int, default=plan.devices)
    parser.add_argument("--speed", type=float, default=plan.speed, help="times real time")
    parser.add_argument(
        "--broker", type=explained(parse_property), action="append", default=[],
        metavar="NAME=VALUE",
        help="setting of the broker, over its default; several may be given",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, default=IMAGES / "availability.png")
    parser.add_argument("--quick", action="store_true", help="a crash and a leave, under a minute")
    add_results(parser)
    options = parser.parse_args(arguments)
    if options.before and "upgrade" not in options.faults:
        parser.error("--from: nothing is upgraded, name it: --faults upgrade")
    return options


def run_quick(folder: Path, seed: int = 1) -> Outcome:
    """The short form: one crash, one leave, with a short session timeout."""
    return run_trial(QUICK, VARIANTS[QUICK_VARIANT], ROOT, seed, folder)


def main() -> int:
    options = parse_options()
    folder = Path(tempfile.mkdtemp(prefix="availability-"))
    print(f"logs: {folder}", flush=True)
    if options.quick:
        outcome = run_quick(folder / "quick", options.seed)
        show(QUICK_VARIANT, outcome)
        return 1 if outcome.wrong else 0
    plan = Plan(
        tuple(options.faults),
        options.every,
        options.consumers,
        options.partitions,
        options.devices,
        options.speed,
        options.before,
    )
    compared = candidates(
        options.variants or [parse_variant("defaults")],
        options.trees or [ROOT],
        dict(options.broker),
    )
    found: dict[str, list[Outcome]] = {candidate.name: [] for candidate in compared}
    for seed in range(options.seed, options.seed + options.rounds):
        for candidate in compared:
            place = folder / f"{seed}-{re.sub('[^A-Za-z0-9]+', '-', candidate.name)}"
            outcome = run_trial(plan, candidate.variant, candidate.tree, seed, place)
            found[candidate.name].append(outcome)
            show(f"{candidate.name}, seed {seed}, {place.name}", outcome)
    keep(found, plan, options)
    print(f"logs: {folder}")
    return 1 if any(outcome.wrong for outcomes in found.values() for outcome in outcomes) else 0


def keep(found: dict[str, list[Outcome]], plan: Plan, options: argparse.Namespace) -> None:
    """Print the table, write results, draw the picture: of those runs that were judged."""
    judged = {
        name: [(outcome.faults, outcome.seen) for outcome in outcomes if outcome.seen]
        for name, outcomes in found.items()
    }
    totals = {name: summary([seen for _, seen in runs]) for name, runs in judged.items() if runs}
    faults = {name: [f for faults, _ in judged[name] for f in faults] for name in totals}
    print(f"\n{compare({name: (faults[name], totals[name]) for name in totals})}\n")
    runs = {name: [outcome.to_save() for outcome in outcomes] for name, outcomes in found.items()}
    what = (
        f"{plan.devices} walkers, {plan.partitions} partitions, {plan.consumers} consumers, a "
        f"fault every {plan.every_s:g} s"
    )
    save("availability", {"input": what, "summary": totals, "runs": runs}, options.results)
    first = {
        f"{name}, seed {own[0]['seed']}": own[0] for name, own in runs.items() if own[0]["curve"]
    }
    if first:
        draw(first, options.plot)


def show(name: str, outcome: Outcome) -> None:
    """Print what became of a run."""
    print(f"\n{name}: {'WRONG' if outcome.wrong else 'nothing lost, repeated or changed'}")
    for fault in outcome.faults:
        behind = ", behind the others" if fault.is_behind else ""
        print(
            f"{fault.at_s:7.1f} s  {fault.kind:14} {fault.what:36} "
            f"longest {fault.longest_s:6.2f} s, median {fault.p50_s:5.2f} s, "
            f"{fault.late_devices} devices late{behind}"
        )
    if outcome.seen:
        figures = summary([outcome.seen])
        print(
            f"{figures['events']:,} events, {figures['late_share']:.1%} later than 1 s, "
            f"p99 {figures['p99_s']:.2f} s, max {figures['max_s']:.2f} s"
        )
    for line in [*outcome.exits, *outcome.wrong]:
        print(line)
    if outcome.wrong:
        print("\n".join(outcome.log))
    sys.stdout.flush()


def _end(*_: object) -> NoReturn:
    """End in good order: leave no process behind."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
